"""Operations on tasks: `(tx, data) -> (status, data)`.

A task whose promise is settled or past its deadline reads as fulfilled; whoever still
holds it is fenced off. The version rises only when a task is claimed.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from store import promise_ops, wire
from store import statements as sql
from store.records import (
    ACQUIRED,
    AWAITABLE,
    FULFILLED,
    HALTED,
    MAX_MS,
    PENDING,
    SUSPENDED,
    TARGET,
    TASK_STATES,
    PromiseRecord,
    PromiseRow,
    TaskRecord,
    is_open,
    promise_record,
)
from store.settlement import resend_at
from store.transaction import Transaction
from store.wire import Answer

__all__ = [
    "NO_PRELOAD",
    "FenceAnswer",
    "acquire",
    "create",
    "fence",
    "fulfill",
    "get",
    "halt",
    "heartbeat",
    "proceed",
    "release",
    "suspend",
]

NOT_FOUND: Final = (404, "task not found")
STALE: Final = (409, "task is not acquired at this version")


class _Task(NamedTuple):
    state: int
    version: int
    target: str
    pid: str | None
    ttl: int | None
    releases: int


class Empty(msgspec.Struct, gc=False):
    """The data of an answer that only confirms."""


class TaskAnswer(msgspec.Struct, gc=False):
    """The data of an answer about one task."""

    task: TaskRecord


class ClaimAnswer(msgspec.Struct, gc=False):
    """The data of an answer that hands a task to a worker."""

    task: TaskRecord
    promise: PromiseRecord
    preload: list[PromiseRecord]


class PreloadAnswer(msgspec.Struct, gc=False):
    """The data of a refused suspension: what the worker goes on with."""

    preload: list[PromiseRecord]


class FenceAnswer(msgspec.Struct, gc=False):
    """The data of a fence: the nested answer; the preload is always empty.

    The engines' full preload here makes a workflow of n steps cost n squared; any
    subset is allowed, and the worker has just been given all that the fence changed.
    """

    action: Any
    preload: list[PromiseRecord]


_EMPTY: Final = Empty()
NO_PRELOAD: Final[list[PromiseRecord]] = []


def _load(tx: Transaction, id_: str) -> _Task | None:
    """The task as it reads now: fulfilled once its promise is settled or expired."""
    found = tx.one(sql.TASK_GET, id_)
    if found is None:
        return None
    state, version, timeout_at, target, pid, ttl, releases = found
    if timeout_at <= tx.now_ms:
        return _Task(FULFILLED, version, target, None, None, releases)
    return _Task(state, version, target, pid, ttl, releases)


def _record(tx: Transaction, id_: str, task: _Task) -> TaskRecord:
    resumes = 0
    if task.state != FULFILLED:
        (resumes,) = tx.one(sql.RESUMES_COUNT, id_)
    return TaskRecord(
        id_,
        TASK_STATES[task.state],
        task.version,
        resumes,
        UNSET if task.ttl is None else task.ttl,
        UNSET if task.pid is None else task.pid,
    )


def get(tx: Transaction, data: wire.PromiseId) -> Answer:
    """task.get: the record, as it reads at this time."""
    task = _load(tx, data.id)
    if task is None:
        return NOT_FOUND
    return 200, TaskAnswer(_record(tx, data.id, task))


def create(tx: Transaction, data: wire.TaskCreate) -> Answer:
    """task.create: a new promise with its task claimed, or a claim of the pending one."""
    action = data.action.data
    bad = promise_ops.bad_target(action)
    if bad is not None:
        return bad
    tx.must_sync = True
    row = tx.promise(action.id)
    if row is None:
        return _create_claimed(tx, data)
    if not row.kind & TARGET:
        return 422, "the promise does not have a resonate:target tag"
    task = _load(tx, action.id)
    if task is None:
        return NOT_FOUND
    if task.state == PENDING:
        record = _claim(tx, action.id, task.version, data.pid, data.ttl)
    elif task.state == FULFILLED:
        record = _record(tx, action.id, task)
    else:
        return 409, f"task already exists and is {TASK_STATES[task.state]}"
    promise = promise_record(row, tx.now_ms)
    return 200, ClaimAnswer(record, promise, promise_ops.branch(tx, row))


def _create_claimed(tx: Transaction, data: wire.TaskCreate) -> Answer:
    action = data.action.data
    row = promise_ops.new_row(action, tx.now_ms)
    target = (action.tags or {})["resonate:target"]
    promise_ops.insert(tx, row, action.tags)
    if row.state != PENDING:
        tx.run(
            sql.TASK_INSERT, row.id, FULFILLED, 0, row.timeout_at, target, None, None, None, None
        )
        record = TaskRecord(row.id, "fulfilled", 0)
    else:
        due_at = _lease_end(tx.now_ms, data.ttl)
        tx.run(
            sql.TASK_INSERT,
            *(row.id, ACQUIRED, 1, row.timeout_at, target),
            *(data.pid, data.ttl, due_at, tx.member),
        )
        tx.due(due_at)
        tx.due(row.timeout_at)
        record = TaskRecord(row.id, "acquired", 1, 0, data.ttl, data.pid)
    promise = promise_record(row, tx.now_ms)
    return 200, ClaimAnswer(record, promise, promise_ops.branch(tx, row))


def _lease_end(now_ms: int, ttl: int) -> int:
    return min(now_ms + ttl, MAX_MS)


def _claim(tx: Transaction, id_: str, version: int, pid: str, ttl: int) -> TaskRecord:
    due_at = _lease_end(tx.now_ms, ttl)
    tx.must_sync = True
    tx.run(sql.TASK_CLAIM, version + 1, pid, ttl, due_at, tx.member, id_)
    tx.run(sql.RESUMES_CLEAR, id_)
    tx.due(due_at)
    return TaskRecord(id_, "acquired", version + 1, 0, ttl, pid)


def acquire(tx: Transaction, data: wire.TaskAcquire) -> Answer:
    """task.acquire: claims a pending task at the version its execute named."""
    task = _load(tx, data.id)
    if task is None:
        return NOT_FOUND
    if task.state != PENDING:
        return 409, f"task is {TASK_STATES[task.state]}, not pending"
    if task.version != data.version:
        return 409, f"task is at version {task.version}"
    row = tx.promise(data.id)
    if row is None:
        return NOT_FOUND
    record = _claim(tx, data.id, task.version, data.pid, data.ttl)
    promise = promise_record(row, tx.now_ms)
    return 200, ClaimAnswer(record, promise, promise_ops.branch(tx, row))


def _held(tx: Transaction, id_: str, version: int) -> Answer | None:
    """The refusal of a worker that does not hold the task at this version, or None."""
    return _refusal(tx, tx.execute(sql.TASK_FENCE, (id_,)).fetchone(), version)


def _refusal(tx: Transaction, found: tuple[Any, ...] | None, version: int) -> Answer | None:
    if found is None:
        return NOT_FOUND
    if found[0] != ACQUIRED or found[1] != version or found[2] <= tx.now_ms:
        return STALE
    return None


def release(tx: Transaction, data: wire.TaskVersion) -> Answer:
    """task.release: makes the task pending again, to be executed at once."""
    refusal = _held(tx, data.id, data.version)
    if refusal is not None:
        return refusal
    tx.must_sync = True
    due_at = resend_at(tx.now_ms)
    tx.run(sql.TASK_RELEASE, due_at, data.id)
    tx.due(due_at)
    task = _load(tx, data.id)
    if task is not None:
        tx.send_execute(task.target, data.id, task.version, releases=task.releases, avoid=tx.member)
    return 200, _EMPTY


def fulfill(tx: Transaction, data: wire.TaskFulfill) -> Answer:
    """task.fulfill: settles the task's own promise."""
    refusal = _held(tx, data.id, data.version)
    if refusal is not None:
        return refusal
    return promise_ops.settle_promise(tx, data.action.data)


