"""The settle chain: what follows when a promise reaches a terminal state."""

from __future__ import annotations

from typing import Final

from store import statements as sql
from store.lineage import range_below
from store.records import (
    ACQUIRED,
    AWAITABLE,
    HALTED,
    MAX_MS,
    PENDING,
    SUSPENDED,
    TARGET,
    WATCHED,
    PromiseRow,
)
from store.transaction import Transaction

__all__ = ["RESEND_AFTER_MS", "resend_at", "settle"]

#: An execute nobody acted on is sent again after this long, as resonate-pg does.
RESEND_AFTER_MS: Final = 5_000

_NOTES_RESUME: Final = frozenset({PENDING, ACQUIRED, HALTED})


def resend_at(now_ms: int) -> int:
    """When to send an execute again that is sent now."""
    return min(now_ms + RESEND_AFTER_MS, MAX_MS)


def settle(
    tx: Transaction, row: PromiseRow, state: int, value: str | None, settled_at: int
) -> PromiseRow:
    """Settle a pending promise and let everyone who waits for it know.

    Its own task is fulfilled whatever its state and waits for nothing any more; its
    listeners are unblocked; tasks suspended on it are made pending at the same version.

    Args:
        tx: The transaction.
        row: The pending promise.
        state: Its terminal state.
        value: Its value as JSON, or None for an empty one.
        settled_at: Milliseconds since the epoch; the deadline for a timeout.

    Returns:
        The promise as it is now.
    """
    tx.must_sync = True
    tx.execute(sql.PROMISE_SETTLE, (state, value, settled_at, row.id))
    if row.kind & TARGET:
        tx.run(sql.TASK_FINISH, row.id)
        tx.run(sql.RESUMES_CLEAR, row.id)
        tx.run(sql.CALLBACKS_DROP_AWAITER, row.id)
        tx.drop_execute(row.id)
        tx.run(sql.STEPS_LEFT, *range_below(row.id))
    if row.kind & WATCHED:
        for (address,) in tx.all(sql.LISTENERS_OF, row.id):
            tx.send_unblock(address, row.id)
        tx.run(sql.LISTENERS_CLEAR, row.id)
    if row.kind & AWAITABLE:
        awaiters = tx.all(sql.CALLBACKS_OF, row.id)
        if awaiters:
            for (awaiter,) in awaiters:
                _wake(tx, awaiter, row.id)
            tx.run(sql.CALLBACKS_CLEAR, row.id)
    row.state, row.value, row.settled_at = state, value, settled_at
    return row


def _wake(tx: Transaction, awaiter: str, awaited: str) -> None:
    """Resume a suspended task; one that is running or halted only notes it."""
    found = tx.one(sql.TASK_GET, awaiter)
    if found is None:
        return
    state, version, timeout_at, target, _, _, _ = found
    if timeout_at <= tx.now_ms:
        return
    if state == SUSPENDED:
        due_at = resend_at(tx.now_ms)
        tx.run(sql.TASK_REQUEUE, due_at, awaiter)
        tx.run(sql.RESUMES_CLEAR, awaiter)
        tx.run(sql.RESUME_ADD, awaiter, awaited)
        tx.due(due_at)
        tx.send_execute(target, awaiter, version)
    elif state in _NOTES_RESUME:
        tx.run(sql.RESUME_ADD, awaiter, awaited)
