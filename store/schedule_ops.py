"""Operations on schedules, and the firing of their runs: `(tx, data) -> (status, data)`."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from store import cron, promise_ops, wire
from store import statements as sql
from store.records import MAX_MS, PromiseValue, ScheduleRecord, raw
from store.task_ops import Empty
from store.transaction import Transaction
from store.wire import Answer, PromiseCreate

__all__ = ["catch_up", "create", "delete", "get", "schedule_record"]

NOT_FOUND: Final = (404, "schedule not found")

_VALUE: Final = msgspec.json.Decoder(PromiseValue)
_TAGS: Final = msgspec.json.Decoder(dict[str, str])


class ScheduleAnswer(msgspec.Struct, gc=False):
    """The data of an answer about one schedule."""

    schedule: ScheduleRecord


def schedule_record(row: tuple[Any, ...]) -> ScheduleRecord:
    """The record of a schedule row, in the order of `SCHEDULE_COLUMNS`."""
    id_, cron_text, promise_id, timeout, param, tags, created_at, next_run_at, last_run_at = row
    return ScheduleRecord(
        id_,
        cron_text,
        promise_id,
        timeout,
        raw(param),
        raw(tags),
        created_at,
        next_run_at,
        UNSET if last_run_at is None else last_run_at,
    )


def get(tx: Transaction, data: wire.PromiseId) -> Answer:
    """schedule.get: the record."""
    row = tx.one(sql.SCHEDULE_GET, data.id)
    return NOT_FOUND if row is None else (200, ScheduleAnswer(schedule_record(row)))


def create(tx: Transaction, data: wire.ScheduleCreate) -> Answer:
    """schedule.create: the new schedule, or the existing one of this id."""
    try:
        next_run_at = cron.parse(data.cron).next_after(tx.now_ms)
    except cron.CronError as error:
        return 400, f"invalid cron expression: {error}"
    row = tx.one(sql.SCHEDULE_GET, data.id)
    if row is None:
        tx.must_sync = True
        tags = wire.encode(data.promise_tags or {})
        param = promise_ops.value_text(data.promise_param)
        row = (
            *(data.id, data.cron, data.promise_id, data.promise_timeout),
            *(param, tags, tx.now_ms, next_run_at),
        )
        tx.run(sql.SCHEDULE_INSERT, *row)
        tx.due(next_run_at)
        row = (*row, None)
    return 200, ScheduleAnswer(schedule_record(row))


def delete(tx: Transaction, data: wire.PromiseId) -> Answer:
    """schedule.delete: no run fires any more; promises it made stay."""
    tx.must_sync = True
    return (200, Empty()) if tx.run(sql.SCHEDULE_DELETE, data.id) else NOT_FOUND


def catch_up(tx: Transaction, row: tuple[Any, ...], most: int) -> int:
    """Fire the runs of a schedule that are due, all before those of another one.

    Args:
        tx: The transaction.
        row: The schedule.
        most: How many runs at most.

    Returns:
        How many runs were fired.
    """
    schedule = schedule_record(row)
    when = cron.parse(schedule.cron)
    run_at, fired = schedule.next_run_at, 0
    last_run_at = run_at
    while run_at <= tx.now_ms and fired < most:
        _fire(tx, schedule, run_at)
        fired += 1
        last_run_at = run_at
        try:
            run_at = when.next_after(run_at)
        except cron.CronError:
            run_at = MAX_MS  # the calendar ends before the schedule's next run
    tx.run(sql.SCHEDULE_RAN, last_run_at, run_at, schedule.id)
    tx.due(run_at)
    return fired


def _fire(tx: Transaction, schedule: ScheduleRecord, run_at: int) -> None:
    """Make the promise of one run."""
    promise_id = schedule.promise_id.replace("{{.id}}", schedule.id).replace(
        "{{.timestamp}}", str(run_at)
    )
    tags = _TAGS.decode(schedule.promise_tags)
    for tag in ("resonate:origin", "resonate:branch", "resonate:parent"):
        tags[tag] = promise_id
    tx.must_sync = True
    data = PromiseCreate(
        promise_id,
        min(run_at + schedule.promise_timeout, MAX_MS),
        _VALUE.decode(schedule.promise_param),
        tags,
    )
    promise_ops.put(tx, data, run_at)
