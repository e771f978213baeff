"""Notes of executions that the store itself settled, whose value therefore stays empty."""

from __future__ import annotations

from resonate.ids import join_id
from resonate.types import PromiseRecord

__all__ = ["excerpt", "limit_s", "notes_id", "static_notes"]

#: Characters of the source that a note quotes; the executor's own notes quote as many.
_EXCERPT_LENGTH = 100

#: How long after its deadline was reckoned an execution may be created at the most, for a
#: limit that is a multiple of so many milliseconds to be told exactly.
_LATE_MS = {1_000: 20, 100: 20, 50: 10}


def notes_id(execution_id: str) -> str:
    """Return the id of the promise that keeps a timed-out execution's notes.

    The store settles a timed-out promise itself and its value stays empty, so the
    notes of the process that ran it are a record of their own.
    """
    return join_id(execution_id, "notes")


def excerpt(source: str) -> str:
    """Return the note that quotes the beginning of the source."""
    return f"source: {source[:_EXCERPT_LENGTH]}{'...' if len(source) > _EXCERPT_LENGTH else ''}"


def limit_s(created_at_ms: int, timeout_at_ms: int) -> float:
    """Return the limit that an execution was given, in seconds, as its caller wrote it.

    The caller reckons the deadline some milliseconds before the store notes the creation,
    so what lies between them falls short of the limit by as much.
    """
    found_ms = timeout_at_ms - created_at_ms
    for round_ms, late_ms in _LATE_MS.items():
        rounded_ms = -(-found_ms // round_ms) * round_ms
        if rounded_ms - found_ms <= late_ms:
            return rounded_ms / 1000
    return round(found_ms / 1000, 2)


def static_notes(record: PromiseRecord) -> list[str]:
    """Return what the record alone tells of a timeout that no process saw."""
    if record.state != "rejected_timedout":
        return []
    notes = [
        f"timed out: the limit of {limit_s(record.created_at, record.timeout_at):g} s had passed",
        f"Execution ID: {record.id}",
    ]
    data = record.param.data
    kwargs = data.get("kwargs") if isinstance(data, dict) else None
    source = kwargs.get("source") if isinstance(kwargs, dict) else None
    if isinstance(source, str):
        notes.append(excerpt(source))
    return notes
