"""What the fixtures of aircall become."""

from decimal import Decimal

from tests.unit.expectations.base import Expected, at

PEOPLE = {
    "source": "aircall", "provider": "aircall", "direction": "inbound", "caller": "+33612345678",
    "callee": "+33180000000",
}  # fmt: skip
CALL = {**PEOPLE, "call_id": "780883160", "started_at": at(1750929240)}
OVER = {"answered_at": at(1750929255), "ended_at": at(1750929400)}
MISSED = {**PEOPLE, "call_id": "780883999", "started_at": at(1750929680), "answered_at": None}
NO_OUTCOME = {"status": None, "duration_seconds": None, "end_reason": None, "recording_url": None}

EXPECTED: Expected = {
    "aircall/call.created.inbound.json": [("calls", {
        **CALL, **NO_OUTCOME, "status": "ringing", "answered_at": None, "ended_at": None})],
    "aircall/call.created.outbound.json": [("calls", {
        **PEOPLE, **NO_OUTCOME, "call_id": "780836699", "direction": "outbound", "caller": "+33180000000",
        "callee": "+33612345678", "status": "ringing", "started_at": at(1750930000), "answered_at": None,
        "ended_at": None})],
    "aircall/call.ringing_on_agent.json": [("calls", {
        **CALL, **NO_OUTCOME, "status": "ringing", "answered_at": None, "ended_at": None})],
    "aircall/call.answered.json": [("calls", {
        **CALL, **NO_OUTCOME, "status": "answered", "answered_at": at(1750929255), "ended_at": None})],
    "aircall/call.hungup.json": [("calls", {**CALL, **OVER, **NO_OUTCOME})],
    "aircall/call.ended.json": [("calls", {
        **CALL, **OVER, "status": "completed", "duration_seconds": Decimal(160), "end_reason": None,
        "recording_url": "https://s3-eu-west-1.amazonaws.com/aircall-prod/rec.mp3?X-Amz-Expires=3600"})],
    "aircall/call.ended.missed.json": [("calls", {
        **MISSED, "status": "missed", "duration_seconds": Decimal(17), "end_reason": "agents_did_not_answer",
        "ended_at": at(1750929697), "recording_url": None})],
    "aircall/call.voicemail_left.json": [("calls", {**MISSED, **NO_OUTCOME, "ended_at": at(1750929720),
        "recording_url": "https://s3-eu-west-1.amazonaws.com/aircall-prod/vm.mp3"})],
    "aircall/call.tagged.json": [("calls", {**CALL, **OVER, **NO_OUTCOME})],
    "aircall/message.received.json": [],
}  # fmt: skip
