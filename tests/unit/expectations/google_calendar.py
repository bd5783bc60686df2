"""What the fixtures of google_calendar become: nothing. A notification says that something changed, not what."""

from tests.unit.expectations.base import Expected

EXPECTED: Expected = {
    "google_calendar/sync.http.json": [],
    "google_calendar/exists.http.json": [],
}  # fmt: skip
