"""One request in, one answer out; and the messages that wait for an address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import promises, schedules, tasks
from .records import Answer, Message, RefusedError, State

_OPERATIONS: Mapping[str, Callable[[State, int, Mapping[str, Any]], Answer]] = {
    "promise.get": promises.get,
    "promise.create": promises.create,
    "promise.settle": promises.settle_request,
    "promise.register_callback": promises.register_callback,
    "promise.register_listener": promises.register_listener,
    "promise.search": promises.search,
    "task.get": tasks.get,
    "task.create": tasks.create,
    "task.acquire": tasks.acquire,
    "task.release": tasks.release,
    "task.fulfill": tasks.fulfill,
    "task.suspend": tasks.suspend,
    "task.fence": tasks.fence,
    "task.heartbeat": tasks.heartbeat,
    "task.halt": tasks.halt,
    "task.continue": tasks.continue_,
    "task.search": tasks.search,
    "schedule.get": schedules.get,
    "schedule.create": schedules.create,
    "schedule.delete": schedules.delete,
    "schedule.search": schedules.search,
}

KINDS = tuple(_OPERATIONS)


def respond(state: State, now_ms: int, request: Mapping[str, Any]) -> Answer:
    """Answer ``{"kind": ..., "data": ...}``, changing ``state``; a refusal changes nothing else.

    Deadlines of the promises a request names are applied even when it is refused, as the server
    does.
    """
    operation = _OPERATIONS.get(request["kind"])
    data = request.get("data")
    if operation is None or not isinstance(data, dict):
        return Answer(400, "unknown kind or no data")
    try:
        return operation(state, now_ms, data)
    except RefusedError as refused:
        return refused.answer


def take_messages(state: State, addresses: set[str]) -> list[Message]:
    """Remove and return the messages to exactly these addresses."""
    keys = [key for key, message in state.outbox.items() if message.address in addresses]
    return [state.outbox.pop(key) for key in keys]
