"""Samples of Twilio."""

import secrets
import time
from collections.abc import Iterator
from urllib.parse import urlencode

from deploy.samples.base import FORM, Sample, token


def samples(_: str) -> Iterator[Sample]:
    """An SMS comes in, one goes out and arrives, and a call is made."""
    account, ours = f"AC{token(32)}", "+33644601234"
    customer = f"+3361234{secrets.randbelow(10_000):04d}"
    sms = {"AccountSid": account, "ApiVersion": "2010-04-01"}
    sid = f"SM{token(32)}"
    yield _form("/sms", MessageSid=sid, SmsStatus="received", From=customer, To=ours, Body="OK merci", **sms)
    sid = f"SM{token(32)}"
    for status in ("sent", "delivered"):
        yield _form("/sms", MessageSid=sid, MessageStatus=status, SmsStatus=status, From=ours, To=customer, **sms)
    sid = f"CA{token(32)}"
    now = time.time()
    for seconds, status in ((0, "initiated"), (2, "ringing"), (9, "in-progress"), (138, "completed")):
        fields = {
            "CallSid": sid,
            "CallStatus": status,
            "Direction": "outbound-api",
            "From": ours,
            "To": customer,
            "Timestamp": time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(now + seconds)),
        }
        if status == "completed":
            fields["CallDuration"] = "129"
        yield _form("/voice", **fields, **sms)


def _form(path: str, **fields: str) -> Sample:
    return Sample(urlencode(fields).encode(), FORM, path)
