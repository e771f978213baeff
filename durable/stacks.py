"""Where code stood when it was stopped, in the user's own lines."""

from __future__ import annotations

import linecache
import sys
import sysconfig
import traceback
from pathlib import Path
from types import CoroutineType, FrameType, TracebackType
from typing import Any

__all__ = ["stood_in", "stood_note"]

#: Frames below these directories are machinery, not what a user asks about.
_MACHINERY = tuple(
    str(Path(path).resolve())
    for path in {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        str(Path(__file__).parent),
        str(Path(__file__).parent.parent / "executor"),
    }
)

_STOOD = "the code stood at"


def stood_note(error: BaseException | None) -> str:
    """Return one line on where the code was that ``error`` stopped, or ''."""
    if error is None:
        return ""
    for note in getattr(error, "__notes__", ()):
        # The executor saw it while it ran; a traceback shows where it was let go.
        if isinstance(note, str) and note.lower().startswith(_STOOD):
            return note
    # Its own traceback counts; one without the user's lines, as of a timeout raised in
    # place of a cancellation, passes the question on to what it was raised from.
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        found = _in_traceback(current.__traceback__)
        if found:
            return found
        pending += [current.__context__, current.__cause__]
    return ""


def stood_in(coroutine: Any) -> str:
    """Return one line on where a suspended coroutine stands, or ''."""
    found = ""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and not _is_machinery(frame.f_code.co_filename):
            found = _line(frame, frame.f_lineno)
        following = getattr(coroutine, "cr_await", None)
        coroutine = following if isinstance(following, CoroutineType) else None
    return found


def _in_traceback(tb: TracebackType | None) -> str:
    found = ""
    for frame, line in traceback.walk_tb(tb):
        if not _is_machinery(frame.f_code.co_filename):
            found = _line(frame, line)
    return found


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY) or filename.startswith("<frozen") or filename in sys.path


def _line(frame: FrameType, line: int) -> str:
    code = frame.f_code
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    where = f"{_STOOD} {code.co_filename}:{line}, in {code.co_name}"
    return f"{where}: {text}" if text else where
