"""What a rebuild is asked over HTTP: one order at a time."""

from typing import Any

import pytest

from replay.rebuild_api import RebuildOrder
from schemas.errors import InvalidSelection


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
    ],
)
def test_an_order_that_can_not_be_meant_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidSelection):
        RebuildOrder.of(body)


def test_an_order_is_what_was_sent() -> None:
    order = RebuildOrder.of({"reason": "a bug", "apply": 2, "accept_loss": True})
    assert (order.apply, order.accept_loss, order.rollback, order.only) == (2, True, False, [])
