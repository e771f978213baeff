"""Operations on promises: `(tx, data) -> (status, data)`."""

from __future__ import annotations

from typing import Final

import msgspec

from store import lineage, wire
from store import statements as sql
from store.addresses import is_address
from store.records import (
    AWAITABLE,
    FULFILLED,
    LAPSING,
    PENDING,
    PROMISE_STATES,
    TARGET,
    WATCHED,
    PromiseRecord,
    PromiseRow,
    PromiseValue,
    delay_ms,
    is_open,
    kind_of,
    promise_record,
    timeout_state,
)
from store.settlement import resend_at, settle
from store.transaction import Transaction
from store.wire import Answer, PromiseCreate, PromiseSettle

__all__ = ["create", "get", "put", "register_callback", "register_listener", "settle_promise"]

NOT_FOUND: Final = (404, "promise not found")

_SETTLED: Final = {name: code for code, name in enumerate(PROMISE_STATES)}


class PromiseAnswer(msgspec.Struct, gc=False):
    """The data of an answer about one promise."""

    promise: PromiseRecord


def value_text(value: PromiseValue | None) -> str | None:
    """A param or value as stored JSON; None when it holds nothing."""
    if value is None or (value.headers is None and value.data is None):
        return None
    return wire.encode(value)


def get(tx: Transaction, data: wire.PromiseId) -> Answer:
    """promise.get: the record, as it reads at this time."""
    row = tx.promise(data.id)
    if row is None:
        return NOT_FOUND
    return 200, PromiseAnswer(promise_record(row, tx.now_ms))


def create(tx: Transaction, data: PromiseCreate) -> Answer:
    """promise.create: the new record, or the existing one."""
    tx.must_sync = True
    return create_fenced(tx, data)


def create_fenced(tx: Transaction, data: PromiseCreate) -> Answer:
    """promise.create inside a fence: the same, but an internal one need not be synced."""
    bad = bad_target(data)
    if bad is not None:
        return bad
    row = put(tx, data, tx.now_ms) or tx.promise(data.id)
    if row is None:
        return NOT_FOUND
    return 200, PromiseAnswer(promise_record(row, tx.now_ms))


def bad_target(data: PromiseCreate) -> Answer | None:
    """The refusal of a target nobody could listen on, or None."""
    target = (data.tags or {}).get("resonate:target")
    if target is None or is_address(target):
        return None
    return 400, f"invalid resonate:target address {target!r}"


def new_row(data: PromiseCreate, created_ms: int) -> PromiseRow:
    """A promise as it is born: pending, or settled when its deadline has passed."""
    tags = data.tags or {}
    kind = kind_of(tags) or LAPSING
    expired = data.timeout_at <= created_ms
    return PromiseRow(
        id=data.id,
        state=timeout_state(kind) if expired else PENDING,
        kind=kind,
        timeout_at=data.timeout_at,
        created_at=data.timeout_at if expired else created_ms,
        settled_at=data.timeout_at if expired else None,
        branch_len=len(tags.get("resonate:branch", "")),
        tags=wire.encode(tags) if tags else "{}",
        param=value_text(data.param),
        value=None,
    )


def columns(row: PromiseRow) -> tuple[object, ...]:
    """A row as the parameters of its INSERT."""
    return msgspec.structs.astuple(row)


def insert(tx: Transaction, row: PromiseRow, tags: dict[str, str] | None) -> bool:
    """Insert a promise and what searches need of it; False when it exists."""
    if not tx.execute(sql.PROMISE_INSERT, columns(row)).rowcount:
        return False
    for name, content in wire.own_tags(tags):
        tx.run(sql.LABEL_ADD, name, content, row.id)
    return True


