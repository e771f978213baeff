"""The envelopes of the Resonate protocol: decoding requests, encoding answers.

A request is `{kind, head: {corrId, version}, data}`; its answer echoes kind and corrId
and carries `head.status`. An answer that refuses has a text as its data. Whatever
arrives is answered: malformed JSON and wrong types are refusals with status 400.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw
from resonate_base import PROTOCOL_VERSION

from store.lineage import ANCESTORS, ORIGIN_SEPARATOR, extends
from store.records import MAX_MS, PromiseValue, delay_ms

__all__ = [
    "Answer",
    "Head",
    "PromiseCreate",
    "PromiseSettle",
    "Request",
    "Settlement",
    "answer",
    "check_of",
    "decode_request",
]

#: How the names of the protocol's own tags begin.
PROTOCOL_TAGS: Final = "resonate:"

#: Most records a search answers with, and how many by default (schedules: 10).
SEARCH_MAX: Final = 1000
SEARCH_DEFAULT: Final = 100
SCHEDULE_SEARCH_DEFAULT: Final = 10

#: Status and data: a record structure, or the text of a refusal.
type Answer = tuple[int, Any]

type Settlement = Literal["resolved", "rejected", "rejected_canceled"]
type PromiseStateName = Literal[
    "pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout"
]
type TaskStateName = Literal["pending", "acquired", "suspended", "halted", "fulfilled"]


class Head(msgspec.Struct, gc=False):
    """The head of a request."""

    corr_id: str = msgspec.field(name="corrId")
    version: str = PROTOCOL_VERSION


class _Envelope(msgspec.Struct, gc=False):
    kind: str
    head: Head
    data: Raw


class Request(msgspec.Struct, gc=False):
    """An opened envelope; `error` is set when it could not be read as one."""

    kind: str
    corr_id: str
    data: Raw
    error: str | None


class PromiseId(msgspec.Struct, gc=False):
    """Data of the requests that name one promise, task or schedule."""

    id: str


class PromiseCreate(msgspec.Struct, rename="camel", gc=False):
    """Data of promise.create. A null param is read as an empty one."""

    id: str
    timeout_at: int
    param: PromiseValue | None = None
    tags: dict[str, str] | None = None


class PromiseSettle(msgspec.Struct, gc=False):
    """Data of promise.settle."""

    id: str
    state: Settlement
    value: PromiseValue | None = None


class RegisterCallback(msgspec.Struct, gc=False):
    """Data of promise.register_callback."""

    awaited: str
    awaiter: str


class RegisterListener(msgspec.Struct, gc=False):
    """Data of promise.register_listener."""

    awaited: str
    address: str


class PromiseSearch(msgspec.Struct, gc=False):
    """Data of promise.search."""

    state: PromiseStateName | None = None
    tags: dict[str, str] | None = None
    limit: int | None = None
    cursor: str | None = None


class CreateAction(msgspec.Struct, gc=False):
    """The envelope of a promise.create nested in task.create."""

    data: PromiseCreate


class TaskCreate(msgspec.Struct, gc=False):
    """Data of task.create; `ttl` in milliseconds."""

    pid: str
    ttl: int
    action: CreateAction


class TaskAcquire(msgspec.Struct, gc=False):
    """Data of task.acquire; `ttl` in milliseconds."""

    id: str
    version: int
    pid: str
    ttl: int


class TaskVersion(msgspec.Struct, gc=False):
    """Data of task.release, and one entry of task.heartbeat."""

    id: str
    version: int


class SettleAction(msgspec.Struct, gc=False):
    """The envelope of a promise.settle nested in task.fulfill."""

    data: PromiseSettle


class TaskFulfill(msgspec.Struct, gc=False):
    """Data of task.fulfill."""

    id: str
    version: int
    action: SettleAction


class CallbackData(msgspec.Struct, gc=False):
    """What a suspension waits for; the awaiter is the task itself."""

    awaited: str
    awaiter: str | None = None


class CallbackAction(msgspec.Struct, gc=False):
    """The envelope of a promise.register_callback nested in task.suspend."""

    data: CallbackData


class TaskSuspend(msgspec.Struct, gc=False):
    """Data of task.suspend."""

    id: str
    version: int
    actions: list[CallbackAction]


class FenceAction(msgspec.Struct, gc=False):
    """The envelope nested in task.fence: promise.create or promise.settle."""

    kind: str
    data: Raw


class TaskFence(msgspec.Struct, gc=False):
    """Data of task.fence."""

    id: str
    version: int
    action: FenceAction


class TaskHeartbeat(msgspec.Struct, gc=False):
    """Data of task.heartbeat."""

    pid: str
    tasks: list[TaskVersion]


class TaskSearch(msgspec.Struct, gc=False):
    """Data of task.search."""

    state: TaskStateName | None = None
    limit: int | None = None
    cursor: str | None = None


class ScheduleCreate(msgspec.Struct, rename="camel", gc=False):
    """Data of schedule.create; `promise_timeout` in milliseconds."""

    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: PromiseValue | None = None
    promise_tags: dict[str, str] | None = None


class ScheduleSearch(msgspec.Struct, gc=False):
    """Data of schedule.search."""

    tags: dict[str, str] | None = None
    limit: int | None = None
    cursor: str | None = None


class _AnswerHead(msgspec.Struct, rename="camel", gc=False):
    corr_id: str
    status: int
    version: str = PROTOCOL_VERSION


class _AnswerEnvelope(msgspec.Struct, gc=False):
    kind: str
    head: _AnswerHead
    data: Any


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ENCODER = msgspec.json.Encoder()
_NO_DATA = Raw(b"{}")


def decode_request(text: str) -> Request:
    """Open an envelope. Never raises: an unreadable one comes back with its error.

    Args:
        text: The request as JSON.

    Returns:
        The request, with as much of kind and corrId as could be read for the echo.
    """
    try:
        envelope = _ENVELOPE.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return _unreadable(text, error)
    if envelope.head.version != PROTOCOL_VERSION:
        error_text = (
            f"unsupported protocol version {envelope.head.version!r}, "
            f"supported is {PROTOCOL_VERSION!r}"
        )
        return Request(envelope.kind, envelope.head.corr_id, _NO_DATA, error_text)
    return Request(envelope.kind, envelope.head.corr_id, envelope.data, None)


def _unreadable(text: str, error: Exception) -> Request:
    kind = corr_id = ""
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        head = parsed.get("head")
        kind = parsed["kind"] if isinstance(parsed.get("kind"), str) else ""
        if isinstance(head, dict) and isinstance(head.get("corrId"), str):
            corr_id = head["corrId"]
    return Request(kind, corr_id, _NO_DATA, f"invalid request: {error}")


def encode(value: object) -> str:
    """JSON text of a structure, as it is stored and sent."""
    return _ENCODER.encode(value).decode()


def answer(kind: str, corr_id: str, status: int, data: object) -> str:
    """The answer's envelope as JSON."""
    return _ENCODER.encode(_AnswerEnvelope(kind, _AnswerHead(corr_id, status), data)).decode()