def suspend(tx: Transaction, data: wire.TaskSuspend) -> Answer:
    """task.suspend: parks the task until an awaited promise settles.

    When one is settled already, nothing is registered, the task stays acquired and the
    answer is 300 with the branch's promises to go on with.
    """
    refusal = _held(tx, data.id, data.version)
    if refusal is not None:
        return refusal
    settled = False
    awaited_ids = [action.data.awaited for action in data.actions]
    for awaited_id in awaited_ids:
        awaited = tx.promise(awaited_id)
        if awaited is None:
            return 422, f"awaited promise {awaited_id!r} not found"
        if not awaited.kind & AWAITABLE:
            return 422, (
                f"awaited promise {awaited_id!r} is internal: "
                "it has no target, timer or external tag"
            )
        if not is_open(awaited.state, awaited.timeout_at, tx.now_ms):
            settled = True
    tx.must_sync = True
    tx.run(sql.RESUMES_CLEAR, data.id)
    if settled:
        row = tx.promise(data.id)
        return 300, PreloadAnswer([] if row is None else promise_ops.branch(tx, row))
    for awaited_id in awaited_ids:
        tx.run(sql.CALLBACK_ADD, awaited_id, data.id)
    tx.run(sql.TASK_PARK, SUSPENDED, data.id)
    return 200, _EMPTY


