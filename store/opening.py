"""Opening a store file and becoming one of its members."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from store import errors, schema
from store import statements as sql
from store.database import Busy, Database
from store.members import MemberLocks, locks_for
from store.outbox import Listener
from store.transaction import Transaction

__all__ = ["LOCK_WAIT_S", "join", "open_database"]

#: How long a request waits for another process's write lock before it fails.
LOCK_WAIT_S: Final = 15.0
_PAUSE_S: Final = 0.005


def open_database(path: str) -> Database:
    """Prepare the file at a path and open it; may wait for other processes.

    Raises:
        StoreError: The file cannot be used; the subclass says why.
    """
    schema.prepare(path)
    try:
        return Database(path, LOCK_WAIT_S)
    except (sqlite3.Error, OSError) as error:
        raise errors.translate(error, path) from error


def join(
    database: Database, pid: str, unicast: str, anycast: str, clock: Callable[[], int]
) -> tuple[Listener, MemberLocks]:
    """Enter a connection among the members, holding the lock that proves it lives.

    Args:
        database: The open file.
        pid: The connection's name.
        unicast: Its own address.
        anycast: Its group's address.
        clock: Returns milliseconds since the epoch.

    Returns:
        The new member, and the locks of this process on the file's members.

    Raises:
        StoreError: The file cannot be written, or its side file cannot be locked.
    """
    locks = locks_for(f"{os.path.realpath(database.path)}-members")
    tx = _begin(database, clock)
    try:
        member = tx.insert(sql.MEMBER_ADD, pid, os.getpid(), unicast, anycast, 0, tx.now_ms)
        locks.hold(member)
        database.commit()
    except sqlite3.Error as error:
        database.rollback()
        raise errors.translate(error, database.path) from error
    except OSError as error:
        database.rollback()
        raise errors.translate(error, locks.path) from error
    return Listener(member, unicast, anycast), locks


def _begin(database: Database, clock: Callable[[], int]) -> Transaction:
    """Start a writing transaction from a thread that may wait."""
    give_up = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return database.begin(clock(), None, write=True)
        except Busy as busy:
            if time.monotonic() > give_up:
                raise errors.locked(database.path, LOCK_WAIT_S) from busy
            time.sleep(_PAUSE_S)
