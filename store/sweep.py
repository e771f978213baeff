"""What time brings: deadlines of promises, lapsed leases, unclaimed tasks, schedules.

Each step applies a bounded batch, so that a backlog (a laptop that slept for a week)
never holds the write lock for long; callers repeat until nothing is left.
"""

from __future__ import annotations

from typing import Final

from store import schedule_ops
from store import statements as sql
from store.records import ACQUIRED, PENDING, timeout_state
from store.settlement import resend_at, settle
from store.transaction import Transaction

__all__ = ["BATCH", "PASS", "hand_back", "members", "next_due", "release_member"]

#: Rows applied in one transaction: some 5 ms of work, a pause nobody notices.
BATCH: Final = 200


def _settle_expired(tx: Transaction) -> bool:
    ids = tx.all(sql.PROMISES_DUE, tx.now_ms, BATCH)
    for (id_,) in ids:
        row = tx.promise(id_)
        if row is not None and row.state == PENDING:
            settle(tx, row, timeout_state(row.kind), None, row.timeout_at)
    return len(ids) == BATCH


def _requeue_tasks(tx: Transaction) -> bool:
    rows = tx.all(sql.TASKS_DUE, tx.now_ms, BATCH)
    for id_, state, version, target, member in rows:
        _requeue(tx, id_, state, version, target, member)
    return len(rows) == BATCH


def _requeue(
    tx: Transaction, id_: str, state: int, version: int, target: str, member: int | None
) -> None:
    """Send a task's execute (again); a lapsed lease makes it pending at its version."""
    tx.must_sync = True
    due_at = resend_at(tx.now_ms)
    if state == ACQUIRED:
        tx.run(sql.TASK_REQUEUE, due_at, id_)
    else:
        tx.run(sql.TASK_DUE_AT, due_at, id_)
    tx.due(due_at)
    held = tx.one(sql.OUTBOX_HELD, id_)
    if held is None or held[0] <= tx.now_ms:
        tx.send_execute(target, id_, version, avoid=member)


def _fire_schedules(tx: Transaction) -> bool:
    fired = 0
    while fired < BATCH:
        row = tx.one(sql.SCHEDULES_DUE, tx.now_ms)
        if row is None:
            return False
        fired += schedule_ops.catch_up(tx, row, BATCH - fired)
    return True


def _settle_lapsed(tx: Transaction) -> bool:
    """Write the timeouts of internal promises: nobody waits for them, so nothing follows."""
    return tx.run(sql.PROMISES_LAPSED, tx.now_ms, BATCH) == BATCH


#: One pass over what is due, in the protocol's order: each step applies a batch and
#: tells whether there is more of it. What a pass itself makes due (a missed run whose
#: promise has expired, too) is left to the next one, so its execute is still sent.
PASS: Final = (_settle_expired, _requeue_tasks, _fire_schedules, _settle_lapsed)


def members(tx: Transaction) -> list[int]:
    """The ids of all members, living or not."""
    return [row[0] for row in tx.all(sql.MEMBERS)]


def next_due(tx: Transaction) -> int | None:
    """The earliest time in milliseconds at which a sweep has something to do."""
    times = [
        row[0]
        for row in (
            tx.one(sql.PROMISE_NEXT_DUE),
            tx.one(sql.PROMISE_NEXT_LAPSE),
            tx.one(sql.TASK_NEXT_DUE),
            tx.one(sql.SCHEDULE_NEXT_DUE),
        )
        if row is not None
    ]
    return min(times, default=None)


def release_member(tx: Transaction, member: int) -> bool:
    """Take over from a connection that is gone: what it held or was handed is sent again.

    Returns:
        Whether it held more than one batch, so that this must be called again.
    """
    rows = tx.all(sql.TASKS_OF_MEMBER, member, BATCH)
    for id_, state, version, target in rows:
        if state in {PENDING, ACQUIRED}:
            tx.must_sync = True
            due_at = resend_at(tx.now_ms)
            tx.run(sql.TASK_REQUEUE, due_at, id_)
            tx.due(due_at)
            tx.send_execute(target, id_, version, avoid=member)
    if len(rows) == BATCH:
        return True
    tx.run(sql.OUTBOX_OF_MEMBER, member)
    tx.run(sql.MEMBER_REMOVE, member)
    return False


def hand_back(tx: Transaction, member: int) -> bool:
    """Send again what a member was handed but has not claimed; it keeps what it claimed.

    Returns:
        Whether there is more, so that this must be called again.
    """
    rows = tx.all(sql.TASKS_HANDED, member, BATCH)
    for id_, version, target in rows:
        tx.must_sync = True
        due_at = resend_at(tx.now_ms)
        tx.run(sql.TASK_REQUEUE, due_at, id_)
        tx.due(due_at)
        tx.send_execute(target, id_, version, avoid=member)
    tx.run(sql.OUTBOX_OF_MEMBER, member)
    return len(rows) == BATCH
