"""Keeps SystemExit and KeyboardInterrupt of a cell's task in that task.

asyncio gives such an exception to the task and then raises it once more, out of the host's
``run_forever()``. One ``sys.exit()`` in a task that a cell left running would stop a whole server.
Here it stays what any other exception of a task is: reported with its cell, and raised by whoever
awaits the task.
"""

from __future__ import annotations

import asyncio
import opcode
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from executor.monitoring import end_turn
from executor.outcome import drop_own_frame, users_traceback

__all__ = ["ContainedCoroutine", "is_from_keyboard"]

_RAISE = opcode.opmap["RAISE_VARARGS"]
_HOSTS_HANDLER = asyncio.Runner.run.__code__.co_filename


class ContainedCoroutine(Coroutine[Any, Any, Any]):
    """Drives a coroutine for a task, and looks like it.

    Args:
        coroutine: What the cell made a task of.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.contained_coroutine = coroutine

    def send(self, value: Any) -> Any:
        """Run the coroutine up to its next await."""
        try:
            return self.contained_coroutine.send(value)
        except BaseException as error:
            drop_own_frame(error)
            end_turn()
            if not _is_contained(error):
                raise
            return _end_task(error)

    def throw(self, *raised: Any) -> Any:
        """Raise in the coroutine, and run it up to its next await."""
        try:
            return self.contained_coroutine.throw(*raised)
        except BaseException as error:
            drop_own_frame(error)
            end_turn()
            if not _is_contained(error):
                raise
            return _end_task(error)

    def close(self) -> None:
        """Close the coroutine."""
        self.contained_coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.contained_coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        """Its name, its code, its frame and what it awaits."""
        return getattr(self.contained_coroutine, name)


class _Nothing:
    """What a task waits for that has ended: the loop drops both."""

    _asyncio_future_blocking = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[..., object], *, context: object = None) -> None:
        """Never call it."""

    def cancel(self, **_: object) -> bool:
        """Refuse: the task has ended."""
        return False


def _is_contained(error: BaseException) -> bool:
    """Whether ``error`` would stop the loop, and is the task's own to keep."""
    if not issubclass(type(error), SystemExit | KeyboardInterrupt):
        return False
    task = asyncio.current_task()
    return task is not None and not task.done() and not is_from_keyboard(error)


def _end_task(error: BaseException) -> _Nothing:
    """End the running task with ``error``, for what its coroutine is to be seen waiting for."""
    task = asyncio.current_task()
    assert task is not None  # that of the contained error
    # A task has no set_exception() of its own, because its coroutine ends it. Here that has ended.
    asyncio.Future.set_exception(task, error)
    return _Nothing(task.get_loop())


def is_from_keyboard(error: BaseException) -> bool:
    """Whether it is Ctrl+C, which is meant for the host and happened to arrive in a cell's code."""
    if not issubclass(type(error), KeyboardInterrupt):
        return False
    traceback = users_traceback(error.__traceback__)
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code.co_filename == _HOSTS_HANDLER or code.co_code[traceback.tb_lasti] != _RAISE
