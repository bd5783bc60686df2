"""What the fixtures of retell become."""

from decimal import Decimal

from tests.unit.expectations.base import Expected, at

PEOPLE = {
    "source": "retell", "provider": "retell", "direction": "outbound", "caller": "+33644601234",
    "callee": "+33612345678",
}  # fmt: skip
CALL = {**PEOPLE, "call_id": "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6"}
STARTED = {"started_at": at(1750929240.945), "answered_at": at(1750929240.945)}
RECORDING = {
    "recording_url": "https://retellai.s3.us-west-2.amazonaws.com/Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6/recording.wav"
}
NO_ANALYSIS = {"summary": None, "sentiment": None}

EXPECTED: Expected = {
    "retell/call_started.json": [("calls", {
        **CALL, **STARTED, **NO_ANALYSIS, "status": "answered", "ended_at": None, "duration_seconds": None,
        "recording_url": None})],
    "retell/call_ended.json": [("calls", {
        **CALL, **STARTED, **RECORDING, **NO_ANALYSIS, "status": "completed", "ended_at": at(1750929369.736),
        "duration_seconds": Decimal("128.791"), "end_reason": "user_hangup"})],
    "retell/call_ended.dial_no_answer.json": [("calls", {
        **PEOPLE, **NO_ANALYSIS, "call_id": "7c9f0e1a2b3c4d5e6f708192a3b4c5d6", "status": "no-answer",
        "started_at": None, "answered_at": None, "ended_at": at(1750930000.123), "duration_seconds": Decimal(0),
        "end_reason": "dial_no_answer"})],
    "retell/call_analyzed.json": [("calls", {
        **CALL, **RECORDING, "summary": "La cliente confirme son rendez-vous.", "sentiment": "Positive",
        "status": None, "started_at": None, "answered_at": None, "ended_at": None, "duration_seconds": None,
        "end_reason": None})],
}  # fmt: skip
