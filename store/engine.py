"""Transactions on one open file: requests, timers and message routing all go through here.

Used from event loops, more than one if need be: a lock that is held for one transaction
keeps them apart. Nothing here waits; a write lock taken by another process is `Busy`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Final

from store import errors, sweep
from store import statements as sql
from store.checkpoints import Checkpointer
from store.database import Database
from store.fences import Fence, attempt
from store.outbox import Delivery, Listener, route
from store.protocol import Call, apply
from store.transaction import Transaction

__all__ = ["Engine"]

#: What changing a row writes to the log, roughly and besides long values: now and then more
#: than the page it is in, and the head of each.
STEP_BYTES: Final = 3 << 10


class Engine:
    """One member's view of the store.

    Args:
        database: The open file.
        me: This connection among the members.
        clock: Returns milliseconds since the epoch.
        accept: Called with messages for this connection, right after their commit.

    Attributes:
        takes_directly: Whether messages for this connection skip the outbox.
        next_due_ms: The earliest deadline known, when the next sweep has work to do.
        next_ready_ms: When the next message known to be in the outbox may be fetched.
    """

    def __init__(
        self,
        database: Database,
        me: Listener,
        clock: Callable[[], int],
        accept: Callable[[list[Delivery]], None],
    ) -> None:
        self.database = database
        self.me = me
        self.takes_directly = False
        self.next_due_ms: int | None = None
        self.next_ready_ms: int | None = None
        self._clock = clock
        self._accept = accept
        self._lock = threading.RLock()
        self._checkpointer = Checkpointer(database.path)
        self._checkpointer.start()
        self._known: list[Listener] | None = None
        self._known_version = -1

    def transact(self, calls: Sequence[Call]) -> tuple[list[str], bool]:
        """Apply requests in one transaction.

        Returns:
            Their answers, and whether they must be synced before they are given.

        Raises:
            Busy: Another process is writing; nothing was applied.
            StoreError: The transaction failed; nothing was applied.
        """
        writes = False
        for call in calls:
            writes = writes or call.operation is None or call.operation.writes
        with self._lock:
            tx = self.database.begin(self._clock(), self.me.id, write=writes)
            changes = self.database.connection.total_changes
            try:
                answers = [apply(tx, call) for call in calls]
                self._finish(tx)
            except BaseException as error:  # noqa: BLE001  # undone and raised again
                raise self._undone(error) from None
            changes = self.database.connection.total_changes - changes
        if changes:
            self._checkpointer.committed(changes * STEP_BYTES + sum(map(len, answers)))
        return answers, tx.must_sync

    def at_once(self, fence: Fence) -> str | None:
        """Apply a fence as one statement.

        Returns:
            Its answer, to be synced first when the fence settles a promise; None when it
            takes more than that statement, and nothing was done.

        Raises:
            Busy: Another process is writing; nothing was done.
            StoreError: The statement failed; nothing was done.
        """
        with self._lock:
            database = self.database
            text = database.at_once(
                attempt, database.created, self._clock(), fence, check=fence.settles
            )
        if text is not None:
            self._checkpointer.committed(STEP_BYTES + len(text))
        return text

    def within[T](self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run work in a transaction of its own, as `transact` does with requests.

        Raises:
            Busy: Another process is writing; nothing was done.
            StoreError: The transaction failed; nothing was done.
        """
        with self._lock:
            tx = self.database.begin(self._clock(), self.me.id, write=write)
            changes = self.database.connection.total_changes
            try:
                result = work(tx)
                self._finish(tx)
            except BaseException as error:  # noqa: BLE001  # undone and raised again
                raise self._undone(error) from None
            changes = self.database.connection.total_changes - changes
        if changes:
            self._checkpointer.committed(changes * STEP_BYTES)
        return result

    def _finish(self, tx: Transaction) -> None:
        """Send a transaction's messages, commit it, and note what it makes due."""
        if tx.messages:
            deliveries = route(tx, self._listeners, direct=self.takes_directly)
            self.database.commit()
            if deliveries:
                self._accept(deliveries)
        else:
            self.database.commit(check=tx.must_sync)
        due = tx.next_due_ms
        if due is not None and (self.next_due_ms is None or due < self.next_due_ms):
            self.next_due_ms = due
        ready = tx.next_ready_ms
        if ready is not None and (self.next_ready_ms is None or ready < self.next_ready_ms):
            self.next_ready_ms = ready

    def _undone(self, error: BaseException) -> BaseException:
        """Undo a failed transaction; a driver's error becomes one of the store's."""
        self.database.rollback()
        if isinstance(error, sqlite3.Error):
            return errors.translate(error, self.database.path)
        return error

    def _listeners(self) -> list[Listener]:
        """The members that take messages, read again when others may have changed them."""
        version = self.database.data_version()
        if self._known is None or version != self._known_version:
            rows = self.database.connection.execute(sql.MEMBERS).fetchall()
            self._known = [Listener(*row[:3]) for row in rows if row[3]]
            self._known_version = version
        return self._known

    # -- membership -----------------------------------------------------------------

    def advertise(self) -> None:
        """Tell the other members that this one takes messages."""
        self.within(lambda tx: tx.run(sql.MEMBER_LISTENS, 1, self.me.id))
        self._known = None
        self.takes_directly = True

    def hand_back(self) -> bool:
        """Send a batch of messages not acted on to other members; whether there are more."""
        self.takes_directly = False

        def work(tx: Transaction) -> bool:
            tx.run(sql.MEMBER_LISTENS, 0, self.me.id)
            self._known = None
            return sweep.hand_back(tx, self.me.id)

        try:
            return self.within(work)
        finally:
            self._known = None

    def release(self, member: int) -> bool:
        """Take over a batch of what a member held that is gone; whether there is more."""

        def work(tx: Transaction) -> bool:
            if tx.one(sql.MEMBER_EXISTS, member) is None:
                return False
            tx.run(sql.MEMBER_LISTENS, 0, member)
            self._known = None
            return sweep.release_member(tx, member)

        if member == self.me.id:
            self.takes_directly = False
        try:
            return self.within(work)
        finally:
            self._known = None

    # -- time -----------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether a sweep has something to do, by what is in the file now."""
        self.next_due_ms = self.within(sweep.next_due, write=False)
        return self.next_due_ms is not None and self.next_due_ms <= self._clock()

    def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        with self._lock:
            try:
                return self.database.data_version()
            except sqlite3.Error as error:
                raise errors.translate(error, self.database.path) from error

    def close(self) -> None:
        """Stop checkpointing and close the file; blocks for at most one checkpoint."""
        self._checkpointer.stop()
        with self._lock:
            self.database.close()
