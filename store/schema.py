"""Creating, checking and migrating the schema of a store file.

A file is looked at before anything is written: another program's database, a damaged
file and one of a newer release are refused and left byte for byte as they are.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import quote

from store import errors

__all__ = ["APPLICATION_ID", "MIGRATIONS", "VERSION", "prepare"]

#: Marks a SQLite file as a Sostenuto store ("Sost").
APPLICATION_ID: Final = 0x536F7374

#: The schema version this release reads and writes.
VERSION: Final = 2

#: Statements that lead from a version to the next one, by the version they start from.
MIGRATIONS: Final[Mapping[int, str]] = {
    1: """
    UPDATE promises SET kind = kind | 16 WHERE state + 0 = 0 AND kind & 7 = 0;
    DROP INDEX roots_lapsing;
    CREATE INDEX promises_lapsing ON promises (timeout_at) WHERE state = 0 AND kind & 16;
    DROP INDEX tasks_open;
    CREATE INDEX tasks_by_state ON tasks (state, id);
    """,
}


#: How long to wait for another process that is copying and migrating the same file.
_MIGRATION_WAIT_S: Final = 120.0


#: What file systems say that keep no locks, such as a network mount without its lock service.
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


def uri(path: str, mode: str) -> str:
    """The SQLite URI of a path, opened in a mode (`ro`, `rw`)."""
    return f"file:{quote(os.path.abspath(path))}?mode={mode}"  # noqa: PTH100  # keeps symlinks as given


def prepare(
    path: str, *, version: int = VERSION, migrations: Mapping[int, str] = MIGRATIONS
) -> None:
    """Make the file at a path ready: create it, or check and migrate what is there.

    Args:
        path: The database file; its directory must exist.
        version: The schema version to end at.
        migrations: Statements by the version they start from.

    Raises:
        StoreError: One of its subclasses, by what is wrong with the file.
    """
    try:
        _create_private(path)
        found = _look(path, version)
        if found == version:
            return
        with closing(_connect(path, "rw", wait_s=_MIGRATION_WAIT_S)) as connection:
            _apply(connection, path, version, migrations)
    except (sqlite3.Error, OSError) as error:
        raise errors.translate(error, path) from error


def _create_private(path: str) -> None:
    """Create the file readable by its owner alone; SQLite gives its side files the same."""
    real = os.path.realpath(path)  # a link may lead to a file that is not there yet
    try:
        fd = os.open(real, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            _try_lock(fd, path, real)
        finally:
            os.close(fd)
    except FileExistsError:
        # Opening a named pipe would wait for whoever is at its other end.
        with contextlib.suppress(FileNotFoundError):  # a link that leads nowhere
            mode = os.stat(path).st_mode  # noqa: PTH116  # a plain text path
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "this is a directory") from None
            if not stat.S_ISREG(mode):
                raise errors.irregular(path) from None
    except FileNotFoundError as error:
        parent = Path(path).parent
        raise FileNotFoundError(error.errno, f"the directory {parent} does not exist") from error


def _try_lock(fd: int, path: str, real: str) -> None:
    """Refuse a file system without locks at once; SQLite takes that for a writer to wait for.

    The byte is none that SQLite locks, so nobody else is held up.
    """
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return
        os.unlink(real)  # noqa: PTH108  # a plain text path
        raise errors.lockless(path) from error


def log_path(path: str) -> str:
    """Where SQLite keeps a file's write-ahead log: beside the file that a link leads to."""
    return f"{os.path.realpath(path)}-wal"


def _connect(path: str, mode: str, wait_s: float = 5.0) -> sqlite3.Connection:
    return sqlite3.connect(uri(path, mode), uri=True, isolation_level=None, timeout=wait_s)


def _look(path: str, version: int) -> int:
    """The schema version of a file, found without leaving anything beside it.

    Reading a file in WAL mode makes a log and an index beside it, also when it is then
    refused. A file without a log can be read as one that nobody writes; should somebody
    do so in this very moment and be seen half way, it is read the usual way.
    """
    real = os.path.realpath(path)
    if not any(_size_bytes(real + suffix) for suffix in ("-wal", "-journal")):
        with contextlib.suppress(sqlite3.Error), closing(_connect(path, "ro&immutable=1")) as still:
            return _inspect(still, path, version)
    with closing(_connect(path, "ro")) as probe:
        return _inspect(probe, path, version)


def _size_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a plain text path
    except OSError:
        return 0


def _inspect(connection: sqlite3.Connection, path: str, version: int) -> int:
    """The schema version of a file; 0 for an empty one."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id == 0 and found == 0 and tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise errors.foreign(path, application_id)
    if found > version:
        raise errors.newer(path, found, version)
    return int(found)


def discard(part: str) -> None:
    """Delete an unfinished copy, and what SQLite left beside it when the disk was full."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part + suffix)  # noqa: PTH108  # a plain text path


def _back_up(path: str, found: int) -> None:
    """Copy a file before its schema is changed, next to it; the caller keeps writers out."""
    target = f"{path}.v{found}.bak"
    part = f"{target}.part"
    os.close(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with closing(_connect(path, "ro")) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        os.replace(part, target)  # noqa: PTH105  # plain text paths
    finally:
        discard(part)


def _apply(
    connection: sqlite3.Connection, path: str, version: int, migrations: Mapping[int, str]
) -> None:
    """Create the schema or migrate it, in one transaction; another process may be first."""
    # A step dirties one page, which is copied whole to the log: half of the usual 4 KiB
    # makes a step cheaper. Without effect on a file that has pages already.
    connection.execute("PRAGMA page_size = 2048")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _inspect(connection, path, version)
        script = ""
        if found == 0:
            script = resources.files("store").joinpath("schema.sql").read_text("utf-8")
        else:
            if found < version:
                _back_up(path, found)
            for step in range(found, version):
                script += migrations[step] + "\n"
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """A script's statements one by one: `executescript` would commit the transaction."""
    statements, current = [], ""
    for part in script.split(";")[:-1]:
        current += part + ";"
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
