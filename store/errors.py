"""Errors of the store: one root, one subclass per cause, each with its remedy.

Every error derives from `resonate_base.ConnectorError`, so the SDK treats it as a
failed substrate: it releases the task and the work is delivered again. Refusals of
the protocol (a missing promise, a stale version) are answers, never errors.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import ClassVar

from resonate_base import ConnectorError

__all__ = [
    "ClosedError",
    "CorruptError",
    "DeletedError",
    "DiskFullError",
    "ForeignFileError",
    "LockedError",
    "NewerSchemaError",
    "StoreError",
    "UnwritableError",
    "translate",
]


class StoreError(ConnectorError):
    """The SQLite file behind a `SqliteConnection` could not serve a request.

    Constructed like its parent, from the causing exception, so that instances
    survive pickling. `str()` names the file and what to do about it.

    Attributes:
        transient: Whether the same request may succeed later without anyone's help.
    """

    transient: ClassVar[bool] = True

    def __str__(self) -> str:
        return str(self.error)


class ClosedError(StoreError):
    """The connection was stopped; start it again or open another one."""

    transient: ClassVar[bool] = False


class CorruptError(StoreError):
    """The file is damaged. It was left as it is; restore a backup or repair a copy."""

    transient: ClassVar[bool] = False


class ForeignFileError(StoreError):
    """The file is not a Sostenuto store (another program's, or no database at all)."""

    transient: ClassVar[bool] = False


class NewerSchemaError(StoreError):
    """The file was written by a newer release, which is the one to open it with."""

    transient: ClassVar[bool] = False


class LockedError(StoreError):
    """Another process held the write lock longer than a request waits for it."""


class DiskFullError(StoreError):
    """The disk or quota is full; nothing of the failed request was kept."""


class UnwritableError(StoreError):
    """The file or its directory may not be read, created or written."""

    transient: ClassVar[bool] = False


class DeletedError(StoreError):
    """The file was deleted, emptied or replaced while it was open."""

    transient: ClassVar[bool] = False


def _failure(kind: type[StoreError], path: str, what: str, remedy: str) -> StoreError:
    return kind(OSError(f"{path}: {what}; {remedy}"))


_CAUSES: tuple[tuple[tuple[str, ...], type[StoreError], str, str], ...] = (
    (
        ("SQLITE_NOTADB",),
        ForeignFileError,
        "this is not a SQLite database",
        "give the path of a Sostenuto store, or of a file that does not exist yet",
    ),
    (
        ("SQLITE_CORRUPT",),
        CorruptError,
        "the database is damaged and was left untouched",
        "restore a backup, or run sqlite3's .recover on a copy",
    ),
    (
        ("SQLITE_FULL",),
        DiskFullError,
        "the disk is full, the request was not applied",
        "free some space; work continues by itself",
    ),
    (
        ("SQLITE_BUSY", "SQLITE_LOCKED"),
        LockedError,
        "another process holds the write lock",
        "end the process that keeps a transaction open, or wait for it",
    ),
    (
        ("SQLITE_READONLY_DBMOVED",),
        DeletedError,
        "the file was moved or deleted while in use",
        "put it back, or start again on another file",
    ),
    (
        ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_CANTOPEN"),
        UnwritableError,
        "the file or its directory cannot be opened for writing",
        "check that the directory exists and its permissions and owner",
    ),
)


#: What SQLite also says when there is no room: for its index of the log, or for a new file.
_PERHAPS_FULL = ("SQLITE_IOERR", "SQLITE_CANTOPEN")
_NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: The index of the log grows by 32 KiB; with less than twice that, a failure is for want of room.
_ROOM_BYTES = 64 << 10

_UNREACHABLE = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)


def translate(error: sqlite3.Error | OSError, path: str) -> StoreError:
    """Turn a driver's error into the typed error that names file and remedy.

    Args:
        error: What `sqlite3` or the operating system raised.
        path: The database file.

    Returns:
        The matching `StoreError`, with `error` as its `__cause__`.
    """
    name = getattr(error, "sqlite_errorname", None) or ""
    text = str(error)
    result: StoreError | None = None
    if isinstance(error, OSError):
        full = error.errno in _NO_ROOM_ERRNOS
    else:
        full = name.startswith(_PERHAPS_FULL) and _has_no_room(path)
    if full:
        name = "SQLITE_FULL"
    for prefixes, kind, what, remedy in _CAUSES:
        if name.startswith(prefixes):
            result = _failure(kind, path, f"{what} ({text})", remedy)
            break
    if result is None and isinstance(error, _UNREACHABLE):
        result = _failure(UnwritableError, path, text, "check the path, and the permissions")
    if result is None:
        what = f"the request could not be completed ({name or type(error).__name__}: {text})"
        result = _failure(StoreError, path, what, "check the disk and the file, then retry")
    result.__cause__ = error
    return result


def _has_no_room(path: str) -> bool:
    try:
        found = os.statvfs(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120  # a plain text path
    except OSError:
        return False
    # Some file systems count no inodes at all.
    return found.f_bavail * found.f_frsize < _ROOM_BYTES or (found.f_files > 0 >= found.f_favail)


def closed(path: str) -> StoreError:
    """The error for a request made after `stop()`, or cut off by it."""
    return _failure(ClosedError, path, "the connection is stopped", "start it again")


def deleted(path: str) -> StoreError:
    """The error for a file that vanished from under an open connection."""
    return _failure(
        DeletedError,
        path,
        "the file was deleted, emptied or replaced while in use, "
        "the request may not have been kept",
        "put the file back, or stop and start on another file",
    )


def foreign(path: str, application_id: int) -> StoreError:
    """The error for another application's SQLite file, which is left untouched."""
    return _failure(
        ForeignFileError,
        path,
        f"this SQLite file belongs to another program (application id {application_id:#x})",
        "give the path of a Sostenuto store, or of a file that does not exist yet",
    )


def irregular(path: str) -> StoreError:
    """The error for a device, a pipe or a socket at the path."""
    return _failure(
        ForeignFileError,
        path,
        "this is a device, a pipe or a socket",
        "give the path of a Sostenuto store, or of a file that does not exist yet",
    )


def lockless(path: str) -> StoreError:
    """The error for a file system that keeps no locks."""
    return _failure(
        UnwritableError,
        path,
        "the file system refuses locks, as a network mount without its lock service does",
        "put the file on a local disk",
    )


def newer(path: str, found: int, known: int) -> StoreError:
    """The error for a file whose schema this release does not know yet."""
    return _failure(
        NewerSchemaError,
        path,
        f"schema version {found} is newer than this release's {known}",
        "upgrade sostenuto, or open the file with the release that wrote it",
    )


def locked(path: str, waited_s: float) -> StoreError:
    """The error for a write lock that was not given up in time."""
    return _failure(
        LockedError,
        path,
        f"another process has held the write lock for {waited_s:g} s",
        "end the process that keeps a transaction open, or wait for it",
    )
