"""Which operation answers which kind of request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from store import fences, promise_ops, schedule_ops, search, task_ops, wire
from store.fences import Fence
from store.transaction import Transaction
from store.wire import Answer, Request

__all__ = ["OPERATIONS", "SEARCHES", "Call", "apply", "fenced", "prepare", "reply"]


class Operation(NamedTuple):
    """How a kind of request is decoded and applied.

    Attributes:
        decoder: Decodes the request's data.
        check: What is wrong with the data beyond its types, or None.
        apply: `(tx, data) -> (status, data)`.
        writes: Whether it may change anything.
    """

    decoder: msgspec.json.Decoder[Any]
    check: Callable[[Any], str | None]
    apply: Callable[[Transaction, Any], Answer]
    writes: bool = True


class Search(NamedTuple):
    """How a kind of search is decoded and turned into a query: `(data, now_ms) -> query`."""

    decoder: msgspec.json.Decoder[Any]
    check: Callable[[Any], str | None]
    query: Callable[[Any, int], search.Query]


class Call(msgspec.Struct, gc=False):
    """A request ready to be applied, or already refused.

    Attributes:
        request: The opened envelope.
        data: Its decoded data.
        operation: What applies it; None when it is a search or refused.
        search: What answers it, when it is a search.
        refusal: The answer, when it is refused.
        fence: The request when one statement may answer it; `data` is not decoded then.
        text: That request as it came, for when it may not.
    """

    request: Request
    data: Any
    operation: Operation | None
    search: Search | None = None
    refusal: Answer | None = None
    fence: Fence | None = None
    text: str = ""


def _operation(
    data: Any, apply: Callable[[Transaction, Any], Answer], *, writes: bool = True
) -> Operation:
    return Operation(msgspec.json.Decoder(data), wire.check_of(data), apply, writes)


def _search(data: Any, query: Callable[[Any, int], search.Query]) -> Search:
    return Search(msgspec.json.Decoder(data), wire.check_of(data), query)


OPERATIONS: Final[dict[str, Operation]] = {
    "promise.get": _operation(wire.PromiseId, promise_ops.get, writes=False),
    "promise.create": _operation(wire.PromiseCreate, promise_ops.create),
    "promise.settle": _operation(wire.PromiseSettle, promise_ops.settle_promise),
    "promise.register_callback": _operation(wire.RegisterCallback, promise_ops.register_callback),
    "promise.register_listener": _operation(wire.RegisterListener, promise_ops.register_listener),
    "task.get": _operation(wire.PromiseId, task_ops.get, writes=False),
    "task.create": _operation(wire.TaskCreate, task_ops.create),
    "task.acquire": _operation(wire.TaskAcquire, task_ops.acquire),
    "task.release": _operation(wire.TaskVersion, task_ops.release),
    "task.fulfill": _operation(wire.TaskFulfill, task_ops.fulfill),
    "task.suspend": _operation(wire.TaskSuspend, task_ops.suspend),
    "task.fence": _operation(wire.TaskFence, task_ops.fence),
    "task.heartbeat": _operation(wire.TaskHeartbeat, task_ops.heartbeat),
    "task.halt": _operation(wire.PromiseId, task_ops.halt),
    "task.continue": _operation(wire.PromiseId, task_ops.proceed),
    "schedule.get": _operation(wire.PromiseId, schedule_ops.get, writes=False),
    "schedule.create": _operation(wire.ScheduleCreate, schedule_ops.create),
    "schedule.delete": _operation(wire.PromiseId, schedule_ops.delete),
}

SEARCHES: Final[dict[str, Search]] = {
    "promise.search": _search(wire.PromiseSearch, search.promises),
    "task.search": _search(wire.TaskSearch, search.tasks),
    "schedule.search": _search(wire.ScheduleSearch, search.schedules),
}


_UNREAD: Final = msgspec.Raw(b"{}")


def fenced(fence: Fence, text: str) -> Call:
    """A fence that has been read already as a call."""
    request = Request("task.fence", fence.head.corr_id, _UNREAD, None)
    return Call(request, None, OPERATIONS["task.fence"], fence=fence, text=text)


def prepare(text: str) -> Call:
    """Read a request as far as possible without the database. Never raises."""
    request = wire.decode_request(text)
    if request.error is not None:
        return Call(request, None, None, None, (400, request.error))
    operation = OPERATIONS.get(request.kind)
    found = operation or SEARCHES.get(request.kind)
    if found is None:
        return Call(request, None, None, None, (400, f"unknown operation: {request.kind}"))
    try:
        data = found.decoder.decode(request.data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Call(request, None, None, None, (400, f"invalid request: {error}"))
    invalid = found.check(data)
    if invalid is not None:
        return Call(request, data, None, None, (400, invalid))
    if operation is None:
        return Call(request, data, None, SEARCHES[request.kind])
    return Call(request, data, operation)


def apply(tx: Transaction, call: Call) -> str:
    """Apply a request that has an operation and return its answer as JSON."""
    if call.fence is not None:
        text = fences.attempt(tx.execute, tx.created, tx.now_ms, call.fence)
        if text is not None:
            tx.must_sync = tx.must_sync or call.fence.settles
            return text
        call = prepare(call.text)
    request = call.request
    tx.corr_id = request.corr_id
    if call.operation is None:
        raise AssertionError("only requests with an operation are put in a transaction")
    status, data = call.operation.apply(tx, call.data)
    return wire.answer(request.kind, request.corr_id, status, data)


def reply(call: Call, answer: Answer) -> str:
    """The answer to a request as JSON."""
    return wire.answer(call.request.kind, call.request.corr_id, *answer)
