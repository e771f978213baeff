"""Records as text and JSON."""

from __future__ import annotations

import json
import pprint
import sys
from datetime import datetime
from typing import Any

from durable.errors import DurableError
from durable.records import ExecutionRecord, StepRecord

__all__ = [
    "print_failure",
    "print_result",
    "record_dict",
    "record_json",
    "step_dict",
]


def print_result(record: ExecutionRecord) -> None:
    """Print a result as a Python prompt does; nothing for None."""
    value = record.result
    if value is None:
        return
    print(value if isinstance(value, str) else pprint.pformat(value, sort_dicts=False, width=100))


def print_failure(record: ExecutionRecord) -> None:
    """Print why an execution failed on standard error: traceback, error, notes."""
    out = sys.stderr
    text = record.traceback_text.rstrip()
    if text:
        print(text, file=out)
    else:
        print(f"sostenuto: {record.id}: {record.error_text}", file=out)
    shown = set(text.splitlines())
    for note in record.notes:
        if not set(note.splitlines()) <= shown:
            print(f"  {note}", file=out)


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
        return json.dumps(record_dict(record), indent=2, ensure_ascii=False)
    except DurableError as error:
        return json.dumps({"id": record.id, "state": record.state, "error": str(error)})


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
        "wait_s": details.get("wait_s"),
    }
