"""One transaction's context: its time, its statements, and the messages it sends.

Messages are collected while requests are applied and routed just before the commit,
so one execute per task and one unblock per promise and address come out of it however
often they were asked for, and settling a promise takes back the execute of its task.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from store import statements as sql
from store.records import PromiseRow

__all__ = ["Created", "Execute", "Message", "Transaction", "Unblock"]


class Execute(NamedTuple):
    """Tells a worker to claim a task at a version.

    Attributes:
        address: Where it goes, the task's target.
        task_id: The task.
        version: The version to acquire it at.
        releases: How often the task was released in a row; decides how long it is held.
        avoid: The member that gave the task up or let it lie; others are preferred.
    """

    address: str
    task_id: str
    version: int
    releases: int = 0
    avoid: int | None = None


class Unblock(NamedTuple):
    """Tells a listener that a promise is settled."""

    address: str
    promise_id: str


type Message = Execute | Unblock

#: What is remembered of pending promises that a fence created, by id: deadline, creation
#: time, tags and param as stored.
type Created = dict[str, tuple[int, int, str, str | None]]


class Transaction(msgspec.Struct, eq=False):
    """What an operation works with; lives from BEGIN to COMMIT.

    Attributes:
        execute: The cursor's own method, for the statements of every step.
        now_ms: The time of every request in this transaction.
        member: The id of the connection the requests came through.
        created: Promises remembered from one fence to the next.
        must_sync: With `synchronous="full"`, the commit must reach the disk before its
            requests are answered; a lost internal create is simply made again.
        next_due_ms: The earliest deadline this transaction created, if any.
        corr_id: The correlation id of the request being applied.
        next_ready_ms: When the first message it left in the outbox may be fetched, if any.
        messages: Messages to route at the end, by task or by promise and address.
    """

    execute: Callable[..., sqlite3.Cursor]
    now_ms: int
    member: int | None
    created: Created = msgspec.field(default_factory=dict)
    corr_id: str = ""
    must_sync: bool = False
    next_due_ms: int | None = None
    next_ready_ms: int | None = None
    messages: dict[tuple[str, ...], Message] = msgspec.field(default_factory=dict)

    def run(self, statement: str, *parameters: object) -> int:
        """Execute a writing statement and return how many rows it changed."""
        return self.execute(statement, parameters).rowcount

    def insert(self, statement: str, *parameters: object) -> int:
        """Execute an INSERT and return the new row's id."""
        return self.execute(statement, parameters).lastrowid or 0

    def one(self, statement: str, *parameters: object) -> Any:
        """The first row of a query, or None."""
        return self.execute(statement, parameters).fetchone()

    def all(self, statement: str, *parameters: object) -> list[Any]:
        """All rows of a query."""
        return self.execute(statement, parameters).fetchall()

    def promise(self, id_: str) -> PromiseRow | None:
        """The promise of an id, or None."""
        row = self.execute(sql.PROMISE_GET, (id_,)).fetchone()
        return None if row is None else PromiseRow(*row)

    def due(self, at_ms: int) -> None:
        """Note a deadline, so that the sweep wakes up for it."""
        if self.next_due_ms is None or at_ms < self.next_due_ms:
            self.next_due_ms = at_ms

    def send_execute(
        self,
        address: str,
        task_id: str,
        version: int,
        *,
        releases: int = 0,
        avoid: int | None = None,
    ) -> None:
        """Queue the execute of a task, replacing the one it may have."""
        self.messages["execute", task_id] = Execute(address, task_id, version, releases, avoid)

    def send_unblock(self, address: str, promise_id: str) -> None:
        """Queue the unblock of a settled promise to one address."""
        self.messages["unblock", promise_id, address] = Unblock(address, promise_id)

    def drop_execute(self, task_id: str) -> None:
        """Take back the execute of a task that no longer needs to run."""
        self.messages.pop(("execute", task_id), None)
        self.execute(sql.OUTBOX_DROP_EXECUTE, (task_id,))
