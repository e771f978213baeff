"""The two fences of every step, each in one statement.

A step of a workflow is a promise created and a promise settled under the workflow's task,
and hardly anything else happens to most files. Each is one SQL statement that also checks
that the task is held, so it needs no BEGIN and COMMIT around it and a third of the trips
into SQLite. Whatever is out of the ordinary (a promise that is there already, a task that
is not held, a target, a listener) changes no row and is left to the general operations.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw
from resonate_base import PROTOCOL_VERSION

from store import lineage, promise_ops, task_ops, wire
from store import statements as sql
from store.records import EMPTY, LAPSING, MAX_MS, PromiseRecord, PromiseValue, kind_of, raw
from store.transaction import Created

__all__ = ["Fence", "attempt", "read"]

#: Promises remembered at most; a workflow has as many pending as it runs steps at once.
REMEMBERED: Final = 4096

type Execute = Callable[..., sqlite3.Cursor]

#: How such a request begins as the usual encoders write it; others take the long way.
_STARTS: Final = ('{"kind":"task.fence"', '{"kind": "task.fence"')


class _PromiseCreate(msgspec.Struct, rename="camel", gc=False):
    """As `wire.PromiseCreate`; tags are the same for most steps of a workflow."""

    id: str
    timeout_at: int
    param: PromiseValue | None = None
    tags: Raw = EMPTY


class _Create(msgspec.Struct, tag_field="kind", tag="promise.create", gc=False):
    data: _PromiseCreate


class _Settle(msgspec.Struct, tag_field="kind", tag="promise.settle", gc=False):
    data: wire.PromiseSettle


class _Data(msgspec.Struct, gc=False):
    id: str
    version: int
    action: _Create | _Settle


class Fence(msgspec.Struct, tag_field="kind", tag="task.fence", gc=False):
    """A fence that one statement may answer.

    Attributes:
        head: The request's correlation id and protocol version.
        data: The task that must be held, its version, and the promise to create or settle.
    """

    head: wire.Head
    data: _Data

    @property
    def settles(self) -> bool:
        """Whether it settles a promise; what it changes would be missed then."""
        return type(self.data.action) is _Settle


class _Tags(NamedTuple):
    """Valid tags of a promise that is internal to its workflow.

    Attributes:
        text: The tags as they are stored.
        branch_len: Length of the branch they name.
        ancestors: What the promise's id must be, or begin with: pairs of both.
    """

    text: str
    branch_len: int
    ancestors: tuple[tuple[str, str], ...]


_decode: Final = msgspec.json.Decoder(Fence).decode
_decode_tags: Final = msgspec.json.Decoder(dict[str, str] | None).decode


def read(text: str) -> Fence | None:
    """A request as such a fence; None when it is anything else, or invalid."""
    if not text.startswith(_STARTS):
        return None
    try:
        fence = _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    data = fence.data
    id_, task_id = data.action.data.id, data.id
    if (
        fence.head.version != PROTOCOL_VERSION
        or not task_id
        or not 0 <= data.version <= MAX_MS
        or not id_
        or id_ == task_id
        or "\0" in task_id
        or "\0" in id_
    ):
        return None
    return fence


@lru_cache(maxsize=1024)
def _tags(text: bytes) -> _Tags | None:
    """Tags as they are sent; None when they are invalid or make more than a plain step."""
    try:
        tags = _decode_tags(text) or {}
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if kind_of(tags) or "resonate:delay" in tags or wire.own_tags(tags):
        return None
    if lineage.ORIGIN_SEPARATOR in tags.get("resonate:origin", ""):
        return None
    ancestors = {tags[name] for name in lineage.ANCESTORS if name in tags}
    return _Tags(
        wire.encode(tags),
        len(tags.get("resonate:branch", "")),
        tuple((ancestor, lineage.below(ancestor)) for ancestor in sorted(ancestors)),
    )


def attempt(execute: Execute, created: Created, now_ms: int, fence: Fence) -> str | None:
    """Apply a fence with one statement.

    Args:
        execute: Executes the statement, in a transaction or as one of its own.
        created: What is remembered of promises that fences created.
        now_ms: The time of the request.
        fence: What to apply.

    Returns:
        The answer as JSON; None when nothing was changed, and the general operation has
        to look why.
    """
    action = fence.data.action
    if isinstance(action, _Settle):
        kind = "promise.settle"
        record = _settle(execute, created, now_ms, fence.data, action.data)
    else:
        kind = "promise.create"
        record = _create(execute, created, now_ms, fence.data, action.data)
    if record is None:
        return None
    corr_id = fence.head.corr_id
    inner = wire.inner_answer(kind, corr_id, 200, promise_ops.PromiseAnswer(record))
    return wire.answer("task.fence", corr_id, 200, task_ops.FenceAnswer(inner, task_ops.NO_PRELOAD))


def _create(
    execute: Execute, created: Created, now_ms: int, fence: _Data, promise: _PromiseCreate
) -> PromiseRecord | None:
    id_, timeout_at = promise.id, promise.timeout_at
    tags = _tags(bytes(promise.tags))
    if tags is None or not now_ms < timeout_at <= MAX_MS:
        return None
    for ancestor, prefix in tags.ancestors:
        if id_ != ancestor and not id_.startswith(prefix):
            return None
    param = promise_ops.value_text(promise.param)
    kind = 0 if id_.startswith(lineage.below(fence.id)) else LAPSING
    inserted = execute(
        sql.FENCED_INSERT,
        (
            *(id_, kind, timeout_at, timeout_at, now_ms, tags.branch_len, tags.text, param),
            *(fence.id, fence.version, now_ms),
        ),
    )
    if inserted.rowcount != 1:
        return None
    if len(created) >= REMEMBERED:
        del created[next(iter(created))]
    created[id_] = timeout_at, now_ms, tags.text, param
    return PromiseRecord(id_, "pending", raw(param), EMPTY, Raw(tags.text), timeout_at, now_ms)


def _settle(
    execute: Execute, created: Created, now_ms: int, fence: _Data, promise: wire.PromiseSettle
) -> PromiseRecord | None:
    """Settle a promise.

    One created through this connection is remembered, so that it need not be read again:
    the statement compares what is remembered with what is stored, so nothing is settled
    by a memory that has been overtaken.
    """
    state, value = promise_ops.settlement(promise)
    id_ = promise.id
    known = created.pop(id_, None)
    if known is None:
        # All of it is fetched, as the statement commits with its last row.
        found = execute(
            sql.FENCED_SETTLE,
            (state, value, now_ms, id_, now_ms, fence.id, fence.version, now_ms),
        ).fetchall()
        if not found:
            return None
        known = found[0]
    else:
        settled = execute(
            sql.FENCED_SETTLE_KNOWN,
            (state, value, now_ms, id_, now_ms, *known, fence.id, fence.version, now_ms),
        )
        if settled.rowcount != 1:
            return None
    timeout_at, created_at, tags, param = known
    return PromiseRecord(
        id_, promise.state, raw(param), raw(value), Raw(tags), timeout_at, created_at, now_ms
    )
