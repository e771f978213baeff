"""What the model remembers, and how it is shown on the wire."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TARGET = "resonate:target"
TIMER = "resonate:timer"
EXTERNAL = "resonate:external"
DELAY = "resonate:delay"
BRANCH = "resonate:branch"
ORIGIN = "resonate:origin"
PARENT = "resonate:parent"

RETRY_MS = 5_000
"""An unclaimed task is offered again after this long (resonate.sql, ``_retry_timeout``)."""

FREE_RELEASES = 8
"""A task that is released again and again may be offered ever later, but not before this many."""


class Answer(NamedTuple):
    """Status and data of a reply; the data of a refusal is a string."""

    status: int
    data: Any


class RefusedError(Exception):
    """A request that gets an error answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.answer = Answer(status, reason)


@dataclass(slots=True)
class Promise:
    id: str
    timeout_at: int
    created_at: int
    tags: dict[str, str]
    param: dict[str, Any]
    value: dict[str, Any] = field(default_factory=dict)
    state: str = "pending"
    settled_at: int | None = None
    callbacks: set[str] = field(default_factory=set)
    listeners: set[str] = field(default_factory=set)

    @property
    def external(self) -> bool:
        """True if it may be awaited and is expired by timer."""
        return (
            TARGET in self.tags
            or self.tags.get(TIMER) == "true"
            or self.tags.get(EXTERNAL) == "true"
        )

    @property
    def state_at_deadline(self) -> str:
        return "resolved" if self.tags.get(TIMER) == "true" else "rejected_timedout"

    def state_at(self, now_ms: int) -> str:
        """The state a reader sees: past its deadline a promise is settled, swept or not."""
        if self.state == "pending" and self.timeout_at <= now_ms:
            return self.state_at_deadline
        return self.state

    def shown_at(self, now_ms: int) -> dict[str, Any]:
        state = self.state_at(now_ms)
        settled_at = self.settled_at
        if self.state == "pending" and state != "pending":
            settled_at = self.timeout_at
        return {
            "id": self.id,
            "state": state,
            "param": dict(self.param),
            "value": dict(self.value),
            "tags": dict(self.tags),
            "timeoutAt": self.timeout_at,
            "createdAt": self.created_at,
            "settledAt": settled_at,
        }


@dataclass(slots=True)
class Task:
    id: str
    state: str
    version: int = 0
    pid: str | None = None
    ttl: int | None = None
    due_at: int | None = None
    """When a pending task is offered again, or an acquired one loses its lease."""
    resumes: set[str] = field(default_factory=set)
    releases: int = 0
    """Releases in a row, without a suspension or a halt in between."""

    @property
    def held_back(self) -> bool:
        """True if it was released so often that its next offer may wait."""
        return self.releases > FREE_RELEASES

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "state": self.state,
            "version": self.version,
            "resumes": len(self.resumes),
            "ttl": self.ttl,
            "pid": self.pid,
        }

    def fulfil(self) -> None:
        self.state, self.pid, self.ttl, self.due_at = "fulfilled", None, None, None
        self.resumes = set()


@dataclass(slots=True)
class Schedule:
    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: dict[str, Any]
    promise_tags: dict[str, str]
    created_at: int
    next_run_at: int
    last_run_at: int | None = None

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "cron": self.cron,
            "promiseId": self.promise_id,
            "promiseTimeout": self.promise_timeout,
            "promiseParam": dict(self.promise_param),
            "promiseTags": dict(self.promise_tags),
            "createdAt": self.created_at,
            "nextRunAt": self.next_run_at,
            "lastRunAt": self.last_run_at,
        }


class Message(NamedTuple):
    kind: str
    address: str
    data: Any
    optional: bool = False
    """True where the sources disagree whether, or when, the message is sent."""


@dataclass(slots=True)
class State:
    promises: dict[str, Promise] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    outbox: dict[tuple[str, ...], Message] = field(default_factory=dict)

    def copy(self) -> State:
        return copy.deepcopy(self)

    def task_state_at(self, task: Task, now_ms: int) -> str:
        """A task is fulfilled as soon as its promise is settled or past its deadline."""
        return task.state if self.is_live(task, now_ms) else "fulfilled"

    def is_live(self, task: Task, now_ms: int) -> bool:
        return self.promises[task.id].state_at(now_ms) == "pending"

    def send_execute(self, task: Task, *, optional: bool = False) -> None:
        """Queue the task's one execute message, in place of an earlier one."""
        address = self.promises[task.id].tags[TARGET]
        data = {"task": {"id": task.id, "version": task.version}}
        self.outbox["execute", task.id] = Message("execute", address, data, optional)

    def send_unblock(self, promise: Promise, address: str, *, optional: bool = False) -> None:
        data = {"promise": promise.shown_at(promise.settled_at or 0)}
        self.outbox["unblock", promise.id, address] = Message("unblock", address, data, optional)
