"""Checkpoints in a thread of their own, so that the event loop never waits for one.

The hot connection never checkpoints. This thread copies the write-ahead log into the
file while writers go on; only when the log has still grown does it lock writers out for
the moment it takes to copy the rest, so that the log starts again from its beginning. The
log's own file is kept and written over, which is cheaper than growing a new one, most of
all when every commit is synced.
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

#: Bytes written to the log from which it is copied, bytes in it from which writers wait
#: until it starts again, and size of its file from which that is cut.
COPY_BYTES: Final = 4 << 20
RESTART_BYTES: Final = 6 << 20
TRUNCATE_BYTES: Final = 32 << 20

#: Attempts to find a gap between the writers' transactions, and seconds between them.
ATTEMPTS: Final = 100
ATTEMPT_PAUSE_S: Final = 0.0007

#: Bytes of a frame's header in the log.
FRAME_BYTES: Final = 24

#: Least seconds between two rounds of attempts that failed, say because of a long reader.
RETRY_S: Final = 1.0


class Checkpointer:
    """Keeps the write-ahead log of one file bounded.

    Args:
        path: The database file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._log_path = schema.log_path(path)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._written_bytes = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="sostenuto-checkpoints", daemon=True)
        self._thread.start()

    def committed(self, size_bytes: int) -> None:
        """Count what a commit wrote to the log, roughly; now and then it wakes the thread."""
        self._written_bytes += size_bytes
        if self._written_bytes >= COPY_BYTES:
            self._written_bytes = 0
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
                (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
                connection.execute("PRAGMA busy_timeout = 0")
                failed = False
                while True:
                    self._wake.wait(RETRY_S if failed else None)
                    self._wake.clear()
                    if self._stopping.is_set():
                        return
                    failed = not self._checkpoint(connection, page_bytes + FRAME_BYTES)
        except sqlite3.Error as error:
            logger.warning("checkpoints of %s stopped: %s", self._path, error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            schema.uri(self._path, "rw"), uri=True, isolation_level=None, timeout=RETRY_S
        )
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _checkpoint(self, connection: sqlite3.Connection, frame_bytes: int) -> bool:
        """Copy the log. Returns whether it is short enough now."""
        try:
            _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return frames * frame_bytes < RESTART_BYTES or self._restart(connection)
        except sqlite3.Error as error:
            logger.info("checkpoint of %s put off: %s", self._path, error)
            return False

    def _restart(self, connection: sqlite3.Connection) -> bool:
        """Have the log start again, in a gap between two transactions of the writers.

        Waiting inside SQLite would keep writers out for as long as somebody reads an old
        snapshot, so each attempt gives up at once.
        """
        mode = "TRUNCATE" if self._log_bytes() >= TRUNCATE_BYTES else "RESTART"
        for _ in range(ATTEMPTS):
            busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            if not busy:
                return True
            if self._stopping.wait(ATTEMPT_PAUSE_S):
                return False
        return False

    def _log_bytes(self) -> int:
        try:
            return os.stat(self._log_path).st_size  # noqa: PTH116  # a plain text path
        except OSError:
            return 0
