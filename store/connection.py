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
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Literal

from store import addresses, errors, fences, forks, protocol, schema, sweep, upkeep
from store.clocks import ClockWatch, now_ms
from store.database import Busy
from store.engine import Engine
from store.lanes import Lane
from store.members import MemberLocks
from store.opening import join, open_database
from store.outbox import Delivery, fetch, waiting
from store.patience import patiently
from store.protocol import Call
from store.reader import Reader
from store.syncing import Syncer
from store.transaction import Transaction

__all__ = ["SqliteConnection"]

logger = logging.getLogger(__name__)

#: How often the file is looked at for other processes' work: well within the 50 ms in
#: which a waiter in another process is to notice, at a few tenths of a percent of a core.
POLL_S: Final = 0.03

#: Size of the log from the start where every step is synced: what it grows to between
#: checkpoints.
RESERVED_BYTES: Final = 8 << 20

#: How often the other members are checked for life, and the file for its presence.
LIVENESS_S: Final = 0.25


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
        self._stopped = False
        self._reset()

    def _reset(self) -> None:
        """Forget everything that belongs to one opening of the file."""
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._locks: MemberLocks | None = None
        self._reader: Reader | None = None
        self._syncer: Syncer | None = None
        self._lanes: dict[asyncio.AbstractEventLoop, Lane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: asyncio.Task[None] | None = None
        self._paused = False
        self._inbox: list[Delivery] = []
        self._seen_version = -1
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

        Requests are answered as before, so work in progress can come to its end. Lasts
        until the connection is stopped.
        """
        self._paused = True
        self._inbox.clear()
        engine = self._engine
        if engine is not None and self._generation == forks.generation:
            engine.takes_directly = False
            with contextlib.suppress(Busy, errors.StoreError):  # `stop()` does it at the latest
                while engine.hand_back():
                    pass

    # -- life -----------------------------------------------------------------------

    async def start(self) -> None:
        """Open the file, take over what dead processes left, and start the timers.

        Raises:
            StoreError: The file cannot be used; the subclass says why.
        """
        self._stopped = False
        engine = await self._open()
        if self._runner is not None:
            return
        self._loop = asyncio.get_running_loop()
        if self._callbacks:
            await patiently(self.path, engine.advertise)
        await self._take_over(engine)
        if self._watch.runs:
            await self._sweep(engine)
        await self._fetch(engine, everything=False)
        self._runner = asyncio.create_task(self._run(engine), name=f"sostenuto-store-{self.pid}")

    async def stop(self) -> None:
        """Answer what is in flight, hand over what is held, and close. Idempotent."""
        self._stopped = True
        runner, self._runner = self._runner, None
        if runner is not None and runner.get_loop() is asyncio.get_running_loop():
            runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await runner
        elif runner is not None:
            with contextlib.suppress(RuntimeError):  # its loop may be closed, and it with it
                runner.get_loop().call_soon_threadsafe(runner.cancel)
        for lane in list(self._lanes.values()):
            lane.close()
        if self._opening.locked():  # by a request that came first: what it opens is closed
            await asyncio.to_thread(self._opened)
        engine = self._engine
        if engine is not None and self._generation == forks.generation:
            with contextlib.suppress(errors.StoreError):
                while await patiently(self.path, engine.release, engine.me.id):
                    pass
            await self._close(engine)
        self._reset()
        self._callbacks.clear()

    async def _close(self, engine: Engine) -> None:
        locks, syncer = self._locks, self._syncer
        if self._reader is not None:
            await self._reader.close()

        def close_blocking() -> None:
            if syncer is not None:
                syncer.close()
            engine.close()
            if locks is not None:
                locks.drop(engine.me.id)

        await asyncio.to_thread(close_blocking)

    async def _open(self) -> Engine:
        if self._generation != forks.generation:
            self._abandon()
        if self._engine is None:
            if self._stopped:
                raise errors.closed(self.path)
            await asyncio.to_thread(self._open_blocking)
        return self._require()

    def _open_blocking(self) -> None:
        """Prepare and open the file; in a thread, as it may wait for other processes."""
        with self._opening:
            if self._engine is not None:
                return
            if self._stopped:
                raise errors.closed(self.path)
            database = open_database(self.path)
            syncer = None
            try:
                if self._full:
                    database.reserve_log(RESERVED_BYTES)
                    syncer = Syncer(schema.log_path(self.path))
                me, locks = join(database, self.pid, self._unicast, self._anycast, self._clock)
            except BaseException:
                if syncer is not None:
                    syncer.close()
                database.close()
                raise
            self._locks = locks
            self._reader = Reader(self.path)
            self._syncer = syncer
            database.look()  # what is open now is what has to stay
            self._engine = Engine(database, me, self._clock, self._accept)

    def _opened(self) -> None:
        """Wait until nothing is being opened; in a thread."""
        with self._opening:
            pass

    def _abandon(self) -> None:
        """Leave to the parent process what a fork copied; start afresh in the child."""
        if self._engine is not None:
            self._engine.database.close()
        self._reset()

    def _require(self) -> Engine:
        if self._engine is None:
            raise errors.closed(self.path)
        return self._engine

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
        if self._stopped:
            raise errors.closed(self.path)
        engine = self._engine
        if engine is None or self._generation != forks.generation:
            engine = await self._open()
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = Lane(loop, engine.transact, self.path)
        fence = fences.read(req)
        if fence is None:
            call = protocol.prepare(req)
            if call.operation is None:
                return await self._answer_apart(call)
        else:
            if lane.take():
                with contextlib.suppress(Busy):
                    answer = engine.at_once(fence)
                    if answer is not None:
                        if (
                            fence.settles
                            and self._syncer is not None
                            and not self._syncer.at_once()
                        ):
                            await self._syncer.sync()
                        return answer
            call = protocol.fenced(fence, req)
        if lane.take():
            try:
                (text,), must_sync = engine.transact((call,))
            except Busy:
                text, must_sync = await lane.enqueue(call)
        else:
            text, must_sync = await lane.enqueue(call)
        if must_sync and self._syncer is not None:
            await self._syncer.sync()
        return text

    async def _answer_apart(self, call: Call) -> str:
        """Answer what needs no transaction: refused requests and searches."""
        if call.search is None or self._reader is None:
            return protocol.reply(call, call.refusal or (400, "unknown operation"))
        query = call.search.query(call.data, self._clock())
        rows = await self._reader.rows(query.statement, query.parameters)
        return protocol.reply(call, query.answer(rows))

    # -- upkeep ---------------------------------------------------------------------

    async def gc(self, older_than: timedelta) -> int:
        """Delete executions that ended longer ago than this, in small batches.

        Args:
            older_than: Age of the root's settlement.

        Returns:
            How many promises were deleted.

        Raises:
            StoreError: The file could not be used.
        """
        await self._open()
        now = self._clock()
        return await upkeep.collect(self.path, now - older_than // timedelta(milliseconds=1), now)

    async def backup(self, target: str | os.PathLike[str]) -> None:
        """Copy the store, as it is at one moment, while it is in use.

        Raises:
            StoreError: The copy could not be made.
        """
        await self._open()
        await upkeep.back_up(self.path, target)

    async def integrity_check(self) -> list[str]:
        """What is wrong with the file, one sentence each; empty when nothing is.

        Raises:
            StoreError: The file cannot be read at all.
        """
        await self._open()
        return await upkeep.check(self.path)

    async def stats(self) -> upkeep.Stats:
        """Size, and counts by state.

        Raises:
            StoreError: The file cannot be read.
        """
        await self._open()
        return await upkeep.stats(self.path)

    # -- messages -------------------------------------------------------------------

    def _accept(self, deliveries: list[Delivery]) -> None:
        """Take messages for this connection; its receivers get them in the next turn."""
        if not self._inbox and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop of `start()` may be closed
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

    async def _fetch(self, engine: Engine, *, everything: bool) -> None:
        """Take what the outbox holds for this connection."""
        if not self._callbacks or self._paused:
            return

        def look(tx: Transaction) -> bool:
            ready, engine.next_ready_ms = waiting(tx, engine.me, everything=everything)
            return bool(ready)

        def take(tx: Transaction) -> tuple[list[Delivery], bool]:
            deliveries, engine.next_ready_ms, more = fetch(tx, engine.me, everything=everything)
            return deliveries, more

        more = engine.within(look, write=False)
        while more:
            deliveries, more = await patiently(self.path, engine.within, take)
            self._accept(deliveries)

    # -- time -----------------------------------------------------------------------

    async def tick(self) -> None:
        """Apply everything that is due at `clock()` now.

        Deadlines of promises, lapsed leases, unclaimed tasks, schedules; then every
        message for this connection has been given to its receivers, also those held
        back because their task keeps being released.

        Raises:
            StoreError: The file could not be used.
        """
        engine = await self._open()
        await self._take_over(engine)
        await self._sweep(engine)
        await self._fetch(engine, everything=True)
        self._deliver()

    async def _sweep(self, engine: Engine) -> None:
        """Apply one pass of what is due, batch by batch."""
        if engine.is_due():
            for step in sweep.PASS:
                while await patiently(self.path, engine.within, step):  # noqa: ASYNC110  # a yield between batches
                    await asyncio.sleep(0)
            engine.is_due()

    async def _take_over(self, engine: Engine) -> None:
        """Release what members that are no longer alive were holding."""
        locks = self._locks
        if locks is None:
            return
        for member in engine.within(sweep.members, write=False):
            if not locks.is_alive(member):
                logger.info("taking over from member %d of %s, which is gone", member, self.path)
                while await patiently(self.path, engine.release, member):  # noqa: ASYNC110  # a yield between batches
                    await asyncio.sleep(0)

    async def _run(self, engine: Engine) -> None:
        """Follow the clock and the other members until stopped."""
        loop = asyncio.get_running_loop()
        wake = asyncio.Event()
        checked_at = time.monotonic()

        def look() -> None:
            """A cheap look at the file and the clock; wakes the task when there is work."""
            if self._has_work(engine) or time.monotonic() - checked_at >= LIVENESS_S:
                wake.set()
            else:
                loop.call_later(POLL_S, look)

        while True:
            loop.call_later(POLL_S, look)
            await wake.wait()
            wake.clear()
            try:
                if time.monotonic() - checked_at >= LIVENESS_S:
                    checked_at = time.monotonic()
                    await self._check_life(engine)
                await self._work(engine)
            except Busy:
                continue
            except errors.StoreError as error:
                logger.warning("%s", error)
                await asyncio.sleep(LIVENESS_S)

    async def _check_life(self, engine: Engine) -> None:
        if not engine.database.look():
            raise errors.deleted(self.path)
        if self._locks is not None:
            with contextlib.suppress(OSError):
                self._locks.renew()
        if self._watch.runs:
            await self._take_over(engine)

    def _has_work(self, engine: Engine) -> bool:
        """Whether others have written, or something is due by what is known."""
        try:
            version = engine.data_version()
        except errors.StoreError:
            return True
        now = self._clock()
        if version != self._seen_version:
            self._seen_version = version
            engine.next_due_ms = engine.next_ready_ms = now
        ready, due = engine.next_ready_ms, engine.next_due_ms
        if ready is not None and ready <= now:
            return True
        return self._watch.observe() and due is not None and due <= now

    async def _work(self, engine: Engine) -> None:
        """Fetch messages and apply what is due, if anything."""
        now = self._clock()
        if engine.next_ready_ms is not None and engine.next_ready_ms <= now:
            await self._fetch(engine, everything=False)
        if self._watch.runs and engine.next_due_ms is not None and engine.next_due_ms <= now:
            await self._sweep(engine)
