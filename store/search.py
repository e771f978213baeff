"""Searches: filtered pages of records in the order of their ids.

They may scan, so they never run on the connection that serves the event loop. States
are those a reader sees: a promise past its deadline is found as timed out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from store import lineage, wire
from store import statements as sql
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

__all__ = ["Parameters", "Query", "has_tags", "promises", "schedules", "tasks"]


#: By position, or by name.
type Parameters = Sequence[object] | Mapping[str, object]


class Query(NamedTuple):
    """A search as a statement, and what makes its answer from the rows.

    Attributes:
        statement: The SQL, with one row more than the page as its limit.
        parameters: Its parameters.
        answer: Makes the answer from the rows.
    """

    statement: str
    parameters: Parameters
    answer: Callable[[Sequence[Any]], Answer]


_TAGS: Final = msgspec.json.Decoder(dict[str, str])

#: Tags looked for as text before all are compared: SQLite nests at most 1,000 conditions.
_AS_TEXT: Final = 16

#: As PROMISES, for those with a tag of a user's own.
LABELLED: Final = (
    f"SELECT {PROMISE_COLUMNS} FROM labels CROSS JOIN promises ON id = promise_id "  # noqa: S608  # constants only
    "WHERE name = :name AND content = :content AND promise_id > :cursor"
)
PROMISES: Final = f"SELECT {PROMISE_COLUMNS} FROM promises WHERE id > :cursor"  # noqa: S608  # constants only

#: Steps past their deadline that are in no index of deadlines: they lie below a due task.
BELOW_DUE: Final = (
    "kind & 23 = 0 AND timeout_at <= :now AND id IN (SELECT s.id "
    "FROM promises t CROSS JOIN promises s "
    "WHERE t.state = 0 AND t.kind & 7 AND t.kind & 1 AND t.timeout_at <= :now "
    "AND s.state + 0 = 0 "
    "AND s.id > t.id || CASE instr(t.id, ':') WHEN 0 THEN ':' ELSE '.' END "
    "AND s.id < t.id || CASE instr(t.id, ':') WHEN 0 THEN ';' ELSE '/' END)"
)

#: The promises that read as being in a state at a time, in parts. Those by `state + 0`
#: come in the order of ids from the index of states; the others are promises past their
#: deadline that no timer has settled yet, few of which there are, by an index of deadlines.
#: A lapsed step that is in none is below a task that is due.
STATES: Final[dict[str, tuple[str, ...]]] = {
    "pending": ("state + 0 = 0 AND timeout_at > :now",),
    "resolved": ("state + 0 = 1", "state = 0 AND kind & 7 AND kind & 2 AND timeout_at <= :now"),
    "rejected": ("state + 0 = 2",),
    "rejected_canceled": ("state + 0 = 3",),
    "rejected_timedout": (
        "state + 0 = 4",
        "state = 0 AND kind & 7 AND NOT kind & 2 AND timeout_at <= :now",
        "state = 0 AND kind & 16 AND timeout_at <= :now",
        BELOW_DUE,
    ),
}

#: What a state means in the table as one condition, with the time as a parameter.
STATE_IS: Final = {
    "pending": "state = 0 AND timeout_at > ?",
    "resolved": "(state = 1 OR (state = 0 AND kind & 2 AND timeout_at <= ?))",
    "rejected": "state = 2 AND ? IS NOT NULL",
    "rejected_canceled": "state = 3 AND ? IS NOT NULL",
    "rejected_timedout": "(state = 4 OR (state = 0 AND NOT kind & 2 AND timeout_at <= ?))",
}
TASKS: Final = (
    "SELECT id, CASE WHEN timeout_at > :now THEN state ELSE 4 END, version, pid, ttl, "
    "(SELECT count(*) FROM resumes r WHERE r.task_id = tasks.id) "
    "FROM tasks WHERE id > :cursor"
)
_TASK_OPEN: Final = "state = {} AND timeout_at > :now"
#: Tasks that read as fulfilled: those that are, and those whose promise is due.
_TASK_DUE: Final = (
    "state <> 4 AND id IN (SELECT id FROM promises "
    "WHERE state = 0 AND kind & 7 AND kind & 1 AND timeout_at <= :now)"
)
_TASK_FULFILLED: Final = ("state = 4", _TASK_DUE)
SCHEDULES: Final = f"SELECT {sql.SCHEDULE_COLUMNS} FROM schedules WHERE id > :cursor"  # noqa: S608  # constants only


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


def _tag_filter(column: str, tags: dict[str, str] | None) -> tuple[str, dict[str, object]]:
    """A condition that every tag is there: first by its text, then exactly.

    Args:
        column: Where the tags are.
        tags: The wanted ones.

    Returns:
        The condition, and its parameters by name.
    """
    if not tags:
        return "", {}
    clauses, parameters = "", dict[str, object]()
    for number, (key, value) in enumerate(itertools.islice(tags.items(), _AS_TEXT)):
        clauses += f" AND instr({column}, :tag{number}) > 0"
        parameters[f"tag{number}"] = f"{wire.encode(key)}:{wire.encode(value)}"
    return f"{clauses} AND has_tags({column}, :tags)", parameters | {"tags": wire.encode(tags)}


def _lineage_bounds(tags: dict[str, str] | None) -> tuple[str, str] | None:
    """What the ids of promises with these tags lie between: they extend their ancestors'."""
    ancestors = [tags[name] for name in lineage.ANCESTORS if name in tags] if tags else []
    if not ancestors:
        return None
    ancestor = max(ancestors, key=len)
    return ancestor, lineage.range_below(ancestor)[1]


