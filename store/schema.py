"""Creating, checking and migrating the schema of a store file.

A file is looked at before anything is written: another program's database, a damaged
file and one of a newer release are refused and left byte for byte as they are.
"""

from __future__ import annotations

import os
import sqlite3
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
VERSION: Final = 1

#: Statements that lead from a version to the next one, by the version they start from.
MIGRATIONS: Final[Mapping[int, str]] = {}


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
        with closing(_connect(path, "ro")) as probe:
            found = _inspect(probe, path, version)
        if found == version:
            return
        with closing(_connect(path, "rw")) as connection:
            if found:
                _back_up(connection, path, found)
            _apply(connection, path, version, migrations)
    except (sqlite3.Error, OSError) as error:
        raise errors.translate(error, path) from error


def _create_private(path: str) -> None:
    """Create the file readable by its owner alone; SQLite gives its side files the same."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except FileNotFoundError as error:
        parent = Path(path).parent
        raise FileNotFoundError(error.errno, f"the directory {parent} does not exist") from error


def _connect(path: str, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(uri(path, mode), uri=True, isolation_level=None, timeout=5.0)


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


def _back_up(connection: sqlite3.Connection, path: str, found: int) -> None:
    """Copy a file before its schema is changed, next to it, once per version."""
    target = f"{path}.v{found}.bak"
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)


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
