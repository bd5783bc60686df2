"""Somebody calls or is called: answered, missed, or cut short, and told of in any order, more than once, or in part."""

import json

from tests.support import signing_aircall
from tests.support.story.base import Author, Row, Webhook, at

RINGING = ("call.created", "call.ringing_on_agent")


def tell(author: Author) -> None:
    is_answered, is_over = author.random.random() < 0.6, author.random.random() < 0.8
    call, call_id = _call(author)
    events = _life(author, call, is_answered, is_over)
    # Some are never delivered, whichever; the rest comes in any order, and one of them twice.
    told = [event for event in events if author.random.random() < 0.8] or events
    author.random.shuffle(told)
    for kind, timestamp, data in [*told, author.random.choice(told)]:
        _event(author, call_id, kind, timestamp, data)
    _expect(author, call_id, told)


def _call(author: Author) -> tuple[Row, int]:
    """A call as it begins. Its number may be gone, its caller may be nobody."""
    call_id, digits = author.random.getrandbits(48), f"{author.random.randrange(10**8):08d}"
    pairs = " ".join(digits[i : i + 2] for i in range(0, 8, 2))
    call: Row = {
        "id": call_id,
        "direction": author.random.choice(["inbound", "outbound"]),
        "started_at": author.moment(),
        "answered_at": None,
        "ended_at": None,
        "duration": 0,
        "missed_call_reason": None,
        "hangup_cause": None,
        "recording": None,
        "raw_digits": f"+33 6 {pairs}",
    }
    if author.random.random() < 0.9:
        call["number"] = {"id": 397375, "name": "Support FR ☎", "digits": "+33 1 80 00 00 00"}
    elif call["direction"] == "inbound":
        call["raw_digits"] = "anonymous"
    return call, call_id


def _life(author: Author, call: Row, is_answered: bool, is_over: bool) -> list[tuple[str, int, Row]]:
    """(event, its time, the call as it is then), in the order in which it happened."""
    start = call["started_at"]
    events = [("call.created", start + author.random.randrange(3), call)]
    # Two agents are rung within one second: the two events share their id, though not their bytes.
    events += [("call.ringing_on_agent", start + 1, {**call, "user": {"id": agent}}) for agent in (731416, 731417)]
    if is_answered:
        call = {**call, "answered_at": start + 12}
        events.append(("call.answered", start + 12, call))
    if not is_over:
        return events
    end = start + 20 + author.random.randrange(600)
    call = {**call, "ended_at": end, "duration": end - start}
    if not is_answered:
        reason = author.random.choice(["agents_did_not_answer", "no_available_agent"])
        call["missed_call_reason"] = reason
    events.append(("call.hungup", end, call))
    recorded = {**call, "recording": f"https://assets.example.com/{call['id']}.mp3" if is_answered else None}
    events.append(("call.ended", end + 32, recorded))
    # Tagged twice: two events, and neither knows of the recording.
    events += [("call.tagged", end + seconds, {**call, "tags": [{"name": "Qualifié"}]}) for seconds in (5, 60)]
    return events


def _event(author: Author, call_id: int, kind: str, timestamp: int, data: Row) -> None:
    is_phase = kind in ("call.created", "call.answered", "call.hungup", "call.ended")
    event_id = f"{kind}:{call_id}" if is_phase else f"{kind}:{call_id}:{timestamp}"
    envelope: Row = {"resource": "call", "event": kind, "timestamp": timestamp, "token": signing_aircall.TOKEN}
    body = json.dumps({**envelope, "data": data}).encode()
    author.tells(Webhook("/webhooks/aircall", body, lambda *_: signing_aircall.aircall()), "aircall", event_id)


def _expect(author: Author, call_id: int, told: list[tuple[str, int, Row]]) -> None:
    """What can be known from what was told."""
    kinds = {kind for kind, _, _ in told}
    any_call = told[0][2]

    def first(field: str) -> int | None:
        return min((data[field] for _, _, data in told if data[field] is not None), default=None)

    started, answered, ended = first("started_at"), first("answered_at"), first("ended_at")
    theirs = any_call["raw_digits"].replace(" ", "")
    ours = "+33180000000" if "number" in any_call else None
    caller, callee = (theirs, ours) if any_call["direction"] == "inbound" else (ours, theirs)
    is_final = "call.ended" in kinds
    status: str | None
    if is_final:
        status = "missed" if answered is None else "completed"
    elif "call.answered" in kinds:
        status = "answered"
    else:
        status = "ringing" if kinds & set(RINGING) else None
    author.world.expect(
        "calls",
        ("aircall", str(call_id)),
        provider="aircall",
        direction=any_call["direction"],
        caller=caller,
        callee=callee,
        status=status,
        started_at=None if started is None else at(started),
        answered_at=None if answered is None else at(answered),
        ended_at=None if ended is None else at(ended),
        duration_seconds=ended - started if is_final and started and ended else None,
        talk_seconds=ended - answered if ended and answered else None,
        end_reason=next((data["missed_call_reason"] for kind, _, data in told if kind == "call.ended"), None),
        recording_url=next((data["recording"] for kind, _, data in told if kind == "call.ended"), None),
        summary=None,
        sentiment=None,
    )
