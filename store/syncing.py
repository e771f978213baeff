"""Power-loss safety: the write-ahead log is synced before an answer is given.

A commit appends to the log; syncing the log afterwards makes it durable together with
everything before it, which is what SQLite's own `synchronous = FULL` does within the
commit. Where several requests wait, a thread does it: that keeps the event loop free, and
one sync serves them all. A request that is alone is synced by the loop itself as long as the
disk is quick, because waking a thread and being woken by it takes longer than such a sync.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from store import errors

__all__ = ["Syncer"]

_sync_data: Final = getattr(os, "fdatasync", os.fsync)

#: Seconds that syncs may take on average for the loop to do them itself, and seconds from
#: which one is a hiccup, after which as many go to the thread.
QUICK_S: Final = 0.0005
HICCUP_S: Final = 0.002
CAUTIOUS: Final = 64

type Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]


class Syncer:
    """Syncs one write-ahead log, at once or in a thread of its own.

    An executor would do for the latter, at the price of 100 microseconds of processor time a
    sync; here a waiter is a future of its loop, and the thread is woken by a lock.

    Args:
        path: The log, which exists as long as the database is open.
        clock: Returns seconds, to tell a quick disk by.

    Raises:
        StoreError: The log cannot be opened.

    Attributes:
        syncs: How often the log was synced.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self.syncs = 0
        self._clock = clock
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise errors.translate(error, path) from error
        self._guard = threading.Lock()
        self._work = threading.Lock()
        self._work.acquire()
        self._waiting: list[Waiter] = []
        self._closed = False
        self._average_s = HICCUP_S
        self._cautious = 0
        self._thread = threading.Thread(target=self._run, name="sostenuto-sync", daemon=True)
        self._thread.start()

    def at_once(self) -> bool:
        """Sync in the calling thread, if that is expected to be over in no time.

        Returns:
            Whether it is done; otherwise `sync` has to be awaited.

        Raises:
            StoreError: The disk refused; the answer must not be given.
        """
        if self._cautious:
            self._cautious -= 1
            return False
        if self._average_s > QUICK_S or self._waiting:
            return False
        with self._guard:
            if self._closed:
                raise errors.closed(self._path)
            error = self._sync()
        if error is not None:
            raise error
        return True

    async def sync(self) -> None:
        """Wait until everything committed before this call is on the disk.

        Raises:
            StoreError: The disk refused; the answer must not be given.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._guard:
            if self._closed:
                raise errors.closed(self._path)
            self._waiting.append((loop, future))
            if len(self._waiting) == 1:
                self._work.release()
        await future

    def _run(self) -> None:
        while True:
            self._work.acquire()
            with self._guard:
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            error = self._sync()
            by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
            for loop, future in waiting:
                by_loop.setdefault(loop, []).append(future)
            for loop, futures in by_loop.items():
                try:
                    loop.call_soon_threadsafe(_tell, futures, error)
                except RuntimeError:  # its loop was closed, and nobody waits any more
                    continue
            with self._guard:
                if self._closed and not self._waiting:
                    return

    def _sync(self) -> Exception | None:
        began_s = self._clock()
        try:
            _sync_data(self._fd)
        except OSError as error:
            return errors.translate(error, self._path)
        took_s = self._clock() - began_s
        self._average_s += (took_s - self._average_s) / 8
        if took_s >= HICCUP_S:
            self._cautious = CAUTIOUS
        self.syncs += 1
        return None

    def close(self) -> None:
        """Finish what is asked for and end the thread; blocks for a sync at most."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            if not self._waiting:
                self._work.release()
        self._thread.join()
        os.close(self._fd)


def _tell(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    """Give the waiters of one loop the outcome, in that loop."""
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
