"""What the fixtures of standardwebhooks become."""

from tests.unit.expectations.base import Expected

EXPECTED: Expected = {
    "standardwebhooks/invoice.paid.json": [],
    "standardwebhooks/contact.created.json": [],
}  # fmt: skip
