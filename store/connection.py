"""`SqliteConnection`: the Resonate protocol on one SQLite file.

Requests are applied on the event loop itself: a transaction takes some 30 microseconds,
a hop to another thread takes three times that. What could block is kept off it: waiting
for another process's write lock is done asleep, checkpoints, syncs and searches run in
threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final, Literal

from store import addresses, errors, forks, protocol, schema, sweep
from store import statements as sql
from store.checkpoints import Checkpointer
from store.clocks import ClockWatch, now_ms
from store.database import Busy, Database
from store.lanes import Lane
from store.members import MemberLocks, locks_for
from store.outbox import Delivery, Listener, fetch, route, waiting
from store.protocol import Call
from store.reader import Reader
from store.syncing import Syncer
from store.transaction import Transaction

__all__ = ["SqliteConnection"]

logger = logging.getLogger(__name__)

#: How often the file is looked at for other processes' work: half of what a waiter in
#: another process may notice, at about half a percent of a core.
POLL_S: Final = 0.02

#: How often the other members are checked for life, and this one's lock is renewed.
LIVENESS_S: Final = 0.25

#: How long a request waits for another process's write lock before it fails.
LOCK_WAIT_S: Final = 15.0
_FIRST_WAIT_S: Final = 0.0003
_LONGEST_WAIT_S: Final = 0.01


class SqliteConnection:
    """A Resonate server in one SQLite file, as a `resonate_base` Network and Source.

    `Resonate(network=SqliteConnection(path), group="default")` runs any program of the
    SDK unchanged; every process that opens the same file is part of the same server.

    `synchronous="normal"` survives the death of any process, at any moment;
    `synchronous="full"` also survives a power failure or a crash of the system, at the
    price of one wait for the disk per step.

    Args:
        path: The database file, created with mode 0600 when it does not exist.
        pid: This process's name in its own address; random by default.
        group: The group whose work this connection takes.
        clock: Returns milliseconds since the epoch. Background timers follow a clock
            that runs; one that is set by hand moves things only through `tick()`.
        synchronous: What an answered request survives.

    Raises:
        ValueError: `synchronous` is neither of the two.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        pid: str | None = None,
        group: str = "default",
        clock: Callable[[], int] = now_ms,
        synchronous: Literal["normal", "full"] = "normal",
    ) -> None:
        if synchronous not in {"normal", "full"}:
            raise ValueError(f"synchronous must be 'normal' or 'full', not {synchronous!r}")
        self.path = os.path.abspath(os.fspath(path))  # noqa: PTH100  # as given, links and all
        self.pid = pid if pid is not None else uuid.uuid4().hex
        self.group = group
        self._clock = clock
        self._full = synchronous == "full"
        self._unicast = addresses.unicast(group, self.pid)
        self._anycast = addresses.anycast(group)
        self._callbacks: list[Callable[[str], None]] = []
        self._lock = threading.RLock()
        self._stopped = False
        self._reset()

    def _reset(self) -> None:
        """Forget everything that belongs to one opening of the file."""
        self._database: Database | None = None
        self._me = Listener(0, self._unicast, self._anycast)
        self._locks: MemberLocks | None = None
        self._reader: Reader | None = None
        self._syncer: Syncer | None = None
        self._checkpointer: Checkpointer | None = None
        self._lanes: dict[asyncio.AbstractEventLoop, Lane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: asyncio.Task[None] | None = None
        self._paused = False
        self._advertised = False
        self._inbox: list[Delivery] = []
        self._known: list[Listener] | None = None
        self._known_version = -1
        self._seen_version = -1
        self._next_due: int | None = None
        self._next_ready: int | None = None
        self._generation = forks.generation
        self._watch = ClockWatch(self._clock)

    # -- addresses and receivers ----------------------------------------------------

    def unicast(self) -> str:
        """The address of this process alone."""
        return self._unicast

    def resolve_target(self, target: str) -> str:
        """The address of any one member of a group."""
        return addresses.anycast(target)

    def recv(self, callback: Callable[[str], None]) -> None:
        """Register a receiver of messages; do so before `start()`."""
        self._callbacks.append(callback)

    def pause_delivery(self) -> None:
        """Take no more messages; those not acted on go to other members. Idempotent.

        Requests are answered as before, so work in progress can come to its end.
        """
        self._paused = True
        self._inbox.clear()
        if self._database is not None and not self._is_child():
            with contextlib.suppress(Busy, errors.StoreError):
                self._hand_back()

    # -- life -----------------------------------------------------------------------

    async def start(self) -> None:
        """Open the file, take over what dead processes left, and start the timers.

        Raises:
            StoreError: The file cannot be used; the subclass says why.
        """
        self._stopped = False
        await self._open()
        if self._runner is not None:
            return
        self._loop = asyncio.get_running_loop()
        if self._callbacks:
            await self._patiently(self._advertise)
        await self._take_over()
        await self._sweep_all()
        await self._patiently(self._fetch, False)
        self._runner = asyncio.create_task(self._run(), name=f"sostenuto-store-{self.pid}")

    async def stop(self) -> None:
        """Answer what is in flight, hand over what is held, and close. Idempotent."""
        self._stopped = True
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await runner
        for lane in list(self._lanes.values()):
            lane.close()
        if self._database is not None and not self._is_child():
            with contextlib.suppress(errors.StoreError):
                while await self._patiently(self._leave):
                    pass
        await self._close()
        self._callbacks.clear()

    async def _open(self) -> Database:
        if self._is_child():
            self._abandon()
        if self._database is not None:
            return self._database
        if self._stopped:
            raise errors.closed(self.path)
        await asyncio.to_thread(self._open_blocking)
        return self._require()

    def _open_blocking(self) -> None:
        """Prepare and open the file; in a thread, as it may wait for other processes."""
        with self._lock:
            if self._database is not None:
                return
            schema.prepare(self.path)
            try:
                database = Database(self.path)
            except (sqlite3.Error, OSError) as error:
                raise errors.translate(error, self.path) from error
            try:
                self._join(database)
            except BaseException:
                database.close()
                raise
            self._database = database
            self._reader = Reader(self.path)
            self._syncer = Syncer(f"{self.path}-wal") if self._full else None
            self._checkpointer = Checkpointer(self.path)
            self._checkpointer.start()

    def _join(self, database: Database) -> None:
        """Enter this connection among the members, holding the lock that proves it lives."""
        locks = locks_for(f"{os.path.realpath(self.path)}-members")
        tx = self._begin_blocking(database)
        try:
            member = tx.insert(
                sql.MEMBER_ADD,
                *(self.pid, os.getpid(), self._unicast, self._anycast, 0, tx.now_ms),
            )
            locks.hold(member)
            self._next_due = sweep.next_due(tx)
            database.commit()
        except sqlite3.Error as error:
            database.rollback()
            raise errors.translate(error, self.path) from error
        except OSError as error:
            database.rollback()
            raise errors.translate(error, locks.path) from error
        self._me = Listener(member, self._unicast, self._anycast)
        self._locks = locks

    def _begin_blocking(self, database: Database) -> Transaction:
        """Start a writing transaction from a thread that may wait."""
        give_up = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return database.begin(self._clock(), None, write=True)
            except Busy as busy:
                if time.monotonic() > give_up:
                    raise errors.locked(self.path, LOCK_WAIT_S) from busy
                time.sleep(_LONGEST_WAIT_S)

    async def _close(self) -> None:
        database, locks, me = self._database, self._locks, self._me
        reader, syncer, checkpointer = self._reader, self._syncer, self._checkpointer
        child = self._is_child()
        self._reset()
        if reader is not None and not child:
            await reader.close()

        def close_blocking() -> None:
            if child:
                return
            if checkpointer is not None:
                checkpointer.stop()
            if syncer is not None:
                syncer.close()
            if locks is not None:
                locks.drop(me.id)
            if database is not None:
                with self._lock:
                    database.close()

        await asyncio.to_thread(close_blocking)

    def _is_child(self) -> bool:
        return self._generation != forks.generation

    def _abandon(self) -> None:
        """Leave to the parent process what a fork copied; start afresh in the child."""
        if self._database is not None:
            self._database.close()
        self._lock = threading.RLock()
        self._reset()

    def _require(self) -> Database:
        if self._database is None:
            raise errors.closed(self.path)
        return self._database

    # -- requests -------------------------------------------------------------------

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002  # one file has no partitions to route by
        """Apply a request and return its answer, once it is committed.

        Requests that arrive in the same turn of the event loop share a transaction.

        Args:
            req: The request envelope as JSON.
            headers: Routing metadata; one file has nothing to route.

        Returns:
            The answer envelope as JSON; refusals are answers.

        Raises:
            StoreError: The file could not serve the request, or the connection is stopped.
        """
        call = protocol.prepare(req)
        if call.refusal is not None:
            return protocol.reply(call, call.refusal)
        if self._database is None or self._generation != forks.generation:
            await self._open()
        if self._stopped:
            raise errors.closed(self.path)
        if call.search is not None:
            return await self._search(call)
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = Lane(loop, self._transact, self.path)
        if lane.is_free():
            lane.occupy()
            try:
                (text,), must_sync = self._transact([call])
            except Busy:
                text, must_sync = await lane.enqueue(call)
        else:
            text, must_sync = await lane.enqueue(call)
        if must_sync and self._syncer is not None:
            await self._syncer.sync()
        return text

    async def _search(self, call: Call) -> str:
        if call.search is None or self._reader is None:
            raise errors.closed(self.path)
        query = call.search.query(call.data, self._clock())
        rows = await self._reader.rows(query.statement, query.parameters)
        return protocol.reply(call, query.answer(rows))

    def _transact(self, calls: Sequence[Call]) -> tuple[list[str], bool]:
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
            database = self._database or self._require()
            tx = database.begin(self._clock(), self._me.id, write=writes)
            try:
                answers = [_answer(tx, call) for call in calls]
                self._finish(database, tx)
            except BaseException as error:  # noqa: BLE001  # undone and raised again
                raise self._undone(database, error) from None
        if writes and self._checkpointer is not None:
            self._checkpointer.committed()
        return answers, tx.must_sync

    def _within[T](self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run work in a transaction of its own, as `_transact` does with requests."""
        with self._lock:
            database = self._require()
            tx = database.begin(self._clock(), self._me.id, write=write)
            try:
                result = work(tx)
                self._finish(database, tx)
            except BaseException as error:  # noqa: BLE001  # undone and raised again
                raise self._undone(database, error) from None
        if write and self._checkpointer is not None:
            self._checkpointer.committed()
        return result

    def _finish(self, database: Database, tx: Transaction) -> None:
        """Send a transaction's messages, commit it, and note what it makes due."""
        deliveries: list[Delivery] = []
        if tx.messages:
            deliveries = route(tx, self._listeners, direct=self._takes_directly())
        database.commit()
        due = tx.next_due_ms
        if due is not None and (self._next_due is None or due < self._next_due):
            self._next_due = due
        if deliveries:
            self._accept(deliveries)

    def _undone(self, database: Database, error: BaseException) -> BaseException:
        """Undo a failed transaction; a driver's error becomes one of the store's."""
        database.rollback()
        return errors.translate(error, self.path) if isinstance(error, sqlite3.Error) else error

    async def _patiently[**P, T](
        self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work that may find the write lock taken, sleeping between attempts."""
        give_up = time.monotonic() + LOCK_WAIT_S
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return work(*args, **kwargs)
            except Busy as busy:
                if time.monotonic() > give_up:
                    raise errors.locked(self.path, LOCK_WAIT_S) from busy
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads retries
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    # -- messages -------------------------------------------------------------------

    def _takes_directly(self) -> bool:
        return self._advertised and not self._paused and not self._stopped

    def _listeners(self) -> list[Listener]:
        """The members that take messages, read again when others may have changed them."""
        database = self._require()
        version = database.data_version()
        if self._known is None or version != self._known_version:
            rows = database.connection.execute(sql.MEMBERS).fetchall()
            self._known = [Listener(*row[:3]) for row in rows if row[3]]
            self._known_version = version
        return self._known

    def _accept(self, deliveries: list[Delivery]) -> None:
        """Take messages for this connection; its receivers get them in the next turn."""
        if not self._inbox and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop of start() may be closed
                self._loop.call_soon_threadsafe(self._deliver)
        self._inbox.extend(deliveries)

    def _deliver(self) -> None:
        """Give the messages that arrived to the receivers."""
        inbox, self._inbox = self._inbox, []
        for delivery in inbox:
            for callback in list(self._callbacks):
                try:
                    callback(delivery.body)
                except Exception:
                    logger.exception("a receiver of %s failed on a message", self._unicast)

    def _advertise(self) -> None:
        """Tell the other members that this one takes messages."""

        def apply(tx: Transaction) -> None:
            tx.run(sql.MEMBER_LISTENS, 1, self._me.id)

        self._within(apply)
        self._known = None
        self._advertised = True

    def _hand_back(self) -> None:
        """Give messages not acted on to other members, and take no more."""

        def apply(tx: Transaction) -> bool:
            tx.run(sql.MEMBER_LISTENS, 0, self._me.id)
            self._known = None
            return sweep.hand_back(tx, self._me.id)

        self._advertised = False
        while self._within(apply):
            pass
        self._known = None

    def _leave(self) -> bool:
        """Hand over everything this connection holds, and stop being a member."""

        def apply(tx: Transaction) -> bool:
            tx.run(sql.MEMBER_LISTENS, 0, self._me.id)
            self._known = None
            return sweep.release_member(tx, self._me.id)

        self._advertised = False
        return self._within(apply)

    def _fetch(self, everything: bool) -> None:
        """Take what the outbox holds for this connection."""
        if not self._callbacks or self._paused:
            return

        def look(tx: Transaction) -> bool:
            ready, self._next_ready = waiting(tx, self._me, everything=everything)
            return bool(ready)

        def take(tx: Transaction) -> list[Delivery]:
            tx.must_sync = True
            deliveries, self._next_ready = fetch(tx, self._me, everything=everything)
            return deliveries

        if self._within(look, write=False):
            self._accept(self._within(take))

    # -- time -----------------------------------------------------------------------

    async def tick(self) -> None:
        """Apply everything that is due at `clock()` now.

        Deadlines of promises, lapsed leases, unclaimed tasks, schedules; then every
        message for this connection has been given to its receivers, also those held
        back because their task keeps being released.

        Raises:
            StoreError: The file could not be used.
        """
        await self._open()
        await self._take_over()
        await self._sweep_all()
        await self._patiently(self._fetch, True)
        self._deliver()

    async def _sweep_all(self) -> None:
        """Apply one pass of what is due, batch by batch."""
        self._next_due = self._within(sweep.next_due, write=False)
        if self._next_due is None or self._next_due > self._clock():
            return
        for step in sweep.PASS:
            while await self._patiently(self._within, step):  # noqa: ASYNC110  # a yield between batches
                await asyncio.sleep(0)
        self._next_due = self._within(sweep.next_due, write=False)

    async def _take_over(self) -> None:
        """Release what members that are no longer alive were holding."""
        for member in self._dead_members():
            while await self._patiently(self._release, member):  # noqa: ASYNC110  # see above
                await asyncio.sleep(0)

    def _dead_members(self) -> list[int]:
        locks = self._locks
        if locks is None:
            return []
        rows = self._within(lambda tx: tx.all(sql.MEMBERS), write=False)
        return [row[0] for row in rows if not locks.is_alive(row[0])]

    def _release(self, member: int) -> bool:
        def apply(tx: Transaction) -> bool:
            if tx.one(sql.MEMBER_EXISTS, member) is None:
                return False
            logger.info("taking over from member %d of %s, which is gone", member, self.path)
            self._known = None
            return sweep.release_member(tx, member)

        more = self._within(apply)
        self._known = None
        return more

    async def _run(self) -> None:
        """Follow the clock and the other members until stopped."""
        checked_at = time.monotonic()
        while True:
            await asyncio.sleep(POLL_S)
            try:
                real = time.monotonic()
                if real - checked_at >= LIVENESS_S:
                    checked_at = real
                    await self._check_life()
                await self._poll()
            except Busy:
                continue
            except errors.StoreError as error:
                logger.warning("store %s: %s", self.path, error)
                await asyncio.sleep(LIVENESS_S)

    async def _check_life(self) -> None:
        if not self._require().is_present():
            raise errors.deleted(self.path)
        if self._locks is not None:
            with contextlib.suppress(OSError):
                self._locks.renew()
        if self._watch.runs:
            await self._take_over()

    async def _poll(self) -> None:
        """One look at the file and the clock."""
        with self._lock:
            version = self._require().data_version()
        now = self._clock()
        if version != self._seen_version:
            self._seen_version = version
            self._next_due = now
            self._next_ready = now
        if self._next_ready is not None and self._next_ready <= now:
            await self._patiently(self._fetch, False)
        if self._watch.observe() and self._next_due is not None and self._next_due <= now:
            await self._sweep_all()


def _answer(tx: Transaction, call: Call) -> str:
    if call.operation is None:
        raise AssertionError("only requests with an operation are put in a transaction")
    tx.corr_id = call.request.corr_id
    return protocol.reply(call, call.operation.apply(tx, call.data))
