"""The connection that serves the event loop: transactions, time limits, file checks.

It never waits: a write lock held by another process is reported at once and retried by
the caller, and checkpoints are left to a thread of their own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from typing import Final

from store import errors, schema
from store import statements as sql
from store.transaction import Created, Transaction

__all__ = ["Busy", "Database"]

#: Pages cached per connection, in KiB as a negative number.
_CACHE: Final = "PRAGMA cache_size = -32768"

#: Prepared statements kept: more than the store has.
_STATEMENTS: Final = 256

#: How many times the log's size has to be free on the disk for it to be reserved.
PLENTY: Final = 32

#: How the names of SQLite's codes for a lock that another process holds begin.
_HELD: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")

#: Connections inherited over a fork. They must be neither used nor closed by the child:
#: SQLite's locks belong to the parent process.
_abandoned: Final[list[object]] = []


type Execute = Callable[..., sqlite3.Cursor]


class Busy(Exception):  # noqa: N818  # a condition to retry, not an error anyone sees
    """Another process holds the write lock right now."""


class Database:
    """One SQLite connection to a store file, used by one thread at a time.

    Args:
        path: The file, prepared by `schema.prepare`.
        wait_s: How long opening waits for others, such as the last one that closes the file
            and folds its log; nothing waits afterwards.

    Attributes:
        created: What fences remember of the promises they created through it.
    """

    def __init__(self, path: str, wait_s: float = 0.0) -> None:
        self.path = path
        self.os_pid = os.getpid()
        self.connection = sqlite3.connect(
            schema.uri(path, "rw"),
            uri=True,
            isolation_level=None,
            timeout=wait_s,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        self._cursor = self.connection.cursor()
        self._execute = self._cursor.execute
        try:
            for pragma in (
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = NORMAL",
                "PRAGMA wal_autocheckpoint = 0",
                "PRAGMA secure_delete = OFF",
                "PRAGMA trusted_schema = OFF",
                _CACHE,
                "SELECT id FROM members LIMIT 1",  # opens the log, while waiting is allowed
                "PRAGMA busy_timeout = 0",
            ):
                self._execute(pragma).fetchall()
        except BaseException:
            self.connection.close()
            raise
        self._log_path = schema.log_path(path)
        self._identity = _identity(path)
        self._log_identity: tuple[int, int] | None = None
        self._file = _handle(path)
        self._writing = False
        self._barred: Callable[[str], errors.StoreError] | None = None
        self.created: Created = {}

    def begin(self, now_ms: int, member: int | None, *, write: bool) -> Transaction:
        """Start a transaction.

        Raises:
            Busy: Another process is writing.
            StoreError: The file cannot be used.
        """
        if self._barred is not None and (write or self._barred is errors.closed):
            raise self._barred(self.path)
        try:
            self._execute(sql.BEGIN_WRITE if write else sql.BEGIN_READ)
        except sqlite3.Error as error:
            raise self._translated(error) from error
        self._writing = write
        return Transaction(self._execute, now_ms, member, self.created)

    def commit(self, *, check: bool = True) -> None:
        """Commit, and make sure that what was written is still the file at the path.

        Args:
            check: Whether what was written would be missed if the file were gone.

        Raises:
            StoreError: The commit failed and nothing was kept, or the file is gone.
        """
        try:
            self._execute(sql.COMMIT)
        except sqlite3.Error as error:
            self.rollback()
            raise errors.translate(error, self.path) from error
        if check and self._writing:
            self._check()

    def _check(self) -> None:
        """Raise when the file written to is no longer in any directory.

        One that was moved holds what was written; `look` notices it soon after.
        """
        if self._file is None:
            present = _identity(self.path, emptied=False) == self._identity
        else:
            found = os.fstat(self._file)
            present = found.st_nlink > 0 and found.st_size > 0
        if not present:
            raise errors.deleted(self.path)

    def rollback(self) -> None:
        """Undo the open transaction, if SQLite has not done so already."""
        if self._barred is not errors.closed and self.connection.in_transaction:
            try:
                self._execute(sql.ROLLBACK)
            except sqlite3.Error:
                self._cursor.close()
                self._cursor = self.connection.cursor()
                self._execute = self._cursor.execute

    def at_once[*Ts, R](
        self, work: Callable[[Execute, *Ts], R], *args: *Ts, check: bool = True
    ) -> R:
        """Run work of one statement, which is a transaction by itself.

        Args:
            work: Executes at most one statement, and fetches all it returns.
            args: What it is given after `execute`.
            check: As for `commit`.

        Raises:
            Busy: Another process is writing; nothing was done.
            StoreError: The statement failed and nothing was kept, or the file is gone.
        """
        if self._barred is not None:
            raise self._barred(self.path)
        try:
            result = work(self._execute, *args)
        except sqlite3.Error as error:
            self.rollback()
            raise self._translated(error) from error
        if check:
            self._check()
        return result

    def _translated(self, error: sqlite3.Error) -> Exception:
        """What to raise for a driver's error: a condition to retry, or one of the store's."""
        if (getattr(error, "sqlite_errorname", "") or "").startswith(_HELD):
            return Busy()
        return errors.translate(error, self.path)

    def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        (version,) = self._execute(sql.DATA_VERSION).fetchone()
        return int(version)

    def reserve_log(self, size_bytes: int) -> None:
        """Give the log the size it will have, if there is plenty of room.

        Syncing a file that grows takes twice as long. Under the write lock, so that what is
        allocated lies behind everything anybody wrote; SQLite reads no further than that.

        Args:
            size_bytes: The size; a longer log is left as it is.
        """
        allocate = getattr(os, "posix_fallocate", None)
        if allocate is None:
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            self._execute(sql.BEGIN_WRITE)
            try:
                log = os.open(self._log_path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    room = os.fstatvfs(log)
                    if room.f_bavail * room.f_frsize > PLENTY * size_bytes:
                        allocate(log, 0, size_bytes)
                finally:
                    os.close(log)
            finally:
                self._execute(sql.ROLLBACK)

    def look(self) -> bool:
        """Whether the open file and its log are still those at the path.

        While they are not, nothing more is written: nobody would open it there again.
        """
        if self._barred is errors.closed:
            return False
        log = _identity(self._log_path)
        if self._log_identity is None:
            self._log_identity = log
        found = _identity(self.path, emptied=False)
        gone = found != self._identity or log != self._log_identity
        self._barred = errors.deleted if gone else None
        return not gone

    def close(self) -> None:
        """Close the connection; after a fork it is only forgotten."""
        handle, self._file = self._file, None
        if handle is not None:
            os.close(handle)
        if os.getpid() != self.os_pid:
            _abandoned.append(self.connection)
            return
        self.rollback()
        self._barred = errors.closed
        self._cursor.close()
        self.connection.close()


def _handle(path: str) -> int | None:
    """A descriptor that only names the file, to look at it on every commit.

    Closing an ordinary one would give up the locks that SQLite holds on the file in this
    process, which is how POSIX defines them; one opened with O_PATH has none to give up.
    """
    flag = getattr(os, "O_PATH", None)
    return None if flag is None else os.open(path, flag | os.O_CLOEXEC)


def _identity(path: str, *, emptied: bool = True) -> tuple[int, int] | None:
    """Which file is at a path; None when there is none, or an empty one that must not be."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a plain text path
    except OSError:
        return None
    if not emptied and not found.st_size:
        return None
    return found.st_dev, found.st_ino
