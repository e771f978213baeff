"""States and records: rows of the tables, and the JSON records made from them.

A promise is read as pending only until its deadline: every record made here shows the
timeout from then on, whether or not a sweep has written it yet.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = [
    "ACQUIRED",
    "AWAITABLE",
    "EMPTY",
    "EXTERNAL",
    "FULFILLED",
    "HALTED",
    "LAPSING",
    "MAX_MS",
    "PENDING",
    "PROMISE_COLUMNS",
    "PROMISE_STATES",
    "REJECTED_TIMEDOUT",
    "RESOLVED",
    "SUSPENDED",
    "TARGET",
    "TASK_STATES",
    "TIMER",
    "WATCHED",
    "PromiseRecord",
    "PromiseRow",
    "PromiseValue",
    "ScheduleRecord",
    "TaskRecord",
    "delay_ms",
    "effective_state",
    "is_open",
    "kind_of",
    "promise_record",
    "raw",
]

PROMISE_STATES: Final = (
    "pending",
    "resolved",
    "rejected",
    "rejected_canceled",
    "rejected_timedout",
)
PENDING: Final = 0
RESOLVED: Final = 1
REJECTED_TIMEDOUT: Final = 4

TASK_STATES: Final = ("pending", "acquired", "suspended", "halted", "fulfilled")
ACQUIRED: Final = 1
SUSPENDED: Final = 2
HALTED: Final = 3
FULFILLED: Final = 4

#: Bits of `promises.kind`; a promise with none of them is internal to its workflow:
#: nobody may wait for it and no timer settles it.
TARGET: Final = 1
TIMER: Final = 2
EXTERNAL: Final = 4
AWAITABLE: Final = TARGET | TIMER | EXTERNAL
#: Set once somebody listens, so that settling a step need not look for listeners.
WATCHED: Final = 8
#: Set on an internal promise that is kept in the index of deadlines. Most steps are not: one
#: made under a task, with an id below the task's and no earlier deadline, is still open only
#: while the task is, so what has lapsed of them is found below the tasks that are due.
LAPSING: Final = 16

#: SQLite's largest integer; deadlines past it mean never.
MAX_MS: Final = (1 << 63) - 1

PROMISE_COLUMNS: Final = (
    "id, state, kind, timeout_at, created_at, settled_at, branch_len, tags, param, value"
)
#: A time as `resonate:delay` gives it; nothing longer can be one.
_DELAY: Final = re.compile(r"\+?[0-9]{1,100}\Z")

#: What a param or value that holds nothing reads as.
EMPTY: Final = Raw(b"{}")


class PromiseValue(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A param or value on the wire: optional headers and opaque encoded data."""

    headers: dict[str, str] | None = None
    data: str | None = None


class PromiseRow(msgspec.Struct, gc=False):
    """One row of `promises`, in the order of `PROMISE_COLUMNS`."""

    id: str
    state: int
    kind: int
    timeout_at: int
    created_at: int
    settled_at: int | None
    branch_len: int
    tags: str
    param: str | None
    value: str | None


class PromiseRecord(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A promise as clients see it; param, value and tags are JSON passed through."""

    id: str
    state: str
    param: Raw
    value: Raw
    tags: Raw
    timeout_at: int
    created_at: int
    settled_at: int | UnsetType = UNSET


class TaskRecord(msgspec.Struct, frozen=True, gc=False):
    """A task as clients see it; `resumes` counts the wake-ups noted since it was claimed."""

    id: str
    state: str
    version: int
    resumes: int = 0
    ttl: int | UnsetType = UNSET
    pid: str | UnsetType = UNSET


class ScheduleRecord(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A schedule as clients see it."""

    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: Raw
    promise_tags: Raw
    created_at: int
    next_run_at: int
    last_run_at: int | UnsetType = UNSET


def kind_of(tags: dict[str, str]) -> int:
    """The kind bits that a promise's tags give it."""
    kind = 0
    if "resonate:target" in tags:
        kind |= TARGET
    if tags.get("resonate:timer") == "true":
        kind |= TIMER
    if tags.get("resonate:external") == "true":
        kind |= EXTERNAL
    return kind


def delay_ms(tags: dict[str, str]) -> int | None:
    """When the first execute of a promise with these tags goes out, or None.

    None also stands for what is no time: a schedule's tags are taken as they are, as the
    server does, and must not stop its runs.

    >>> delay_ms({"resonate:delay": "12"}), delay_ms({"resonate:delay": "soon"}), delay_ms({})
    (12, None, None)
    """
    text = tags.get("resonate:delay")
    if text is None or _DELAY.match(text) is None:
        return None
    delay = int(text)
    return delay if delay <= MAX_MS else None


def timeout_state(kind: int) -> int:
    """The state a promise of this kind takes at its deadline."""
    return RESOLVED if kind & TIMER else REJECTED_TIMEDOUT


def is_open(state: int, timeout_at: int, now_ms: int) -> bool:
    """Whether a promise is pending and before its deadline."""
    return state == PENDING and timeout_at > now_ms


def effective_state(row: PromiseRow, now_ms: int) -> int:
    """The state a reader sees at a given time."""
    if row.state == PENDING and row.timeout_at <= now_ms:
        return timeout_state(row.kind)
    return row.state


def raw(text: str | None) -> Raw:
    """Stored JSON as a value to splice into an answer; NULL stands for `{}`."""
    return EMPTY if text is None else Raw(text)


def promise_record(row: PromiseRow, now_ms: int) -> PromiseRecord:
    """The record of a promise row as seen at a given time."""
    state, settled_at = row.state, row.settled_at
    if state == PENDING and row.timeout_at <= now_ms:
        state, settled_at = timeout_state(row.kind), row.timeout_at
    return PromiseRecord(
        row.id,
        PROMISE_STATES[state],
        EMPTY if row.param is None else Raw(row.param),
        EMPTY if row.value is None else Raw(row.value),
        Raw(row.tags),
        row.timeout_at,
        row.created_at,
        UNSET if settled_at is None else settled_at,
    )
