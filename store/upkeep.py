"""Upkeep of a store file: garbage collection, backup, checks, and figures about it.

All of it works on connections of its own, in threads: the event loop never waits for
it, and writers wait at most for one small batch.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiosqlite
import msgspec

from store import errors, lineage, schema
from store import upkeep_statements as sql
from store.outbox import FREE_RELEASES
from store.records import PROMISE_STATES, TASK_STATES

__all__ = ["Stats", "back_up", "check", "collect", "shrink", "stats"]

#: Promises deleted in one transaction: about a millisecond in which writers wait.
BATCH: Final = 200

#: Seconds between batches, so that writers find the lock free.
_BREATHER_S: Final = 0.002

_BUSY_S: Final = 15.0

_pause = asyncio.sleep

#: Pages copied between two reports of progress: some 4 MB.
_PAGES_PER_STEP: Final = 2048


class Stats(msgspec.Struct, frozen=True):
    """Figures about a store file.

    Attributes:
        size_bytes: Size of the database without its log.
        log_bytes: Size of the write-ahead log.
        promises: Number of promises by state, as stored.
        tasks: Number of tasks by state, as stored.
        schedules: Number of schedules.
        messages: Messages that wait for a receiver.
        members: Connections that are open, or have not been found dead yet.
        troubled: Tasks that keep being released without progress.
    """

    size_bytes: int
    log_bytes: int
    promises: dict[str, int]
    tasks: dict[str, int]
    schedules: int
    messages: int
    members: int
    troubled: int


@asynccontextmanager
async def _connected(path: str, mode: str) -> AsyncIterator[aiosqlite.Connection]:
    try:
        connection = await aiosqlite.connect(
            schema.uri(path, mode), uri=True, isolation_level=None, timeout=_BUSY_S
        )
        try:
            yield connection
        finally:
            await connection.close()
    except (sqlite3.Error, OSError) as error:
        raise errors.translate(error, path) from error


async def collect(path: str, before_ms: int, now_ms: int) -> int:
    """Delete whole executions whose root was settled before a time.

    An execution with anything still open in it (a detached call, a promise somebody is
    to settle) is kept until that is settled, too. Promises below a root that does not
    exist are deleted together, when the last of them was settled before the time.

    Args:
        path: The database file.
        before_ms: Roots settled, or expired, at or before this time are deleted.
        now_ms: The present, to tell what is open.

    Returns:
        How many promises were deleted.

    Raises:
        StoreError: The file cannot be used.
    """
    deleted = 0
    async with _connected(path, "rw") as connection:
        await connection.execute("PRAGMA wal_autocheckpoint = 0")
        while_open = (sql.OPEN_BELOW, now_ms)
        cursor: tuple[int, str] = (-1, "")
        while True:
            rows = await connection.execute_fetchall(
                sql.FINISHED_ROOTS, (*cursor, before_ms, BATCH)
            )
            found = list(rows)
            for root, _ in found:
                deleted += await _delete_tree(connection, root, while_open)
            if len(found) < BATCH:
                break
            cursor = (found[-1][1], found[-1][0])
        lapsed = list(await connection.execute_fetchall(sql.LAPSED_ROOTS, (before_ms,)))
        for (root,) in lapsed:
            deleted += await _delete_tree(connection, root, while_open)
        deleted += await _delete_orphans(connection, before_ms)
    return deleted


async def _delete_orphans(connection: aiosqlite.Connection, before_ms: int) -> int:
    """Delete what lies below roots that do not exist, once all of it ended before a time."""
    deleted, cursor = 0, ""
    while True:
        rows = await connection.execute_fetchall(sql.ORPHANED_ORIGINS, (cursor, BATCH))
        origins = [row[0] for row in rows]
        for origin in origins:
            keep = (sql.YOUNG_BELOW, before_ms)
            deleted += await _delete_tree(connection, origin, keep, rooted=False)
        if len(origins) < BATCH:
            return deleted
        cursor = lineage.range_below(origins[-1])[1]


async def _delete_tree(
    connection: aiosqlite.Connection, root: str, keep: tuple[str, int], *, rooted: bool = True
) -> int:
    """Delete an execution, its root last, unless a statement finds something to keep in it."""
    first, last = lineage.range_below(root)
    unless, at_ms = keep
    if list(await connection.execute_fetchall(unless, (first, last, at_ms))):
        return 0
    deleted = 0
    ended = False
    while not ended:
        await connection.execute("BEGIN IMMEDIATE")
        try:
            found = await connection.execute_fetchall(sql.IDS_BELOW, (first, last, BATCH))
            ids = [row[0] for row in found]
            ended = len(ids) < BATCH
            # Somebody may have created a promise in there since the whole was looked at.
            end = last if ended else ids[-1] + "\0"
            if list(await connection.execute_fetchall(unless, (first, end, at_ms))):
                await connection.execute("ROLLBACK")
                return deleted
            if ended and rooted:
                ids.append(root)
            for statement in sql.DELETE_PROMISE:
                await connection.executemany(statement, [(id_,) for id_ in ids])
            await connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has undone it already
                await connection.execute("ROLLBACK")
            raise
        deleted += len(ids)
        await _pause(_BREATHER_S)
    return deleted


async def back_up(
    path: str,
    target: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Copy a store, as it is at one moment, while it is in use.

    Args:
        path: The database file.
        target: The copy; replaced when it exists, and never seen half written.
        progress: Called from another thread with the pages copied so far, and all.

    Raises:
        StoreError: The file cannot be read, or the copy cannot be written.
    """
    goal = Path(target)
    part = goal.with_name(f".{goal.name}.{os.getpid()}.part")

    def prepare() -> None:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def publish() -> None:
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        part.replace(goal)

    def report(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        await asyncio.to_thread(prepare)
        async with _connected(path, "ro") as source, aiosqlite.connect(part) as copy:
            # A snapshot held from here on: without it each step would find the file changed by
            # others and begin again.
            await source.execute("BEGIN")
            await source.execute_fetchall("SELECT 1 FROM sqlite_schema LIMIT 1")
            await source.backup(copy, pages=_PAGES_PER_STEP, progress=report, sleep=0)
            await copy.execute("PRAGMA journal_mode = DELETE")
        await asyncio.to_thread(publish)
    except OSError as error:
        raise errors.translate(error, str(goal)) from error
    finally:
        await asyncio.to_thread(schema.discard, str(part))


async def shrink(path: str) -> int:
    """Give the space of deleted rows back to the file system, by rewriting the file.

    Other connections may stay open: their reads go on, their writes wait until the file is
    rewritten (some 70 MB a second on a common disk), and they give up after 15 s.

    Args:
        path: The database file. About twice what is left of it must be free on its disk.

    Returns:
        How many bytes the file became smaller; 0 while a reader keeps the old pages in use,
        which are given back when the last connection closes.

    Raises:
        StoreError: The file cannot be used, or its disk is full; nothing is lost.
    """
    before = await asyncio.to_thread(_size_bytes, path)
    async with _connected(path, "rw") as connection:
        await connection.execute("VACUUM")
        await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    return max(0, before - await asyncio.to_thread(_size_bytes, path))


async def check(path: str) -> list[str]:
    """Check a store file: SQLite's own check, and what must hold between the tables.

    Args:
        path: The database file.

    Returns:
        What is wrong, one sentence each; empty when nothing is.

    Raises:
        StoreError: The file cannot be read at all.
    """
    async with _connected(path, "ro") as connection:
        problems = [
            str(row[0])
            for row in await connection.execute_fetchall("PRAGMA integrity_check")
            if row[0] != "ok"
        ]
        if not problems:
            for sentence, statement in sql.INVARIANTS.items():
                rows = await connection.execute_fetchall(statement)
                problems += [f"{sentence}: {row[0]}" for row in rows]
        return problems


async def stats(path: str) -> Stats:
    """Count what is in a store file.

    Raises:
        StoreError: The file cannot be read.
    """
    async with _connected(path, "ro") as connection:

        async def one(statement: str, *parameters: object) -> Any:
            rows = list(await connection.execute_fetchall(statement, parameters))
            return rows[0][0]

        pages = await one("PRAGMA page_count")
        promises = {row[0]: row[1] for row in await connection.execute_fetchall(sql.COUNT_PROMISES)}
        tasks = {row[0]: row[1] for row in await connection.execute_fetchall(sql.COUNT_TASKS)}
        return Stats(
            size_bytes=pages * await one("PRAGMA page_size"),
            log_bytes=await asyncio.to_thread(_size_bytes, schema.log_path(path)),
            promises={name: promises.get(code, 0) for code, name in enumerate(PROMISE_STATES)},
            tasks={name: tasks.get(code, 0) for code, name in enumerate(TASK_STATES)},
            schedules=await one(sql.COUNT_SCHEDULES),
            messages=await one(sql.COUNT_MESSAGES),
            members=await one(sql.COUNT_MEMBERS),
            troubled=await one(sql.COUNT_TROUBLED, FREE_RELEASES),
        )


def _size_bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
