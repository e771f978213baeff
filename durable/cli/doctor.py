"""``sostenuto doctor``: what could be wrong with an installation and its store, and the remedy."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from durable.cli.documents import print_json
from durable.cli.exits import Exit, ExitCode
from durable.cli.stores import existing_file, opened, store_url
from durable.cli.terminal import console
from durable.cli.upkeep import size_text
from store import StoreError, schema, upkeep

__all__ = ["Finding", "doctor_command"]

#: STRICT tables, which the store's schema uses, came with this version of SQLite.
_SQLITE_OLDEST = (3, 37, 0)

#: File systems of other machines, on which SQLite's locks and shared memory cannot be relied on.
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})

_FREE_BYTES_LEAST = 100 << 20
_LOG_BYTES_MOST = 64 << 20

#: Room within a file that is worth a word, where it is also half of the file.
_FREE_BYTES_WORTH = 8 << 20

_OTHER_FILE = "name another file with --db"

#: Clocks of one machine agree; a store's newest time may be this far ahead all the same.
_SKEW_MS_MOST = 2_000


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at.

    Attributes:
        check: What was looked at.
        level: ``ok``, ``note``, ``warning`` or ``problem``.
        text: What was found.
        remedy: What to do about it, or "".
    """

    check: str
    level: Literal["ok", "note", "warning", "problem"]
    text: str
    remedy: str = ""


def doctor_command(db: str | None, *, json: bool) -> None:
    """Look at the installation and the store.

    Raises:
        Exit: 1 where there is a problem, 3 where the store cannot be used at all.
    """
    findings = list(_installation())
    url = store_url(db)
    code = ExitCode.DONE
    if url.path is None:
        found, code = _remote(db)
        findings += found
    elif not url.path.exists():
        text = f"there is no database {str(url.path)!r} yet"
        findings.append(Finding("the store", "note", text, "sostenuto run makes it"))
        if db is not None:
            code = ExitCode.UNREACHABLE
    else:
        with console(stderr=True).status(f"checking {url.path}"):
            found, code = _store(existing_file(db) or url.path)
        findings += found
    if code is ExitCode.DONE and any(finding.level == "problem" for finding in findings):
        code = ExitCode.RAISED
    _print(findings, json=json)
    if code is not ExitCode.DONE:
        raise Exit(code)


def _print(findings: list[Finding], *, json: bool) -> None:
    if json:
        documents = [msgspec.to_builtins(finding) for finding in findings]
        print_json(documents)
        return
    from rich.table import Table
    from rich.text import Text

    out = console()
    colours = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}
    if not out.is_terminal:
        for finding in findings:
            print(f"{finding.level:8} {finding.check:14} {finding.text}")
            if finding.remedy:
                print(f"{'':8} {'':14} -> {finding.remedy}")
        return
    table = Table.grid(padding=(0, 1))
    for width in (8, 14, None):
        table.add_column(width=width, overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.level, colours[finding.level]), finding.check, Text(finding.text)
        )
        if finding.remedy:
            table.add_row("", "", Text(f"-> {finding.remedy}"))
    out.print(table)


def _installation() -> Iterator[Finding]:
    names = ("sostenuto", "resonate-sdk", "resonate-base")
    versions = [f"{name} {_version(name)}" for name in names]
    text = ", ".join([*versions, f"Python {platform.python_version()}"])
    yield Finding("versions", "ok", f"{text} on {platform.system()} {platform.machine()}")
    if sqlite3.sqlite_version_info < _SQLITE_OLDEST:
        oldest = ".".join(map(str, _SQLITE_OLDEST))
        yield Finding(
            "SQLite",
            "problem",
            f"{sqlite3.sqlite_version} is too old",
            f"use a Python that is built with SQLite {oldest} or newer",
        )
    else:
        yield Finding("SQLite", "ok", sqlite3.sqlite_version)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _remote(db: str | None) -> tuple[list[Finding], ExitCode]:
    """Ask an engine for something and measure how long it takes."""

    async def ask() -> float:
        async with opened(db) as app:
            began = time.perf_counter()
            await app.engine.promises.search(None, None, 1, None)
            return time.perf_counter() - began

    try:
        took_ms = asyncio.run(ask()) * 1000
    except Exit as error:
        remedy = "check the address, and that the engine runs"
        return [Finding("the engine", "problem", error.message, remedy)], error.code
    return [Finding("the engine", "ok", f"answers in {took_ms:.1f} ms")], ExitCode.DONE