def put(tx: Transaction, data: PromiseCreate, created_ms: int) -> PromiseRow | None:
    """Insert a promise, with its task when it has a target; None when it exists."""
    row = new_row(data, created_ms)
    if not insert(tx, row, data.tags):
        return None
    if row.kind & AWAITABLE:
        tx.must_sync = True
    if row.state == PENDING:
        tx.due(row.timeout_at)
    if row.kind & TARGET:
        tags = data.tags or {}
        target = tags["resonate:target"]
        if row.state != PENDING:
            tx.run(
                sql.TASK_INSERT,
                row.id,
                FULFILLED,
                0,
                row.timeout_at,
                target,
                None,
                None,
                None,
                None,
            )
            return row
        delay = delay_ms(tags) or 0
        due_at = delay if delay > created_ms else resend_at(tx.now_ms)
        tx.run(
            sql.TASK_INSERT,
            *(row.id, PENDING, 0, row.timeout_at, target, None, None, due_at, None),
        )
        tx.due(due_at)
        if delay <= created_ms:
            tx.send_execute(target, row.id, 0)
    return row


def settlement(data: PromiseSettle) -> tuple[int, str | None]:
    """The state and the value a settlement gives a promise, as they are stored."""
    return _SETTLED[data.state], value_text(data.value)


def settle_promise(tx: Transaction, data: PromiseSettle) -> Answer:
    """promise.settle: settles an open promise, echoes one that is settled or expired."""
    return settle_row(tx, tx.promise(data.id), data)


def settle_row(tx: Transaction, row: PromiseRow | None, data: PromiseSettle) -> Answer:
    """promise.settle of a promise that has been read already."""
    if row is None:
        return NOT_FOUND
    if is_open(row.state, row.timeout_at, tx.now_ms):
        row = settle(tx, row, *settlement(data), tx.now_ms)
    return 200, PromiseAnswer(promise_record(row, tx.now_ms))


def register_callback(tx: Transaction, data: wire.RegisterCallback) -> Answer:
    """promise.register_callback: wakes the awaiter's task when the awaited one settles."""
    awaited = tx.promise(data.awaited)
    if awaited is None:
        return 404, "awaited promise not found"
    awaiter = tx.promise(data.awaiter)
    if awaiter is None:
        return 422, "awaiter promise not found"
    if not awaiter.kind & TARGET:
        return 422, "awaiter promise has no resonate:target tag"
    if not awaited.kind & AWAITABLE:
        return 422, "awaited promise is internal: it has no target, timer or external tag"
    if is_open(awaited.state, awaited.timeout_at, tx.now_ms) and is_open(
        awaiter.state, awaiter.timeout_at, tx.now_ms
    ):
        tx.must_sync = True
        tx.run(sql.CALLBACK_ADD, awaited.id, awaiter.id)
    return 200, PromiseAnswer(promise_record(awaited, tx.now_ms))


def register_listener(tx: Transaction, data: wire.RegisterListener) -> Answer:
    """promise.register_listener: unblocks an address when the promise settles."""
    if not is_address(data.address):
        return 400, f"invalid listener address {data.address!r}"
    row = tx.promise(data.awaited)
    if row is None:
        return 404, "awaited promise not found"
    if is_open(row.state, row.timeout_at, tx.now_ms):
        tx.must_sync = True
        tx.run(sql.LISTENER_ADD, row.id, data.address)
        if not row.kind & WATCHED:
            tx.run(sql.PROMISE_WATCHED, row.id)
    return 200, PromiseAnswer(promise_record(row, tx.now_ms))


def branch(tx: Transaction, row: PromiseRow) -> list[PromiseRecord]:
    """The preload of a task: the promises of its branch, except its own.

    A branch is a prefix of every id it tags, so its members lie in one range of ids.
    """
    length = row.branch_len
    if not length:
        return []
    root = row.id[:length]
    rows: list[PromiseRow] = []
    own = tx.promise(root) if root != row.id else None
    if own is not None and own.branch_len == length:
        rows.append(own)
    found_rows = tx.all(sql.BRANCH, *lineage.range_below(root), length, row.id)
    rows += [PromiseRow(*found) for found in found_rows]
    now_ms = tx.now_ms
    return [promise_record(found, now_ms) for found in rows]
