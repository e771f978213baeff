"""Time limits, and the notes that every exception leaves a session with."""

from __future__ import annotations

import linecache
import math
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

from executor.modes import ExecutionMode

__all__ = ["add_notes", "add_timeout_notes", "checked_limit", "where"]

_SNIPPET_LENGTH_CHARS = 100


def checked_limit(limit_s: float | None) -> float | None:
    """Return a time limit in seconds, or None for none.

    Raises:
        TypeError: It is not a number.
        ValueError: It is negative or not a number at all (NaN).
    """
    if limit_s is None:
        return None
    if isinstance(limit_s, bool) or not isinstance(limit_s, int | float):
        raise TypeError(f"timeout must be seconds or None, not {limit_s!r}")
    if math.isnan(limit_s) or limit_s < 0:
        raise ValueError(f"timeout must be at least 0 seconds, or None for never, not {limit_s!r}")
    return None if math.isinf(limit_s) else limit_s


def add_notes(
    error: BaseException, execution_id: str, length_chars: int, mode: ExecutionMode
) -> None:
    """Tell where ``error`` was raised, unless it has left this session before."""
    identity = f"Execution ID: {execution_id}"
    if identity in _notes(error):
        return
    _add(error, identity)
    _add(error, f"Code length: {length_chars} characters")
    _add(error, f"Execution mode: {mode.value}")


def add_timeout_notes(error: TimeoutError, limit_s: float, source: str, place: str | None) -> None:
    """Tell which limit was exceeded, by what code, and where that stood."""
    _add(error, f"Code execution timed out after {limit_s:g} seconds")
    ellipsis = "..." if len(source) > _SNIPPET_LENGTH_CHARS else ""
    _add(error, f"Code snippet: {source[:_SNIPPET_LENGTH_CHARS]}{ellipsis}")
    if place is not None:
        _add(error, place)


def where(frames: Iterable[FrameType]) -> str | None:
    """Say where code stands: the innermost line of a cell in ``frames``, or of anything.

    Args:
        frames: From the outermost to the innermost.
    """
    stack = list(frames)
    in_cells = [frame for frame in stack if frame.f_code.co_filename.startswith("<sostenuto ")]
    if not stack:
        return None
    frame = (in_cells or stack)[-1]
    filename, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(filename, line).strip()
    return f"The code stood at {filename}, line {line}" + (f": {text}" if text else "")


def _notes(error: BaseException) -> list[str]:
    try:
        # Not through the user's class, which may have attribute access of its own.
        notes = object.__getattribute__(error, "__notes__")
    except AttributeError:
        return []
    return notes if type(notes) is list else []


def _add(error: BaseException, note: str) -> None:
    # A user's exception class may refuse attributes; a note is not worth another exception.
    with suppress(Exception):
        BaseException.add_note(error, note)
