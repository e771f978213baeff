"""Searches: filtered pages of records in the order of their ids.

They may scan, so they never run on the connection that serves the event loop. States
are those a reader sees: a promise past its deadline is found as timed out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from store import statements as sql
from store import wire
from store.records import (
    FULFILLED,
    PROMISE_COLUMNS,
    TASK_STATES,
    PromiseRecord,
    PromiseRow,
    ScheduleRecord,
    TaskRecord,
    promise_record,
)
from store.schedule_ops import schedule_record
from store.wire import Answer

__all__ = ["Query", "has_tags", "promises", "schedules", "tasks"]


class Query(NamedTuple):
    """A search as a statement, and what makes its answer from the rows.

    Attributes:
        statement: The SQL, with one row more than the page as its limit.
        parameters: Its parameters.
        answer: Makes the answer from the rows.
    """

    statement: str
    parameters: tuple[object, ...]
    answer: Callable[[Sequence[Any]], Answer]


_TAGS: Final = msgspec.json.Decoder(dict[str, str])

#: Tags looked for as text before all are compared: SQLite nests at most 1,000 conditions.
_AS_TEXT: Final = 16

PROMISES: Final = f"SELECT {PROMISE_COLUMNS} FROM promises WHERE id > ?"  # noqa: S608  # constants only

#: What a state means in the table, with the time as `:now` twice or once.
STATE_IS: Final = {
    "pending": "state = 0 AND timeout_at > ?",
    "resolved": "(state = 1 OR (state = 0 AND kind & 2 AND timeout_at <= ?))",
    "rejected": "state = 2 AND ? IS NOT NULL",
    "rejected_canceled": "state = 3 AND ? IS NOT NULL",
    "rejected_timedout": "(state = 4 OR (state = 0 AND NOT kind & 2 AND timeout_at <= ?))",
}
TASKS: Final = (
    "SELECT id, CASE WHEN timeout_at > ? THEN state ELSE 4 END, version, pid, ttl, "
    "(SELECT count(*) FROM resumes r WHERE r.task_id = tasks.id) "
    "FROM tasks WHERE id > ?"
)
_TASK_OPEN: Final = " AND state = {} AND timeout_at > ?"
_TASK_FULFILLED: Final = " AND (state = 4 OR timeout_at <= ?)"
SCHEDULES: Final = f"SELECT {sql.SCHEDULE_COLUMNS} FROM schedules WHERE id > ?"  # noqa: S608  # constants only


class PromisePage(msgspec.Struct, omit_defaults=True, gc=False):
    """A page of promise.search; the cursor is there when more remain."""

    promises: list[PromiseRecord]
    cursor: str | None = None


class TaskPage(msgspec.Struct, omit_defaults=True, gc=False):
    """A page of task.search; the cursor is there when more remain."""

    tasks: list[TaskRecord]
    cursor: str | None = None


class SchedulePage(msgspec.Struct, omit_defaults=True, gc=False):
    """A page of schedule.search; the cursor is there when more remain."""

    schedules: list[ScheduleRecord]
    cursor: str | None = None


def has_tags(stored: str, wanted: str) -> bool:
    """Whether stored tags (JSON) contain all the wanted ones (JSON); a function in SQL."""
    return _TAGS.decode(wanted).items() <= _TAGS.decode(stored).items()


def _tag_filter(column: str, tags: dict[str, str] | None) -> tuple[str, list[object]]:
    """A condition that every tag is there: first by its text, then exactly."""
    if not tags:
        return "", []
    clauses, parameters = "", list[object]()
    for key, value in itertools.islice(tags.items(), _AS_TEXT):
        clauses += f" AND instr({column}, ?) > 0"
        parameters.append(f"{wire.encode(key)}:{wire.encode(value)}")
    return f"{clauses} AND has_tags({column}, ?)", [*parameters, wire.encode(tags)]


def promises(data: wire.PromiseSearch, now_ms: int) -> Query:
    """promise.search: promises of a state, with all the given tags."""
    statement, parameters = PROMISES, list[object]([data.cursor or ""])
    if data.state is not None:
        statement += f" AND {STATE_IS[data.state]}"
        parameters.append(now_ms)
    clauses, more = _tag_filter("tags", data.tags)
    limit = data.limit or wire.SEARCH_DEFAULT

    def answer(rows: Sequence[Any]) -> Answer:
        found = [promise_record(PromiseRow(*row), now_ms) for row in rows[:limit]]
        return 200, PromisePage(found, found[-1].id if len(rows) > limit else None)

    statement += f"{clauses} ORDER BY id LIMIT ?"
    return Query(statement, (*parameters, *more, limit + 1), answer)


def tasks(data: wire.TaskSearch, now_ms: int) -> Query:
    """task.search: tasks of a state."""
    statement, parameters = TASKS, [now_ms, data.cursor or ""]
    if data.state is not None:
        code = TASK_STATES.index(data.state)
        statement += _TASK_FULFILLED if code == FULFILLED else _TASK_OPEN.format(code)
        parameters.append(now_ms)
    limit = data.limit or wire.SEARCH_DEFAULT

    def answer(rows: Sequence[Any]) -> Answer:
        found = [_task_record(row) for row in rows[:limit]]
        return 200, TaskPage(found, found[-1].id if len(rows) > limit else None)

    return Query(statement + " ORDER BY id LIMIT ?", (*parameters, limit + 1), answer)


def _task_record(row: tuple[Any, ...]) -> TaskRecord:
    id_, state, version, pid, ttl, resumes = row
    if state == FULFILLED:
        return TaskRecord(id_, TASK_STATES[state], version)
    return TaskRecord(
        id_,
        TASK_STATES[state],
        version,
        resumes,
        UNSET if ttl is None else ttl,
        UNSET if pid is None else pid,
    )


def schedules(data: wire.ScheduleSearch, now_ms: int) -> Query:  # noqa: ARG001  # one signature for every search
    """schedule.search: schedules whose promises get all the given tags."""
    clauses, more = _tag_filter("promise_tags", data.tags)
    statement = f"{SCHEDULES}{clauses} ORDER BY id LIMIT ?"
    limit = data.limit or wire.SCHEDULE_SEARCH_DEFAULT

    def answer(rows: Sequence[Any]) -> Answer:
        found = [schedule_record(row) for row in rows[:limit]]
        return 200, SchedulePage(found, found[-1].id if len(rows) > limit else None)

    return Query(statement, (data.cursor or "", *more, limit + 1), answer)
