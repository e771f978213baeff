"""Traceback text for records: bounded, and without the frames of this program itself."""

from __future__ import annotations

import functools
import importlib.util
import os
import traceback
from types import TracebackType

__all__ = ["traceback_text"]

_OWN_PACKAGES = ("durable", "executor", "promises", "store", "resonate", "resonate_base", "anyio")
# Enough to see where a recursion began and where it ended.
_FIRST_FRAMES = 10
_LAST_FRAMES = 40


def traceback_text(exc: BaseException, max_size: int) -> str:
    """Return where ``exc`` was raised, innermost last; ``""`` if unknown. Never raises.

    Args:
        exc: The exception; its causes are left to the caller.
        max_size: Characters at most; the middle goes first.
    """
    if exc.__traceback__ is None or max_size <= 0:
        return ""
    try:
        return _cut(_formatted(exc.__traceback__), max_size)
    except Exception:  # noqa: BLE001 - source lines come through users' loaders
        return ""


def _formatted(trace: TracebackType) -> str:
    steps: list[TracebackType] = []
    current: TracebackType | None = trace
    while current is not None:
        steps.append(current)
        current = current.tb_next
    theirs = [s for s in steps if not _is_own(s.tb_frame.f_code.co_filename)] or steps[-1:]
    left_out = len(theirs) - _FIRST_FRAMES - _LAST_FRAMES
    if left_out <= 0:
        return _frames(theirs)
    return (
        f"{_frames(theirs[:_FIRST_FRAMES])}"
        f"  [{left_out} frames left out]\n"
        f"{_frames(theirs[-_LAST_FRAMES:])}"
    )


def _frames(steps: list[TracebackType]) -> str:
    walked = ((step.tb_frame, step.tb_lineno) for step in steps)
    lines = traceback.StackSummary.extract(walked).format()
    return "".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, max_size: int) -> str:
    if len(text) <= max_size:
        return text
    half = max_size // 2
    return f"{text[:half]}\n  [...]\n{text[-half:]}"


def _is_own(filename: str) -> bool:
    return filename.startswith(_own_directories())


@functools.cache
def _own_directories() -> tuple[str, ...]:
    specs = [importlib.util.find_spec(name) for name in _OWN_PACKAGES]
    return tuple(
        os.path.join(place, "")  # noqa: PTH118 - compared with the text of code filenames
        for spec in specs
        if spec is not None
        for place in spec.submodule_search_locations or ()
    )
