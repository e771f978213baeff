"""``sostenuto gc`` and ``backup``."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from durable.cli.exits import Exit, ExitCode
from durable.cli.source_files import parse_duration
from durable.cli.stores import needed_file
from durable.cli.terminal import console
from store import StoreError
from store import upkeep as store_upkeep
from store import upkeep_statements as sql
from store.schema import prepare, uri

__all__ = ["backup_command", "gc_command"]

#: Promises and characters of one execution: what a dry run tells before anything is deleted.
_WEIGHT = (
    "SELECT count(*), coalesce(sum(length(id) + length(tags) + coalesce(length(param), 0) "
    "+ coalesce(length(value), 0)), 0) FROM promises WHERE id = ? OR (id > ? AND id < ?)"
)


def gc_command(db: str | None, older_than: str, *, yes: bool, json: bool) -> None:
    """Delete executions that ended long ago; without ``yes``, only say what would go.

    Raises:
        Exit: The file cannot be used, or the age is none.
    """
    age_s = parse_duration(older_than, "--older-than")
    path = str(needed_file(db, "gc"))
    now_ms = round(time.time() * 1000)
    before_ms = now_ms - round(age_s * 1000)
    try:
        prepare(path)
        with console(stderr=True).status("looking for executions that ended long ago"):
            found = _preview(path, before_ms, now_ms)
        deleted = 0
        if yes and found["executions"]:
            with console(stderr=True).status(f"deleting {found['promises']} promises"):
                deleted = asyncio.run(store_upkeep.collect(path, before_ms, now_ms))
    except (StoreError, sqlite3.Error) as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from error
    if json:
        print(json_module.dumps({**found, "dry_run": not yes, "deleted_promises": deleted}))
        return
    what = (
        f"{_number(found['executions'], 'execution')} that ended over {older_than} ago: "
        f"{_number(found['promises'], 'promise')}, {size_text(found['size_bytes'])}"
    )
    if yes:
        print(f"deleted {what}. The space is used again; the file does not shrink")
    else:
        print(f"would delete {what}. Nothing was deleted: --yes deletes")


def _preview(path: str, before_ms: int, now_ms: int) -> dict[str, int]:
    """Count what a collection would delete, with the statements that it uses, on one snapshot."""
    executions = promises = size_bytes = 0
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
    return {"executions": executions, "promises": promises, "size_bytes": size_bytes}


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
        with console(stderr=True).status(f"copying {path}"):
            asyncio.run(store_upkeep.back_up(str(path), goal))
            key = _copy_key(path, goal)
    except (StoreError, sqlite3.Error) as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from error
    except OSError as error:
        raise Exit(
            ExitCode.UNREACHABLE, f"the copy {target!r} was not finished: {error}"
        ) from error
    size_bytes = goal.stat().st_size
    if json:
        print(
            json_module.dumps(
                {"file": str(goal), "size_bytes": size_bytes, "key_file": key and str(key)}
            )
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
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_text(size_bytes: int) -> str:
    """Return a size for people, in binary units."""
    size, units = float(size_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"
