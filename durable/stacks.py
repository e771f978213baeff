"""Where code stood when it was stopped, in the user's own lines."""

from __future__ import annotations

import asyncio
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Collection
from pathlib import Path
from types import CoroutineType, FrameType, GeneratorType, TracebackType
from typing import Any

import executor

__all__ = ["stood_in", "stood_in_cells", "stood_in_threads", "stood_note"]

_EXECUTOR = str(Path(executor.__file__).parent)

#: Frames below these directories are machinery, not what a user asks about.
_DIRECTORIES = {
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    str(Path(__file__).parent),
    _EXECUTOR,
}

# Code keeps the name it was imported by, which may lead through symbolic links.
_MACHINERY = tuple(_DIRECTORIES | {str(Path(path).resolve()) for path in _DIRECTORIES})

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


def stood_in(coroutine: Any, filename: str = "") -> str:
    """Return one line on where a suspended coroutine stands, or ''.

    Args:
        coroutine: The outermost one.
        filename: Beginning of the name of a file that its code must come through.
    """
    found = ""
    is_its = not filename
    seen: set[int] = set()  # a frame can hold a coroutine that leads back to it
    while coroutine is not None and id(coroutine) not in seen:
        seen.add(id(coroutine))
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and not _is_machinery(frame.f_code.co_filename):
            found = _line(frame, frame.f_lineno)
            is_its = is_its or frame.f_code.co_filename.startswith(filename)
        coroutine = _awaited_by(coroutine, frame)
    return found if is_its else ""


def stood_in_cells(filename: str) -> str:
    """Return one line on where a cell stands that an executor runs on this loop, or ''.

    Args:
        filename: Beginning of the name of the file that the cell's code comes from.
    """
    for task in asyncio.all_tasks():
        coroutine = task.get_coro()
        code = getattr(coroutine, "cr_code", None)
        if code is not None and code.co_filename.startswith(_EXECUTOR):
            found = stood_in(coroutine, filename)
            if found:
                return found
    return ""


def _awaited_by(coroutine: Any, frame: FrameType | None) -> Any:
    following = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    if isinstance(following, (CoroutineType, GeneratorType)):
        return following
    if following is None and frame is not None and _is_machinery(frame.f_code.co_filename):
        # A driver that sends into a coroutine by itself, as the executor's, holds it in its frame.
        for value in frame.f_locals.values():
            if isinstance(value, CoroutineType) and value.cr_frame is not None:
                return value
    return None


def stood_in_threads(filename: str, thread_ids: Collection[int]) -> str:
    """Return one line on where code stands in threads, or ''.

    Args:
        filename: Beginning of the names of the files that its code comes from.
        thread_ids: Identifiers of threads that run its code alone.
    """
    for thread_id, innermost in sys._current_frames().items():  # noqa: SLF001 - the documented way
        frame: FrameType | None = innermost
        found = ""
        while frame is not None:
            name = frame.f_code.co_filename
            if not found and not _is_machinery(name):
                found = _line(frame, frame.f_lineno)
            if found and (thread_id in thread_ids or name.startswith(filename)):
                return found
            frame = frame.f_back
    return ""


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
