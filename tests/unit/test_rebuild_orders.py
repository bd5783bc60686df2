"""What a rebuild is asked over HTTP: one order at a time."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from replay.rebuild.order import RebuildOrder
from schemas.errors import InvalidSelection


def order(body: dict[str, Any]) -> RebuildOrder:
    return RebuildOrder.model_validate_json(orjson.dumps(body))


@pytest.mark.parametrize(
    "body",
    [
        {"reason": ""},
        {"reason": "a\0b"},
        {"reason": "x", "only": "payments"},
        {"reason": "x", "apply": "2"},
        {"reason": "x", "apply": 0},
        {"reason": "x", "apply": 2**31},
        {"reason": "x", "apply": True},
        {"reason": "x", "apply": 2, "rollback": True},
        {"reason": "x", "only": ["payments"], "apply": 2},
        {"reason": "x", "of": "everything"},
        {"as_of": "not a time"},
        {"as_of": 1_760_000_000},
        {"as_of": "0001-01-01T00:00:00+14:00"},
        {"as_of": "9999-12-31T23:59:59-14:00"},
        {"as_of": "1h ago", "name": "Then"},
        {"as_of": "1h ago", "name": "then_facts"},
        {"as_of": "1h ago", "apply": 2},
        {"as_of": "1h ago", "only": ["payments"]},
        {"name": "then"},
        {"accept_loss": True, "drop": 1},
        {"drop": True},
        {"drop": 0},
        {"drop": 2**31},
        {"drop": ""},
        {"drop": "a\0b"},
        {"drop": 1, "rollback": True},
    ],
)
def test_an_order_that_can_not_be_meant_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises((InvalidSelection, ValidationError)):
        order(body)


def test_an_order_is_what_was_sent() -> None:
    found = order({"reason": "a bug", "apply": 2, "accept_loss": True})
    assert (found.apply, found.accept_loss, found.rollback, found.only) == (2, True, False, ())
    back = order({"rollback": True, "accept_loss": True})
    assert (back.rollback, back.accept_loss) == (True, True)


def test_a_state_is_named_after_its_moment_by_default() -> None:
    moment = order({"as_of": "2026-11-21T03:00:00Z"}).snapshot()
    assert moment is not None
    assert (moment.name, moment.at_ms) == ("at_20261121t030000", 1_795_230_000_000)
    assert not moment.is_loss_accepted
    lossy = order({"as_of": "2026-11-21T03:00:00Z", "accept_loss": True}).snapshot()
    assert lossy is not None
    assert lossy.is_loss_accepted