def inner_answer(kind: str, corr_id: str, status: int, data: object) -> object:
    """The answer to the request nested in a fence."""
    return _AnswerEnvelope(kind, _AnswerHead(corr_id, status), data)


def own_tags(tags: dict[str, str] | None) -> list[tuple[str, str]]:
    """The tags that are a user's own; the others are the protocol's.

    >>> own_tags({"resonate:scope": "local", "customer": "7"})
    [('customer', '7')]
    """
    return [tag for tag in (tags or {}).items() if not tag[0].startswith(PROTOCOL_TAGS)]


# -- what makes a request's data invalid, beyond its types ------------------------------


def check_of(data: type) -> Callable[[Any], str | None]:
    """The check of a kind of request data: what is wrong with it, or None."""
    return _CHECKS[data]


def _bad_id(id_: str) -> str | None:
    if not id_:
        return "id must not be empty"
    if "\0" in id_:
        return "id must not contain null bytes"
    return None


def _bad_version(version: int) -> str | None:
    return None if 0 <= version <= MAX_MS else "version must be a non-negative integer"


def _bad_lease(pid: str, ttl: int) -> str | None:
    if not pid:
        return "pid must not be empty"
    return None if 1 <= ttl <= MAX_MS else "ttl must be a positive number of milliseconds"


def check_promise_create(data: PromiseCreate) -> str | None:
    """What is wrong with the data of a promise.create, or None."""
    if not data.id or "\0" in data.id:
        return _bad_id(data.id)
    if not 0 <= data.timeout_at <= MAX_MS:
        return "timeoutAt must be a non-negative integer"
    tags = data.tags
    if not tags:
        return None
    origin = tags.get("resonate:origin")
    if origin is not None and ORIGIN_SEPARATOR in origin:
        return f"resonate:origin must not contain {ORIGIN_SEPARATOR!r}"
    checked = None
    for tag in ANCESTORS:
        ancestor = tags.get(tag)
        if ancestor is not None and ancestor != checked:
            if not extends(data.id, ancestor):
                return f"promise id must be prefixed by {tag}"
            checked = ancestor
    return _bad_delay(data, tags) if "resonate:delay" in tags else None


