"""``sostenuto gc`` and ``backup``."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from durable.cli.copying import Copying
from durable.cli.documents import print_json
from durable.cli.exits import Exit, ExitCode
from durable.cli.source_files import parse_duration
from durable.cli.stores import needed_file
from durable.cli.terminal import console
from store import StoreError
from store import upkeep as store_upkeep
from store import upkeep_statements as sql
from store.schema import prepare, uri

__all__ = ["GcRequest", "backup_command", "gc_command", "size_text"]

#: Promises and characters of one execution: what a dry run tells before anything is deleted.
_WEIGHT = (
    "SELECT count(*), coalesce(sum(length(id) + length(tags) + coalesce(length(param), 0) "
    "+ coalesce(length(value), 0)), 0) FROM promises WHERE id = ? OR (id > ? AND id < ?)"
)


#: What is left of a file, in bytes, above which it is not rewritten under other processes: their
#: writes wait meanwhile, and give up after some 15 seconds.
SHARED_REWRITE_BYTES = 256 * 1024 * 1024


class GcRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``sostenuto gc``."""

    db: str | None
    older_than: str | None
    vacuum: bool
    yes: bool
    json: bool


def gc_command(request: GcRequest) -> None:
    """Delete executions that ended long ago; without ``yes``, only say what would go.

    Raises:
        Exit: The file cannot be used, or the age is none.
    """
    older_than, yes = request.older_than, request.yes
    if older_than is None and not request.vacuum:
        raise Exit(ExitCode.USAGE, "say what is to go: --older-than AGE, such as 30d, or --vacuum")
    age_s = None if older_than is None else parse_duration(older_than, "--older-than", zero=True)
    path = str(needed_file(request.db, "gc"))
    found: dict[str, int] = {"executions": 0, "orphans": 0, "promises": 0, "size_bytes": 0}
    deleted = shrunk = 0
    now_ms = round(time.time() * 1000)
    try:
        prepare(path)
        if age_s is not None:
            before_ms = now_ms - round(age_s * 1000)
            with console(stderr=True).status("looking for executions that ended long ago"):
                found = _preview(path, before_ms, now_ms)
            if yes and found["promises"]:
                with console(stderr=True).status(f"deleting {found['promises']} promises"):
                    deleted = asyncio.run(store_upkeep.collect(path, before_ms, now_ms))
        if request.vacuum and yes:
            _check_rewritable(path)
            with console(stderr=True).status(f"rewriting {path}"):
                shrunk = asyncio.run(store_upkeep.shrink(path))
        free = _free_bytes(path)
    except StoreError as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from error
    except sqlite3.Error as error:
        raise Exit(
            ExitCode.UNREACHABLE, f"{path}: {error}; sostenuto doctor says what is wrong"
        ) from error
    if request.json:
        print_json(
            {
                **found,
                "dry_run": not yes,
                "deleted_promises": deleted,
                "free_bytes": free,
                "shrunk_bytes": shrunk,
            },
            indent=None,
        )
        return
    for line in _gc_lines(request, found, free, shrunk):
        print(line)


def _gc_lines(request: GcRequest, found: dict[str, int], free: int, shrunk: int) -> Iterator[str]:
    orphans = _number(found["orphans"], "orphan")
    lost = f" and {orphans} (steps whose root is gone)" if found["orphans"] else ""
    what = (
        f"{_number(found['executions'], 'execution')} that ended over {request.older_than} ago"
        f"{lost}: "
        f"{_number(found['promises'], 'promise')}, {size_text(found['size_bytes'])}"
    )
    if request.older_than is not None:
        yield f"{'deleted' if request.yes else 'would delete'} {what}"
    if request.vacuum and request.yes:
        yield f"the file is {size_text(shrunk)} smaller"
        if free:
            yield f"{size_text(free)} more is given back when no other process reads it"
    elif request.yes:
        yield (
            f"the file keeps its size: {size_text(free)} of it is free and used again; "
            "gc --vacuum --yes gives it back to the disk"
        )
    else:
        if request.vacuum:
            yield f"would rewrite the file: {size_text(free)} of it is free already"
        yield "nothing was changed: --yes does it"