_CREATE: Final = msgspec.json.Decoder(wire.PromiseCreate)
_SETTLE: Final = msgspec.json.Decoder(wire.PromiseSettle)


def fence(tx: Transaction, data: wire.TaskFence) -> Answer:
    """task.fence: creates or settles another promise while the task is held."""
    kind = data.action.kind
    action: wire.PromiseCreate | wire.PromiseSettle | None = None
    invalid: str | None = None
    try:
        if kind == "promise.create":
            action = _CREATE.decode(data.action.data)
        elif kind == "promise.settle":
            action = _SETTLE.decode(data.action.data)
        else:
            invalid = f"a fence cannot carry {kind!r}"
    except (msgspec.MsgspecError, UnicodeError) as error:
        invalid = f"invalid action data: {error}"
    if (_named(data) if action is None else action.id) == data.id:
        return 400, "a fence cannot act on its own promise"
    if isinstance(action, wire.PromiseSettle):
        return _fence_settle(tx, data, action)
    refusal = _held(tx, data.id, data.version)
    if refusal is not None:
        return refusal
    if action is None:
        return 400, invalid
    invalid = wire.check_promise_create(action)
    if invalid is not None:
        return 400, invalid
    status, answer = promise_ops.create_fenced(tx, action)
    if status == 400:
        return status, answer
    return 200, FenceAnswer(wire.inner_answer(kind, tx.corr_id, status, answer), NO_PRELOAD)


def _fence_settle(tx: Transaction, data: wire.TaskFence, action: wire.PromiseSettle) -> Answer:
    """The fence of every finished step: task and promise are read together."""
    found = tx.execute(sql.TASK_FENCE_SETTLE, (action.id, data.id)).fetchone()
    refusal = _refusal(tx, found, data.version)
    if refusal is not None:
        return refusal
    if not action.id or "\0" in action.id:
        return 400, "promise id must not be empty nor contain null bytes"
    row = None if found[3] is None else PromiseRow(*found[3:])
    status, answer = promise_ops.settle_row(tx, row, action)
    inner = wire.inner_answer("promise.settle", tx.corr_id, status, answer)
    return 200, FenceAnswer(inner, NO_PRELOAD)


def _named(data: wire.TaskFence) -> str:
    """The id a fence acts on when the rest of its action is unreadable."""
    try:
        return msgspec.json.decode(data.action.data, type=wire.PromiseId).id
    except (msgspec.MsgspecError, UnicodeError):
        return ""


def heartbeat(tx: Transaction, data: wire.TaskHeartbeat) -> Answer:
    """task.heartbeat: extends the leases this worker holds; the rest is passed over."""
    for task in data.tasks:
        tx.run(sql.TASK_HEARTBEAT, tx.now_ms, task.id, task.version, data.pid)
    return 200, _EMPTY


def halt(tx: Transaction, data: wire.PromiseId) -> Answer:
    """task.halt: takes a task out of circulation until it is continued."""
    task = _load(tx, data.id)
    if task is None:
        return NOT_FOUND
    if task.state == FULFILLED:
        return 409, "task is fulfilled"
    if task.state != HALTED:
        tx.must_sync = True
        tx.run(sql.TASK_PARK, HALTED, data.id)
    return 200, _EMPTY


def proceed(tx: Transaction, data: wire.PromiseId) -> Answer:
    """task.continue: puts a halted task back, to be executed at once."""
    task = _load(tx, data.id)
    if task is None:
        return NOT_FOUND
    if task.state != HALTED:
        return 409, f"task is {TASK_STATES[task.state]}, not halted"
    tx.must_sync = True
    due_at = resend_at(tx.now_ms)
    tx.run(sql.TASK_REQUEUE, due_at, data.id)
    tx.due(due_at)
    tx.send_execute(task.target, data.id, task.version)
    return 200, _EMPTY