def _store(path: Path) -> tuple[list[Finding], ExitCode]:
    if not path.is_file():
        text = f"{path} is {'a directory' if path.is_dir() else 'no file'}"
        return [Finding("the store", "problem", text, _OTHER_FILE)], ExitCode.UNREACHABLE
    findings: list[Finding] = []
    try:
        with closing(sqlite3.connect(schema.uri(str(path), "ro"), uri=True)) as connection:
            broken = _format(connection, path)
            if broken is not None:
                return [broken], ExitCode.UNREACHABLE
            findings += [*_permissions(path), *_disk(path)]
            findings += _journal(connection, path)
            findings += _members(connection, path)
            findings += _clock(connection)
            findings += _free_space(connection)
        figures = asyncio.run(upkeep.stats(str(path)))
        findings.append(_contents(figures))
        if figures.troubled:
            findings.append(
                Finding(
                    "stuck tasks",
                    "warning",
                    f"{figures.troubled} tasks were taken and given back again and again",
                    "start a process that registers their functions; sostenuto ls --state pending",
                )
            )
        problems = asyncio.run(upkeep.check(str(path)))
    except (StoreError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            text = f"{path} is not a SQLite database"
            return [Finding("the store", "problem", text, _OTHER_FILE)], ExitCode.UNREACHABLE
        findings = findings or [*_permissions(path), *_disk(path)]
        remedy = "restore a copy made with sostenuto backup; the file was left as it is"
        if any(each.check == "permissions" and each.level == "problem" for each in findings):
            remedy = "mend the permissions first, and ask again"
        return [*findings, Finding("the store", "problem", str(error), remedy)], (
            ExitCode.UNREACHABLE
        )
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        remedy = "restore a copy made with sostenuto backup, and report it with this text"
        findings.append(Finding("integrity", "problem", shown, remedy))
    else:
        findings.append(Finding("integrity", "ok", "SQLite's check and the store's own rules hold"))
    return findings, ExitCode.DONE


def _permissions(path: Path) -> Iterator[Finding]:
    for each in (path, Path(f"{path}.key"), Path(f"{path}-wal")):
        try:
            status = each.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Finding("permissions", "problem", f"{each}: {error.strerror}", "")
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            yield Finding(
                "permissions",
                "warning",
                f"{each} is open to other users ({mode:04o}): who writes it decides what runs",
                f"chmod 600 {each}",
            )
        if not os.access(each, os.R_OK | os.W_OK):
            what = "read" if not os.access(each, os.R_OK) else "written"
            yield Finding(
                "permissions", "problem", f"{each} cannot be {what}", f"chmod u+rw {each}"
            )
        elif status.st_uid != os.geteuid():
            yield Finding("permissions", "note", f"{each} belongs to user {status.st_uid}")
        elif not mode & 0o077:
            yield Finding("permissions", "ok", f"{each} {mode:04o}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        yield Finding(
            "permissions",
            "problem",
            f"the directory {path.parent} cannot be written, and SQLite needs its log there",
            f"chmod u+wx {path.parent}",
        )


def _disk(path: Path) -> Iterator[Finding]:
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < _FREE_BYTES_LEAST:
        yield Finding(
            "disk", "warning", f"{size_text(free_bytes)} free", "make room, or sostenuto gc"
        )
    kind = _file_system(path)
    if kind in _REMOTE:
        yield Finding(
            "file system",
            "warning",
            f"{path} lies on {kind}, where SQLite's locks cannot be relied on",
            "keep the file on a disk of this machine, or use an engine by URL",
        )


def _file_system(path: Path) -> str:
    """The type of the file system that holds a path, where Linux tells; else ''."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "replace")
    except OSError:
        return ""
    resolved = str(path.resolve())
    for line in mounts.splitlines():
        fields = line.split()
        point = fields[1].replace("\\040", " ") if len(fields) > 2 else ""
        if len(point) > len(best) and (resolved + "/").startswith(point.rstrip("/") + "/"):
            best, kind = point, fields[2]
    return kind


def _format(connection: sqlite3.Connection, path: Path) -> Finding | None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != schema.APPLICATION_ID:
        text = f"{path} is not a Sostenuto database"
        return Finding("the store", "problem", text, _OTHER_FILE)
    if found > schema.VERSION:
        text = f"{path} has schema version {found}; this version reads {schema.VERSION}"
        return Finding("the store", "problem", text, "upgrade sostenuto")
    return None


def _journal(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        yield Finding("journal", "ok", "write-ahead log")
    else:
        yield Finding(
            "journal",
            "note" if mode == "delete" else "warning",
            f"journal mode is {mode}, as in a copy: the next run changes it to wal",
        )
    log = Path(f"{path}-wal")
    size_bytes = log.stat().st_size if log.exists() else 0
    if size_bytes > _LOG_BYTES_MOST:
        yield Finding(
            "journal",
            "warning",
            f"the log has grown to {size_text(size_bytes)}: something reads for very long",
            "end programs that hold the file open, such as database browsers",
        )


def _members(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    rows = connection.execute("SELECT id, os_pid, opened_at FROM members ORDER BY id").fetchall()
    gone = [row[0] for row in rows if not _is_alive(f"{os.path.realpath(path)}-members", row[0])]
    live = ", ".join(f"process {row[1]}" for row in rows if row[0] not in gone)
    yield Finding("open by", "ok", live or "nobody")
    marks = ",".join("?" * len(gone))
    orphans = connection.execute(
        f"SELECT count(*) FROM tasks WHERE state = 1 AND member IN ({marks})",  # noqa: S608 - marks only
        gone,
    ).fetchone()[0]
    lapsed = connection.execute(
        "SELECT count(*) FROM tasks WHERE state = 1 AND member IS NULL AND due_at < ?",
        (round(time.time() * 1000),),
    ).fetchone()[0]
    if orphans or lapsed:
        yield Finding(
            "leases",
            "note",
            f"{orphans + lapsed} executions are held by processes that have died",
            "nothing need be done: the next process that opens the file takes them over",
        )
    else:
        yield Finding("leases", "ok", "none is orphaned")


def _is_alive(side_file: str, member: int) -> bool:
    """Whether a process holds the lock of a member, as the store itself asks."""
    try:
        handle = os.open(side_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, member)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _clock(connection: sqlite3.Connection) -> Iterator[Finding]:
    newest_ms = 0
    for state in range(5):
        row = connection.execute(
            "SELECT max(created_at) FROM promises WHERE state = ? AND instr(id, ':') = 0", (state,)
        ).fetchone()
        newest_ms = max(newest_ms, row[0] or 0)
    row = connection.execute("SELECT max(opened_at) FROM members").fetchone()
    ahead_ms = max(newest_ms, row[0] or 0) - round(time.time() * 1000)
    if ahead_ms > _SKEW_MS_MOST:
        yield Finding(
            "clock",
            "warning",
            f"the newest record is {ahead_ms / 1000:,.1f} s in the future: this machine's clock "
            "was set back, or the one that wrote it runs ahead",
            "set the clock (timedatectl status); until then sleeps and deadlines end late",
        )
    else:
        yield Finding("clock", "ok", "no record is from the future")


def _free_space(connection: sqlite3.Connection) -> Iterator[Finding]:
    (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if free_pages * page_bytes >= _FREE_BYTES_WORTH and free_pages * 2 >= pages:
        yield Finding(
            "free space",
            "note",
            f"{size_text(free_pages * page_bytes)} of the file's {size_text(pages * page_bytes)} "
            "hold nothing and will be used again",
            "sostenuto gc --vacuum --yes gives them back to the disk",
        )


def _contents(figures: upkeep.Stats) -> Finding:
    promises = sum(figures.promises.values())
    text = (
        f"{promises:,} promises ({figures.promises.get('pending', 0):,} pending), "
        f"{figures.schedules:,} schedules, {figures.messages:,} messages waiting, "
        f"{size_text(figures.size_bytes)} and a log of {size_text(figures.log_bytes)}"
    )
    return Finding("contents", "ok", text)
