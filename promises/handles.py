"""Adapter from handles, objects whose ``result()`` is awaited, to promises."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Protocol

from promises.errors import UnsupportedSourceError
from promises.futures import Settleable, run_on
from promises.reports import report_lost, running_loop

__all__ = ["AsyncResult", "HandleBridge"]


class AsyncResult[T](Protocol):
    """Anything whose result is awaited: a handle of the Resonate SDK, or one like it."""

    def result(self) -> Awaitable[T]:
        """Wait for the result and return it, or raise what it was rejected with."""


class Awaited[T](Settleable[T], Protocol):
    """A promise that knows where it is awaited."""

    def waiting_loops(self) -> Iterable[asyncio.AbstractEventLoop]:
        """Return the event loops on which somebody awaits it now."""


class HandleBridge[T]:
    """Awaits a handle's ``result()`` once, for every awaiter of a promise.

    The call runs in a task of its own, on the loop of whoever awaits first. When that loop is
    torn down before the handle has answered, the next loop with an awaiter takes over: the end
    of one loop is no reason for the others to fail.

    Args:
        promise: the promise to settle.
        handle: the source of its result.

    Raises:
        UnsupportedSourceError: ``handle`` has no ``result`` method.
    """

    def __init__(self, promise: Awaited[T], handle: AsyncResult[T]) -> None:
        if not callable(getattr(handle, "result", None)):
            raise UnsupportedSourceError(
                f"from_handle takes an object with an async result(), not"
                f" {type(handle).__name__}: {handle!r}"
            )
        self._promise = promise
        self._handle = handle
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin awaiting the handle on the running loop, unless that is under way."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                return
            self._loop = loop
        # Outside the lock: an eager task factory runs the handle's code in this very call.
        task = loop.create_task(self._run(), name=f"promise of {self._handle!r}")
        if not task.done():
            self._task = task

    def settled(self, *, cancelled: bool) -> None:  # noqa: ARG002 - the port's signature
        """Stop awaiting: whoever settled the promise, the handle's answer is not needed."""
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            run_on(loop, task.cancel)

    async def _run(self) -> None:
        promise = self._promise
        if promise.done():
            return
        try:
            value = await self._awaitable()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            self._task = None
            if promise.done():
                return
            if task is not None and task.cancelling():
                self._hand_over()
                raise
            promise.cancel(error.args[0] if error.args else None)
        except BaseException as error:
            self._task = None
            if not promise.set_exception(error):
                report_lost("a handle failed after its promise was settled", error, self._handle)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            self._task = None
            promise.set_result(value)

    def _awaitable(self) -> Awaitable[T]:
        pending = self._handle.result()
        if not inspect.isawaitable(pending):
            raise UnsupportedSourceError(
                f"result() of {self._handle!r} gave {type(pending).__name__}, which cannot be"
                " awaited; from_handle needs an async result(), from_future takes futures"
            )
        return pending

    def _hand_over(self) -> None:
        """Let another loop await the handle: the task of this one was cancelled with it."""
        with self._lock:
            self._loop = None
        here = running_loop()
        others = [loop for loop in self._promise.waiting_loops() if loop is not here]
        for loop in others:
            if run_on(loop, partial(self._resume_on, loop)):
                return
        if here is not None:
            here.call_soon(self._resume_on, here)

    def _resume_on(self, loop: asyncio.AbstractEventLoop) -> None:
        # Whoever awaited on this loop may be gone by now; then the next awaiter starts it.
        if loop in self._promise.waiting_loops():
            self.start()
