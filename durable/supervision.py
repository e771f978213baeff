"""Running one execution's function and stopping it: deadline, cancellation, closing."""

from __future__ import annotations

import asyncio
import contextlib
import dis
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from durable.errors import ExecutionCancelledError

__all__ = ["Abandoned", "StopReason", "Supervisor", "error_of", "is_own_exit"]

#: Seconds between two cancellations of code that swallows them.
_CANCEL_AGAIN_S = 0.2


class StopReason(Enum):
    """Why an execution's code was stopped from outside it."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    CLOSING = "closing"


class Abandoned(BaseException):
    """Ends an activation that has nothing to settle and nothing to hand back.

    A BaseException the SDK does not know, so that it neither fulfils nor releases
    a task that is over already or that another process holds.
    """


class Supervisor[T]:
    """Runs a body in a task of its own and stops it when told to.

    Args:
        body: The coroutine function to run.
        grace_s: Seconds that stopped code has for its ``finally`` blocks before it
            is left behind.
        stands_at: Says where the code stands that the given task runs.

    Attributes:
        reason: Why it was stopped, or None.
        stood: Where the code stood when it was stopped, or ''.
    """

    def __init__(
        self,
        body: Callable[[], Awaitable[T]],
        grace_s: float,
        stands_at: Callable[[asyncio.Task[T]], str],
    ) -> None:
        self._body = body
        self._stands_at = stands_at
        self._grace_s = grace_s
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[T] | None = None
        self._before_cancel: Callable[[StopReason], Awaitable[None]] | None = None
        self.reason: StopReason | None = None
        self.stood = ""

    def stop(self, reason: StopReason) -> None:
        """Ask the body to end; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            if not self._stop.done():
                self._stop.set_result(None)

    async def run(
        self,
        timeout_s: float | None,
        before_cancel: Callable[[StopReason], Awaitable[None]] | None = None,
    ) -> asyncio.Task[T] | None:
        """Run the body to its end, or stop it.

        Args:
            timeout_s: Seconds until the deadline, or None.
            before_cancel: Called after the reason and the place are known and before
                the code is cancelled.

        Returns:
            The finished task, or None for code that did not end within the grace.
        """

        async def body() -> T:
            try:
                return await self._body()
            except (SystemExit, KeyboardInterrupt) as error:
                if not is_own_exit(error):
                    raise
                # Out of a task these stop the event loop, and with it whatever else it runs.
                raise _Exit(error) from None

        self._task = task = asyncio.create_task(body(), name="sostenuto execution")
        try:
            either: list[asyncio.Future[Any]] = [task, self._stop]
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The engine itself is being torn down around us.
            self.stop(StopReason.CLOSING)
            await self._cancel(task)
            raise
        if task.done():
            return task
        if self.reason is None:
            self.reason = StopReason.TIMEOUT
        self.stood = self._stands_at(task)
        if before_cancel is not None:
            await before_cancel(self.reason)
        await self._cancel(task)
        return task if task.done() else None

    async def _cancel(self, task: asyncio.Task[T]) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._grace_s
        while not task.done():
            task.cancel()
            left_s = give_up_at - loop.time()
            await asyncio.wait({task}, timeout=max(0.0, min(_CANCEL_AGAIN_S, left_s)))
            if left_s <= 0:
                break
        if not task.done():
            task.add_done_callback(_forget)


class _Exit(Exception):  # noqa: N818 - carries an exception out of a task, is none of its own
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what the body of a finished task raised, or None."""
    if not task.cancelled():
        raised = task.exception()
        return raised.error if isinstance(raised, _Exit) else raised
    # Of its own: what stops it from outside is known before. An awaiter must not take it
    # for a cancellation of itself.
    ended = ExecutionCancelledError("its own code raised asyncio.CancelledError")
    try:
        task.result()
    except asyncio.CancelledError as cancelled:
        ended.__cause__ = cancelled
    return ended


def is_own_exit(error: BaseException) -> bool:
    """Tell whether code raised this itself, and not the interrupt of whoever runs the process.

    Both are a KeyboardInterrupt; but one that a signal brings does not come out of a
    ``raise`` statement of the code that it strikes.
    """
    if not isinstance(error, KeyboardInterrupt):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    operation = dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    return operation in {"RAISE_VARARGS", "RERAISE"}


def _forget(task: asyncio.Task[object]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
