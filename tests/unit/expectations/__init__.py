"""Design §6, written down by hand: a module per provider."""

from tests.unit.expectations import standardwebhooks, stripe, twilio, whatsapp
from tests.unit.expectations.base import Expected

EXPECTED: Expected = {
    **stripe.EXPECTED,
    **whatsapp.EXPECTED,
    **twilio.EXPECTED,
    **standardwebhooks.EXPECTED,
}
