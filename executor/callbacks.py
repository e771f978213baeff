"""Keeps SystemExit and KeyboardInterrupt of a cell's callbacks from stopping the host's loop.

asyncio raises such an exception of a callback out of the host's ``run_forever()``. The methods of a
loop that take callbacks are wrapped, on that loop alone, from the first cell on that mentions one:
each call then costs half a microsecond more. A loop whose attributes cannot be set is left alone.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import suppress
from types import BuiltinFunctionType, MethodType
from typing import Any

from executor.contained import is_from_keyboard
from executor.monitoring import end_turn
from executor.outcome import drop_own_frame
from executor.runs import CURRENT_RUN, Run, current_run

__all__ = ["contain_callbacks", "mentions_callbacks", "release_callbacks"]

# With the position of the callback. call_later() is made of call_at().
_METHODS = {
    "call_soon": 0,
    "call_soon_threadsafe": 0,
    "call_at": 1,
    "add_reader": 1,
    "add_writer": 1,
    "add_signal_handler": 1,
}

_MARK = "_sostenuto_contains_callbacks"


def mentions_callbacks(source: str) -> bool:
    """Whether a cell may hand the loop a callback, by the names of the methods for it."""
    return "call_" in source or "add_" in source or "_threadsafe" in source


def contain_callbacks(loop: asyncio.AbstractEventLoop) -> None:
    """Wrap the loop's methods that take callbacks, unless they are wrapped already."""
    if getattr(loop, _MARK, False):
        return
    with suppress(AttributeError):  # a loop written in C
        setattr(loop, _MARK, True)
        for name, position in _METHODS.items():
            setattr(loop, name, _containing(getattr(loop, name), position))


def release_callbacks(loop: asyncio.AbstractEventLoop) -> None:
    """Undo it; what was scheduled before stays contained."""
    if vars(loop).pop(_MARK, False):
        for name in _METHODS:
            if isinstance(vars(loop).get(name), _Containing):
                delattr(loop, name)


class _Containing(functools.partial[Any]):
    """A method of a loop that contains the callbacks it is given."""


def _containing(method: Callable[..., Any], position: int) -> _Containing:
    return _Containing(_schedule, method, position)


def _schedule(method: Callable[..., Any], position: int, /, *args: Any, **options: Any) -> Any:
    context = options.get("context")
    run = current_run() if context is None else context.get(CURRENT_RUN)
    if run is not None and len(args) > position and not _is_asyncios_own(args[position]):
        contained = _contained(args[position], run)
        args = (*args[:position], contained, *args[position + 1 :])
    return method(*args, **options)


def _is_asyncios_own(callback: Any) -> bool:
    """Whether it is a step of a task or a method of a future: those contain what they run."""
    kind = type(callback)
    if kind is BuiltinFunctionType or kind is MethodType:
        return issubclass(type(callback.__self__), asyncio.Future)
    return kind.__module__ == "_asyncio"


def _contained(callback: Callable[..., object], run: Run) -> Callable[..., object]:
    def contained(*args: Any) -> None:
        if CURRENT_RUN.get() is None:  # scheduled by a thread of the cell: it has no context
            CURRENT_RUN.set(run)
        try:
            callback(*args)
        except BaseException as error:
            drop_own_frame(error)
            if not issubclass(type(error), SystemExit | KeyboardInterrupt):
                raise
            if is_from_keyboard(error):
                raise
            run.owner.lose(callback, error, run)
        finally:
            end_turn()

    with suppress(Exception):  # the user's callable may have attributes of its own
        functools.update_wrapper(contained, callback)
    return contained