def _part(page: str, part: str, clauses: str) -> str:
    """A part of a search; one of few rows is collected by its index before it is sorted."""
    if not part.startswith("state = "):
        return f"{page} AND {part}{clauses}"
    few = f"{page.replace(' id ', ' +id ')} AND {part}{clauses}"
    return f"SELECT * FROM ({few} ORDER BY timeout_at LIMIT -1)"  # noqa: S608  # parameters hold what is given


def promises(data: wire.PromiseSearch, now_ms: int) -> Query:
    """promise.search: promises of a state, with all the given tags."""
    limit = data.limit or wire.SEARCH_DEFAULT
    parameters = {"cursor": data.cursor or "", "now": now_ms, "limit": limit + 1}
    bounds = _lineage_bounds(data.tags)
    own = wire.own_tags(data.tags) if bounds is None else []
    page, by = (LABELLED, "promise_id") if own else (PROMISES, "id")
    if own:
        parameters["name"], parameters["content"] = own[0]
    if bounds is not None:
        first, parameters["end"] = bounds
        if (data.cursor or "") < first:
            page = page.replace("id > :cursor", "id >= :cursor")
            parameters["cursor"] = first
        page += " AND id < :end"
    clauses, tagged = _tag_filter("tags", data.tags)
    parts = STATES[data.state] if data.state is not None else ("true",)
    if own:
        reads_as = STATE_IS[data.state].replace("?", ":now") if data.state else "true"
        statement = f"{page} AND {reads_as}{clauses}"
    else:
        statement = " UNION ALL ".join(_part(page, part, clauses) for part in parts)

    def answer(rows: Sequence[Any]) -> Answer:
        found = [promise_record(PromiseRow(*row), now_ms) for row in rows[:limit]]
        return 200, PromisePage(found, found[-1].id if len(rows) > limit else None)

    return Query(f"{statement} ORDER BY {by} LIMIT :limit", parameters | tagged, answer)


def tasks(data: wire.TaskSearch, now_ms: int) -> Query:
    """task.search: tasks of a state."""
    limit = data.limit or wire.SEARCH_DEFAULT
    parts: tuple[str, ...] = ("true",)
    if data.state is not None:
        code = TASK_STATES.index(data.state)
        parts = _TASK_FULFILLED if code == FULFILLED else (_TASK_OPEN.format(code),)
    statement = " UNION ALL ".join(f"{TASKS} AND {part}" for part in parts)

    def answer(rows: Sequence[Any]) -> Answer:
        found = [_task_record(row) for row in rows[:limit]]
        return 200, TaskPage(found, found[-1].id if len(rows) > limit else None)

    parameters = {"now": now_ms, "cursor": data.cursor or "", "limit": limit + 1}
    return Query(f"{statement} ORDER BY id LIMIT :limit", parameters, answer)


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
    clauses, tagged = _tag_filter("promise_tags", data.tags)
    statement = f"{SCHEDULES}{clauses} ORDER BY id LIMIT :limit"
    limit = data.limit or wire.SCHEDULE_SEARCH_DEFAULT

    def answer(rows: Sequence[Any]) -> Answer:
        found = [schedule_record(row) for row in rows[:limit]]
        return 200, SchedulePage(found, found[-1].id if len(rows) > limit else None)

    parameters = {"cursor": data.cursor or "", "limit": limit + 1}
    return Query(statement, parameters | tagged, answer)
