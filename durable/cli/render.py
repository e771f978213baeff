"""Records as text and JSON."""

from __future__ import annotations

import os
import pprint
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, TextIO

from durable.cli.documents import json_text
from durable.cli.terminal import printable
from durable.errors import DurableError
from durable.records import SOURCE_FUNCTION, ExecutionRecord, StepRecord

__all__ = [
    "failure_lines",
    "print_failure",
    "print_result",
    "record_dict",
    "record_json",
    "step_dict",
    "title",
]

_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"

#: Where this package lies.
_OUR_CODE = str(Path(__file__).parents[1]) + os.sep

#: Links of a chain of causes that are shown; records keep as many.
_CHAIN_MAX = 20


def print_result(record: ExecutionRecord) -> None:
    """Print a result as a Python prompt does; nothing for None."""
    value = record.result
    if value is None:
        return
    print(value if isinstance(value, str) else pprint.pformat(value, sort_dicts=False, width=100))


def print_failure(record: ExecutionRecord, file: TextIO | None = None) -> None:
    """Print why an execution failed, as Python shows it; on standard error by default."""
    data = record.value_data
    if isinstance(data, Mapping) and "message" in data:
        lines = failure_lines(data)
    else:
        lines = [f"sostenuto: {record.id}: {printable(record.error_text or '')}"]
    shown = set(lines)
    lines += [line for note in record.notes for line in note.splitlines() if line not in shown]
    text = "\n".join(lines)
    if record.filename:
        # Its cells have the file's own line numbers, so its name leads an editor there.
        cell = rf"<sostenuto {re.escape(record.id)} cell \d+>"
        text = re.sub(cell, lambda _found: str(record.filename), text)
    print(text, file=sys.stderr if file is None else file)


def title(record: ExecutionRecord) -> str:
    """Return what an execution is of, for people: a script's file, or a function."""
    if record.filename:
        return PurePath(record.filename).name
    return "(source)" if record.name == SOURCE_FUNCTION else record.name


def failure_lines(data: Mapping[str, Any], depth: int = 0) -> list[str]:
    """Return the lines Python would print for a recorded failure; nothing is unpickled.

    Args:
        data: The failure as it is stored.
        depth: How many links of its chain are below it.
    """
    lines: list[str] = []
    cause, context = data.get("cause"), data.get("context")
    before, words = (cause, _CAUSE) if isinstance(cause, Mapping) else (context, _CONTEXT)
    hidden = before is context and data.get("suppress_context") is True
    if isinstance(before, Mapping) and str(before.get("type")).startswith("durable."):
        hidden = hidden or _is_ours_alone(str(before.get("traceback") or ""))
    if isinstance(before, Mapping) and not hidden and depth < _CHAIN_MAX:
        lines += [*failure_lines(before, depth + 1), "", words, ""]
    trace = str(data.get("traceback") or "").rstrip("\n")
    if trace and not _is_ours_alone(trace):
        lines += ["Traceback (most recent call last):", *trace.split("\n")]
    lines += _last_lines(data)
    members = data.get("group")
    if isinstance(members, list) and depth < _CHAIN_MAX:
        for number, member in enumerate(members, 1):
            if isinstance(member, Mapping):
                lines.append(f"  +---------------- {number} ----------------")
                lines += [f"  | {line}" for line in failure_lines(member, depth + 1)]
        lines.append("  +------------------------------------")
    return lines


def _is_ours_alone(trace: str) -> bool:
    """Whether a traceback stands in this package only: it says nothing of anybody's code."""
    files = re.findall(r'^  File "([^"\n]*)", line', trace, re.MULTILINE)
    return bool(files) and all(file.startswith(_OUR_CODE) for file in files)


def _last_lines(data: Mapping[str, Any]) -> list[str]:
    """The ``Type: message`` line and the notes, without the prefix Python leaves out too."""
    name = str(data.get("type") or "Exception")
    for own in ("builtins.", "__main__."):
        name = name.removeprefix(own)
    message = str(data.get("message") or "")
    lines = (f"{name}: {message}" if message else name).split("\n")
    for note in data.get("notes") or ():
        lines += str(note).split("\n")
    return lines


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds")


def _value(record: ExecutionRecord | StepRecord) -> Any:
    return record.value_data if record.state == "resolved" else None


def record_dict(record: ExecutionRecord) -> dict[str, Any]:
    """Return an execution's JSON form; its field names are stable."""
    return {
        "id": record.id,
        "state": record.state,
        "name": record.name,
        "version": record.version,
        "result": _value(record),
        "error": record.error_text,
        "notes": record.notes,
        "created_at": _time(record.created_at),
        "settled_at": _time(record.settled_at),
        "timeout_at": _time(record.timeout_at),
        "duration_ms": record.duration_ms,
        "filename": record.filename,
    }


def record_json(record: ExecutionRecord) -> str:
    """Return an execution as one JSON document."""
    try:
        return json_text(record_dict(record))
    except DurableError as error:
        return json_text({"id": record.id, "state": record.state, "error": str(error)})


def step_dict(step: StepRecord) -> dict[str, Any]:
    """Return a step's JSON form; its field names are stable."""
    details = step.details
    return {
        "id": step.id,
        "parent": step.parent_id,
        "kind": step.kind,
        "name": step.name,
        "state": step.state,
        "args_digest": details.get("args", ""),
        "result": _value(step),
        "error": step.error_text,
        "created_at": _time(step.created_at),
        "settled_at": _time(step.settled_at),
        "duration_ms": step.duration_ms,
        "attempt": details.get("attempt"),
        "attempt_error": details.get("error"),
        "wait_s": details.get("wait_s"),
    }
