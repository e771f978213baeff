"""Checkpoints in a thread of their own, so that the event loop never waits for one.

The hot connection never checkpoints. This thread copies the write-ahead log into the
file while writers go on; only when the log has still grown does it lock writers out for
the moment it takes to copy the rest, so that the log starts again from its beginning.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from contextlib import closing
from typing import Final

from store import schema

__all__ = ["Checkpointer"]

logger = logging.getLogger(__name__)

#: Log size from which it is copied, and from which writers wait until it is emptied.
COPY_BYTES: Final = 4 << 20
TRUNCATE_BYTES: Final = 8 << 20

#: Commits between two looks at the log's size.
COMMITS: Final = 200

#: Attempts to find a gap between the writers' transactions, and seconds between them.
ATTEMPTS: Final = 100
ATTEMPT_PAUSE_S: Final = 0.0007

PAGE_BYTES: Final = 4096 + 24  # with the frame's header

#: Least seconds between two rounds of attempts that failed, say because of a long reader.
RETRY_S: Final = 1.0


class Checkpointer:
    """Keeps the write-ahead log of one file bounded.

    Args:
        path: The database file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._commits = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="sostenuto-checkpoints", daemon=True)
        self._thread.start()

    def committed(self) -> None:
        """Count a commit; now and then the thread is woken for it."""
        self._commits += 1
        if self._commits >= COMMITS:
            self._commits = 0
            self._wake.set()

    def stop(self) -> None:
        """End the thread and wait for it; blocks for at most one checkpoint."""
        self._stopping.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            with closing(self._connect()) as connection:
                while True:
                    self._wake.wait()
                    self._wake.clear()
                    if self._stopping.is_set():
                        return
                    if not self._checkpoint(connection):
                        self._stopping.wait(RETRY_S)
        except sqlite3.Error as error:
            logger.warning("checkpoints of %s stopped: %s", self._path, error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            schema.uri(self._path, "rw"), uri=True, isolation_level=None, timeout=0.0
        )
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _checkpoint(self, connection: sqlite3.Connection) -> bool:
        """Copy the log when it has grown. Returns whether that succeeded."""
        if self._log_bytes() < COPY_BYTES:
            return True
        try:
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return pages * PAGE_BYTES < TRUNCATE_BYTES or self._truncate(connection)
        except sqlite3.Error as error:
            logger.info("checkpoint of %s put off: %s", self._path, error)
            return False

    def _truncate(self, connection: sqlite3.Connection) -> bool:
        """Empty the log, in a gap between two transactions of the writers.

        Waiting inside SQLite would keep writers out for as long as somebody reads an old
        snapshot, so each attempt gives up at once.
        """
        for _ in range(ATTEMPTS):
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return True
            if self._stopping.wait(ATTEMPT_PAUSE_S):
                return False
        return False

    def _log_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size  # noqa: PTH116  # a plain text path
        except OSError:
            return 0
