"""An agent of Retell's talks on the phone or on the web, or never gets through; and the call is analyzed."""

import json
from datetime import datetime, timedelta
from decimal import Decimal

from tests.support import signing_retell
from tests.support.story.base import Author, Row, Webhook, at

OUTCOMES = {"ended": "completed", "error": "failed", "not_connected": "no-answer"}


def _moment(milliseconds: int) -> datetime:
    return at(milliseconds // 1000) + timedelta(milliseconds=milliseconds % 1000)


def _event(author: Author, kind: str, call: Row) -> None:
    body = json.dumps({"event": kind, "call": call}, ensure_ascii=False).encode()
    webhook = Webhook("/webhooks/retell", body, lambda _, b, now: signing_retell.retell(b, now))
    author.tells(webhook, "retell", f"{kind}:{call['call_id']}")


def tell(author: Author) -> None:
    """A call that never connects is not started: it ends, and may be analyzed."""
    ending = author.random.choice(["ended", "ended", "error", "not_connected"])
    is_connected = ending != "not_connected"
    start = author.moment() * 1000 + author.random.randrange(1000)
    duration = author.random.randrange(1, 600_000) if is_connected else 0
    call: Row = {"call_id": author.name("call_"), "call_type": "phone_call", "agent_name": "Réception 🌊"}
    people: Row = {"direction": None, "from_number": None, "to_number": None}
    if author.random.random() < 0.7:
        direction = author.random.choice(["inbound", "outbound"])
        people = {"direction": direction, "from_number": "+33644601234", "to_number": "+33612345678"}
        call |= people
    else:
        call["call_type"] = "web_call"
    if is_connected:
        call["start_timestamp"] = start
    ended = {
        **call,
        "call_status": ending,
        "end_timestamp": start + duration,
        "duration_ms": duration,
        "disconnection_reason": "user_hangup" if is_connected else "dial_no_answer",
    }
    if is_connected:
        ended["recording_url"] = f"https://recordings.example.com/{call['call_id']}.wav"
    analyzed = {**ended, "call_analysis": {"call_summary": "Rendez-vous confirmé.", "user_sentiment": "Positive"}}
    if is_connected:
        # The same moment as the end, and a newer link: what was said later counts.
        analyzed["recording_url"] = ended["recording_url"] + "?expires=tomorrow"
    events = {"call_ended": ended, "call_analyzed": analyzed}
    if is_connected:
        events["call_started"] = {**call, "call_status": "ongoing"}
    kinds = sorted(events)
    told = [kind for kind in kinds if author.random.random() < 0.8] or kinds
    author.random.shuffle(told)
    for kind in [*told, author.random.choice(told)]:
        _event(author, kind, events[kind])
    _expect(author, people, {kind: events[kind] for kind in told})


def _expect(author: Author, people: Row, told: dict[str, Row]) -> None:
    """What can be known from what was told: an analysis alone says neither how nor when the call ended."""
    started, ended, analyzed = (told.get(kind) for kind in ("call_started", "call_ended", "call_analyzed"))
    call = next(iter(told.values()))
    start = call.get("start_timestamp")
    is_answer_known = started is not None or (ended is not None and ended["call_status"] == "ended")
    end = ended["end_timestamp"] if ended else None
    last = analyzed or ended or {}
    analysis = analyzed["call_analysis"] if analyzed else {}
    author.world.expect(
        "calls",
        ("retell", call["call_id"]),
        provider="retell",
        direction=people["direction"],
        caller=people["from_number"],
        callee=people["to_number"],
        status=OUTCOMES[ended["call_status"]] if ended else "answered" if started else None,
        started_at=_moment(start) if start is not None and (started or ended) else None,
        answered_at=_moment(start) if is_answer_known and start is not None else None,
        ended_at=None if end is None else _moment(end),
        duration_seconds=Decimal(ended["duration_ms"]) / 1000 if ended else None,
        talk_seconds=Decimal(end - start) / 1000 if is_answer_known and end is not None else None,
        end_reason=ended["disconnection_reason"] if ended else None,
        recording_url=last.get("recording_url"),
        summary=analysis.get("call_summary"),
        sentiment=analysis.get("user_sentiment"),
    )
