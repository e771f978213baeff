"""``sostenuto export`` and ``import``."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from durable.cli.documents import json_text, print_json
from durable.cli.exits import Exit, ExitCode
from durable.cli.groups import DEFAULT_GROUP
from durable.cli.stores import opened
from durable.errors import InvalidArgumentError
from durable.histories import (
    History,
    histories_in,
    load_history,
    read_history,
    write_history,
)

__all__ = ["ExportRequest", "export_command", "import_command"]


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``sostenuto export``."""

    ids: list[str]
    all: bool
    state: str | None
    output: str | None
    db: str | None
    json: bool


def export_command(request: ExportRequest) -> None:
    """Write histories as JSON: one to a file or standard output, several to a directory.

    Raises:
        Exit: Nothing named, or several without a directory.
    """
    if request.all == bool(request.ids):
        raise Exit(ExitCode.USAGE, "name the executions to export, or all of them with --all")
    several = request.all or len(request.ids) > 1
    if several and request.output is None:
        raise Exit(ExitCode.USAGE, "several histories need a directory: --output DIRECTORY")
    if request.output is not None:
        goal = Path(request.output)
        if several and goal.exists() and not goal.is_dir():
            raise Exit(ExitCode.USAGE, f"{request.output!r} is a file: name a directory")
        if not several and goal.is_dir():
            raise Exit(ExitCode.USAGE, f"{request.output!r} is a directory: name a file")
    written = asyncio.run(_export(request, several=several))
    if request.json:
        print_json(written)
    elif request.output is not None:
        count = len(written)
        print(f"{count} {'history' if count == 1 else 'histories'} written to {request.output}")


async def _export(request: ExportRequest, *, several: bool) -> list[dict[str, str]]:
    written = []
    async with opened(request.db) as app:
        ids = request.ids
        if request.all:
            ids = [record.id async for record in app.executions(state=request.state)]
        for number, id in enumerate(ids, 1):
            history = await read_history(app.engine, id)
            if several:
                assert request.output is not None
                path = Path(request.output) / f"{_file_name(id)}.json"
            elif request.output is not None:
                path = Path(request.output)
            else:
                print(_shown(history), end="")
                continue
            _write_whole(path, history.to_json())
            written.append({"id": id, "file": str(path)})
            _progress(number, len(ids), "exported")
    return written


def _shown(history: History) -> str:
    """A history for standard output, escaped where its encoding needs that."""
    text = history.to_json()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json_text(json_module.loads(text)) + "\n"
    return text


def _write_whole(path: Path, text: str) -> None:
    """Replace a file at once, so that no kill leaves half a history."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Exit(
            ExitCode.USAGE, f"{str(path)!r} cannot be written: {error.strerror or error}"
        ) from error


def _file_name(id: str) -> str:
    """A file name for an id, which may hold slashes; readable, and one per id."""
    return re.sub(r"[^\w.@-]|^\.", lambda found: f"%{ord(found[0]):02X}", id)[:200]


def import_command(files: list[str], to: str | None, *, json: bool) -> None:
    """Write histories to a database or engine.

    Raises:
        Exit: A file that is no history, or an id that is another execution there.
    """
    histories = [load for name in files for load in _loaded(name)]
    imported = asyncio.run(_import(histories, to))
    if json:
        print_json(imported)
        return
    for entry in imported:
        print(f"imported {entry['id']}  {entry['state']}")


def _loaded(name: str) -> Iterable[History]:
    path = Path(name)
    try:
        if name == "-":
            return [load_history(_document())]
        if path.is_dir():
            return [load_history(each) for each in histories_in(path)]
        return [load_history(path)]
    except InvalidArgumentError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error


def _document() -> dict[str, Any]:
    """Read a history from standard input."""
    if sys.stdin is None:
        raise Exit(ExitCode.USAGE, "standard input is closed: pipe a history into it, or name one")
    try:
        document = json_module.loads(sys.stdin.buffer.read())
    except (ValueError, RecursionError) as error:
        raise Exit(ExitCode.USAGE, f"standard input is not JSON: {error}") from error
    return document if isinstance(document, dict) else {}


async def _import(histories: list[History], to: str | None) -> list[dict[str, str]]:
    imported = []
    async with opened(to, creates=True) as app:
        target = app.engine._resolver(DEFAULT_GROUP)  # noqa: SLF001 - the SDK shows it nowhere else
        for number, history in enumerate(histories, 1):
            await write_history(app.engine, history, target=target)
            state = (await app.execution(history.id)).state
            imported.append({"id": history.id, "state": state})
            _progress(number, len(histories), "imported")
    return imported


def _progress(number: int, total: int, verb: str) -> None:
    """Tell on a terminal how far a long command has come."""
    if total > 1 and sys.stderr.isatty():
        print(f"\r{verb} {number} of {total}", end="", file=sys.stderr, flush=True)
        if number == total:
            print(file=sys.stderr)
