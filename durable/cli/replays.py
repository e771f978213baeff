"""``sostenuto replay``."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

from durable.cli.documents import print_json, printing_aside
from durable.cli.exits import Exit, ExitCode
from durable.cli.generations import current_id
from durable.cli.source_files import parse_duration
from durable.cli.stores import existing_file, opened
from durable.errors import DurableError, EngineUnavailableError, NotRegisteredError
from durable.histories import load_history
from durable.records import SOURCE_FUNCTION, ExecutionRecord
from durable.replay import ReplayReport, replay_history
from durable.runtime import Durable
from durable.signing import SigningKey
from durable.testing import areplay
from durable.values import ValueCodec

__all__ = ["replay_command"]


def replay_command(
    subject: str, db: str | None, *, app: str | None, limit: str, json: bool
) -> None:
    """Re-run a recorded execution's code against its record.

    Raises:
        Exit: 1 where code and record differ.
    """
    limit_s = parse_duration(limit, "--limit")
    try:
        code = None if app is None else _app(app)
        path = Path(subject)
        with printing_aside(json=json):
            if path.suffix == ".json" and path.is_file():
                report = asyncio.run(_replayed_file(path, code, limit_s))
            else:
                report = asyncio.run(_replayed(subject, db, code, limit_s))
    except EngineUnavailableError as error:
        raise Exit(ExitCode.UNREACHABLE, str(error)) from error
    except NotRegisteredError as error:
        raise _unregistered(error) from error
    except DurableError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error
    if json:
        print_json(report_dict(report))
    else:
        print(str(report).replace(f"({SOURCE_FUNCTION}): ", "(source): ", 1))
    if not report.identical:
        raise Exit(ExitCode.RAISED)


def report_dict(report: ReplayReport) -> dict[str, Any]:
    """Return a report's JSON form; its field names are stable."""
    found = report.divergence
    return {
        "id": report.execution_id,
        "name": report.name,
        "identical": report.identical,
        "steps": report.steps,
        "complete": report.complete,
        "divergence": None
        if found is None
        else {
            "kind": found.kind,
            "step_id": found.step_id,
            "recorded": found.recorded,
            "now": found.asked,
        },
    }


async def _replayed_file(path: Path, code: Durable | None, limit_s: float) -> ReplayReport:
    history = load_history(path)
    _see_modules_beside(
        ExecutionRecord(history.execution, ValueCodec(SigningKey.generate)).filename
    )
    if code is None:
        return await areplay(history, limit_s=limit_s)
    return await replay_history(
        history, code.registry, code.values, code.dependencies, limit_s=limit_s
    )


async def _replayed(
    subject: str, db: str | None, code: Durable | None, limit_s: float
) -> ReplayReport:
    if code is not None and db is None:
        return await areplay(code, subject, limit_s=limit_s)
    existing_file(db)
    async with opened(db) as reader:
        if code is not None:
            for entry in code.registry:
                if reader.registry.find(entry.name, entry.version) is None:
                    reader.registry.add(entry)
        subject = await current_id(reader, subject)
        record = await reader.execution(subject)
        _see_modules_beside(record.filename)
        try:
            return await areplay(reader, subject, limit_s=limit_s)
        except NotRegisteredError as error:
            raise _unregistered(error) from error


def _unregistered(error: NotRegisteredError) -> Exit:
    return Exit(ExitCode.USAGE, f"{error}, and name its app here with --app MODULE:NAME")


def _see_modules_beside(filename: str | None) -> None:
    """Let replayed source import what lies beside its file, as its run could."""
    if filename:
        sys.path.insert(0, str(Path(filename).parent))


def _app(place: str) -> Durable:
    """Import ``module:name``, the app whose functions are the code to replay."""
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise Exit(ExitCode.USAGE, f"--app {place!r} is not MODULE:NAME, such as jobs:app")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Exit(ExitCode.USAGE, f"--app {place!r} cannot be imported: {error}") from error
    if not isinstance(found, Durable):
        raise Exit(ExitCode.USAGE, f"--app {place!r} is {type(found).__name__}, not a Durable app")
    return found
