"""Power-loss safety: the write-ahead log is synced before an answer is given.

A commit appends to the log; syncing the log afterwards makes it durable together with
everything before it, which is what SQLite's own `synchronous = FULL` does within the
commit. Doing it in a thread keeps the event loop free, and one sync serves every request
that waits for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from store import errors

__all__ = ["Syncer"]

_sync_data = getattr(os, "fdatasync", os.fsync)


class Syncer:
    """Syncs one write-ahead log.

    Args:
        path: The log, which exists as long as the database is open.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sostenuto-sync")
        self._guard = threading.Lock()
        self._queued: Future[None] | None = None
        self.syncs = 0

    async def sync(self) -> None:
        """Wait until everything committed before this call is on the disk.

        Raises:
            StoreError: The disk refused; the answer must not be given.
        """
        with self._guard:
            if self._queued is None:
                self._queued = self._executor.submit(self._sync)
            queued = self._queued
        await asyncio.shield(asyncio.wrap_future(queued))

    def _sync(self) -> None:
        with self._guard:
            self._queued = None  # a commit made from here on needs a sync of its own
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            _sync_data(self._fd)
        except OSError as error:
            raise errors.translate(error, self._path) from error
        self.syncs += 1

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=True)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