def _bad_delay(data: PromiseCreate, tags: dict[str, str]) -> str | None:
    delay = delay_ms(tags)
    if delay is None:
        return "resonate:delay must be a non-negative integer"
    if delay >= data.timeout_at:
        return "resonate:delay must be less than timeoutAt"
    if "resonate:target" not in tags:
        return "resonate:delay requires a resonate:target tag"
    return None


def _check_task_create(data: TaskCreate) -> str | None:
    found = _bad_lease(data.pid, data.ttl) or check_promise_create(data.action.data)
    if found is not None:
        return found
    tags = data.action.data.tags or {}
    if "resonate:target" not in tags:
        return "action must have a resonate:target tag"
    if "resonate:delay" in tags:
        return "action must not have a resonate:delay tag"
    return None


def _check_suspend(data: TaskSuspend) -> str | None:
    found = _bad_id(data.id) or _bad_version(data.version)
    if found is not None:
        return found
    if not data.actions:
        return "actions must not be empty"
    seen: set[str] = set()
    for action in data.actions:
        awaited, awaiter = action.data.awaited, action.data.awaiter
        if not awaited or "\0" in awaited:
            return "awaited promise id must not be empty nor contain null bytes"
        if awaited == data.id:
            return "a task cannot await its own promise"
        if awaiter is not None and awaiter != data.id:
            return "the awaiter of every action must be the task"
        if awaited in seen:
            return f"awaited promise {awaited!r} is given twice"
        seen.add(awaited)
    return None


def _check_fence(data: TaskFence) -> str | None:
    if data.id and 0 <= data.version <= MAX_MS and "\0" not in data.id:
        return None
    return _bad_id(data.id) or _bad_version(data.version)


def _check_fulfill(data: TaskFulfill) -> str | None:
    if data.action.data.id != data.id:
        return "the action's id must match the task's"
    return _bad_id(data.id) or _bad_version(data.version)


def _check_heartbeat(data: TaskHeartbeat) -> str | None:
    if not data.pid:
        return "pid must not be empty"
    if all(-MAX_MS - 1 <= task.version <= MAX_MS for task in data.tasks):
        return None
    return "version must be an integer of 64 bits"


def _check_schedule(data: ScheduleCreate) -> str | None:
    if not data.id or not data.cron or not data.promise_id:
        return "id, cron and promiseId must not be empty"
    if "\0" in data.id or "\0" in data.promise_id:
        return "id and promiseId must not contain null bytes"
    if ORIGIN_SEPARATOR in data.id:
        return f"schedule id must not contain {ORIGIN_SEPARATOR!r}"
    if not 0 <= data.promise_timeout <= MAX_MS:
        return "promiseTimeout must be a non-negative integer"
    if "resonate:target" not in (data.promise_tags or {}):
        return "promiseTags must include a resonate:target tag"
    return None


def _check_limit(data: PromiseSearch | TaskSearch | ScheduleSearch) -> str | None:
    if data.limit is not None and not 1 <= data.limit <= SEARCH_MAX:
        return f"limit must be between 1 and {SEARCH_MAX}"
    return None


def _check_callback(data: RegisterCallback) -> str | None:
    found = _bad_id(data.awaited) or _bad_id(data.awaiter)
    if found is not None:
        return f"awaited and awaiter: {found}"
    return "awaited and awaiter must be different" if data.awaited == data.awaiter else None


def _check_listener(data: RegisterListener) -> str | None:
    found = _bad_id(data.awaited)
    return None if found is None else f"awaited: {found}"


_CHECKS: dict[type, Callable[[Any], str | None]] = {
    PromiseId: lambda data: _bad_id(data.id),
    PromiseSettle: lambda data: _bad_id(data.id),
    PromiseCreate: check_promise_create,
    RegisterCallback: _check_callback,
    RegisterListener: _check_listener,
    PromiseSearch: _check_limit,
    TaskSearch: _check_limit,
    ScheduleSearch: _check_limit,
    TaskCreate: _check_task_create,
    TaskAcquire: lambda data: (
        _bad_id(data.id) or _bad_version(data.version) or _bad_lease(data.pid, data.ttl)
    ),
    TaskVersion: lambda data: _bad_id(data.id) or _bad_version(data.version),
    TaskFulfill: _check_fulfill,
    TaskSuspend: _check_suspend,
    TaskFence: _check_fence,
    TaskHeartbeat: _check_heartbeat,
    ScheduleCreate: _check_schedule,
}
