"""Design §6, written down by hand: a module per provider."""

from tests.unit.expectations import (
    aircall,
    google_calendar,
    hubspot,
    retell,
    sendgrid,
    standardwebhooks,
    stripe,
    telnyx,
    twilio,
    whatsapp,
)
from tests.unit.expectations.base import Expected

EXPECTED: Expected = {
    **stripe.EXPECTED,
    **whatsapp.EXPECTED,
    **twilio.EXPECTED,
    **aircall.EXPECTED,
    **hubspot.EXPECTED,
    **retell.EXPECTED,
    **telnyx.EXPECTED,
    **standardwebhooks.EXPECTED,
    **sendgrid.EXPECTED,
    **google_calendar.EXPECTED,
}
