"""Notes of executions that the store itself settled, whose value therefore stays empty."""

from __future__ import annotations

from resonate.ids import join_id
from resonate.types import PromiseRecord

__all__ = ["excerpt", "notes_id", "static_notes"]

#: Characters of the source that a note quotes; the executor's own notes quote as many.
_EXCERPT_LENGTH = 100


def notes_id(execution_id: str) -> str:
    """Return the id of the promise that keeps a timed-out execution's notes.

    The store settles a timed-out promise itself and its value stays empty, so the
    notes of the process that ran it are a record of their own.
    """
    return join_id(execution_id, "notes")


def excerpt(source: str) -> str:
    """Return the note that quotes the beginning of the source."""
    return f"source: {source[:_EXCERPT_LENGTH]}{'...' if len(source) > _EXCERPT_LENGTH else ''}"


def static_notes(record: PromiseRecord) -> list[str]:
    """Return what the record alone tells of a timeout that no process saw."""
    if record.state != "rejected_timedout":
        return []
    limit_s = (record.timeout_at - record.created_at) / 1000
    notes = [
        f"timed out: the limit of {round(limit_s, 2):g} s had passed",
        f"Execution ID: {record.id}",
    ]
    data = record.param.data
    kwargs = data.get("kwargs") if isinstance(data, dict) else None
    source = kwargs.get("source") if isinstance(kwargs, dict) else None
    if isinstance(source, str):
        notes.append(excerpt(source))
    return notes