def _check_rewritable(path: str) -> None:
    """Refuse to hold other processes up for long."""
    figures = asyncio.run(store_upkeep.stats(path))
    left = figures.size_bytes - _free_bytes(path)
    if figures.members and left > SHARED_REWRITE_BYTES:
        raise Exit(
            ExitCode.USAGE,
            f"{_number(figures.members, 'process')} may have {path} open, and rewriting "
            f"{size_text(left)} would hold their writes up for too long: end them first",
        )


def _free_bytes(path: str) -> int:
    # Not read-only: the last to close clears the log away, and only a writer can.
    with closing(sqlite3.connect(uri(path, "rw"), uri=True)) as connection:
        (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)


def _preview(path: str, before_ms: int, now_ms: int) -> dict[str, int]:
    """Count what a collection would delete, with the statements that it uses, on one snapshot."""
    executions = orphans = promises = size_bytes = 0
    with closing(sqlite3.connect(uri(path, "ro"), uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        roots = [
            row[0]
            for row in connection.execute(sql.FINISHED_ROOTS, (-1, "", before_ms, -1)).fetchall()
        ]
        roots += [row[0] for row in connection.execute(sql.LAPSED_ROOTS, (before_ms,)).fetchall()]
        for root in roots:
            below = (f"{root}:", f"{root};")
            if connection.execute(sql.OPEN_BELOW, (*below, now_ms)).fetchone() is not None:
                continue
            count, size = connection.execute(_WEIGHT, (root, *below)).fetchone()
            executions, promises, size_bytes = executions + 1, promises + count, size_bytes + size
        for (origin,) in connection.execute(sql.ORPHANED_ORIGINS, ("", -1)).fetchall():
            below = (f"{origin}:", f"{origin};")
            if connection.execute(sql.YOUNG_BELOW, (*below, before_ms)).fetchone() is not None:
                continue
            count, size = connection.execute(_WEIGHT, (origin, *below)).fetchone()
            orphans, promises, size_bytes = orphans + 1, promises + count, size_bytes + size
    return {
        "executions": executions,
        "orphans": orphans,
        "promises": promises,
        "size_bytes": size_bytes,
    }


def backup_command(target: str, db: str | None, *, force: bool, json: bool) -> None:
    """Copy the database, and its signing key, as they are at one moment.

    Raises:
        Exit: The copy exists, or a file cannot be read or written.
    """
    path = needed_file(db, "backup")
    goal = Path(target)
    if goal.is_dir():
        raise Exit(ExitCode.USAGE, f"{target!r} is a directory: name the file of the copy")
    if goal.exists() and goal.samefile(path):
        raise Exit(ExitCode.USAGE, f"{target!r} is the database itself: name another file")
    if goal.exists() and not force:
        raise Exit(ExitCode.USAGE, f"{target!r} exists: --force replaces it")
    try:
        prepare(str(path))
        with Copying(str(path)) as copying:
            asyncio.run(store_upkeep.back_up(str(path), goal, progress=copying.update))
        key = _copy_key(path, goal)
    except StoreError as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from error
    except sqlite3.Error as error:
        raise Exit(
            ExitCode.UNREACHABLE, f"{path}: {error}; sostenuto doctor says what is wrong"
        ) from error
    except OSError as error:
        raise Exit(
            ExitCode.UNREACHABLE, f"the copy {target!r} was not finished: {error}"
        ) from error
    size_bytes = goal.stat().st_size
    if json:
        print_json(
            {"file": str(goal), "size_bytes": size_bytes, "key_file": key and str(key)}, indent=None
        )
        return
    print(f"{goal}: {size_text(size_bytes)}, a whole copy of {path}")
    if key is not None:
        print(f"{key}: the key that its signed values need; keep both private")


def _copy_key(path: Path, goal: Path) -> Path | None:
    """Copy the signing key beside the copy, readable by its owner alone from the beginning."""
    key, copy = Path(f"{path}.key"), Path(f"{goal}.key")
    if not key.exists():
        return None
    draft = copy.with_name(f".{copy.name}.{os.getpid()}.part")
    try:
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file, key.open("rb") as source:
            shutil.copyfileobj(source, file)
        draft.replace(copy)
    finally:
        draft.unlink(missing_ok=True)
    return copy


def _number(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def size_text(size_bytes: int) -> str:
    """Return a size for people, in binary units."""
    size, units = float(size_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"
