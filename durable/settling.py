"""Settling durable promises: the first settlement wins, and says so."""

from __future__ import annotations

from typing import Any, Literal

from resonate.resonate import Resonate
from resonate.types import Value

from durable.guards import check_promise_id, engine_errors

__all__ = ["settle"]

type Outcome = Literal["resolved", "rejected", "rejected_canceled"]


async def settle(engine: Resonate, id: str, state: Outcome, data: Any) -> bool:
    """Settle a promise.

    Args:
        engine: The engine.
        id: The promise's id.
        state: What it becomes.
        data: Encoded value or failure.

    Returns:
        Whether this call settled it.

    Raises:
        InvalidArgumentError: The id cannot be.
        UnknownExecutionError: There is no such promise.
    """
    check_promise_id(id)
    ways = {
        "resolved": engine.promises.resolve,
        "rejected": engine.promises.reject,
        "rejected_canceled": engine.promises.cancel,
    }
    with engine_errors(id):
        before = await engine.promises.get(id)
        if before.state != "pending":
            return False
        after = await ways[state](id, Value(data=data))
    return after.state == state
