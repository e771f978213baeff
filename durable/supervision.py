"""Running one execution's function and stopping it: deadline, cancellation, closing."""

from __future__ import annotations

import asyncio
import contextlib
import dis
from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import Any

from durable.errors import ExecutionCancelledError

__all__ = [
    "LONGEST_WAIT_S",
    "Abandoned",
    "StopReason",
    "Supervisor",
    "end_within",
    "error_of",
    "is_own_exit",
]

#: How often code that has used up its grace is cancelled again, and seconds between: enough
#: for what swallowed the first cancellation by mistake, too little to count as more grace.
_INSIST_TIMES = 3
_INSIST_EVERY_S = 0.05

#: Seconds of the longest single wait given to an event loop, whose timers overflow
#: beyond some days on some platforms.
LONGEST_WAIT_S = 86_400.0

#: Seconds of the shortest: a wall clock tells milliseconds, and may stand still in tests.
_SHORTEST_WAIT_S = 0.002


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
        longest_wait_s: Seconds after which the deadline is looked at again.

    Attributes:
        reason: Why it was stopped, or None.
        stood: Where the code stood when it was stopped, or ''.
    """

    def __init__(
        self,
        body: Callable[[], Awaitable[T]],
        grace_s: float,
        stands_at: Callable[[asyncio.Task[T]], str],
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._longest_wait_s = longest_wait_s
        self._body = body
        self._stands_at = stands_at
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._grace_ends_at: float | None = None
        self.reason: StopReason | None = None
        self.stood = ""

    def stop(self, reason: StopReason) -> None:
        """Ask the body to end; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            self._wake()

    def stop_threadsafe(self, reason: StopReason) -> None:
        """Do the same from another thread, also while the loop is held and hears it later."""
        if self.reason is None:
            self.reason = reason
            self._loop.call_soon_threadsafe(self._wake)

    def grace_left_s(self) -> float:
        """Return the seconds that cleanup still has; all of them where nothing was stopped."""
        if self._grace_ends_at is None:
            return self._grace_s
        return max(0.0, self._grace_ends_at - self._loop.time())

    def _wake(self, _: object = None) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _stop_when_late(self, left_s: Callable[[], float]) -> None:
        left = left_s()
        if left <= 0:
            self.stop(StopReason.TIMEOUT)
            return
        # Asked again then: the wall clock may have been set, and timers end at some days.
        wait_s = min(max(left, _SHORTEST_WAIT_S), self._longest_wait_s)
        self._timer = self._loop.call_later(wait_s, self._stop_when_late, left_s)

    async def run(
        self,
        left_s: Callable[[], float],
        before_cancel: Callable[[StopReason], Awaitable[None]] | None = None,
    ) -> asyncio.Task[T] | None:
        """Run the body to its end, or stop it.

        Args:
            left_s: Tells the seconds until the deadline.
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

        task = asyncio.create_task(body(), name="sostenuto execution")
        task.add_done_callback(self._wake)
        self._stop_when_late(left_s)
        try:
            await self._over
        except asyncio.CancelledError:
            # The engine itself is being torn down around us.
            self.stop(StopReason.CLOSING)
            await self._cancel(task)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if task.done():
            return task
        assert self.reason is not None
        self.stood = self._stands_at(task)
        if before_cancel is not None:
            await before_cancel(self.reason)
        await self._cancel(task)
        return task if task.done() else None

    async def _cancel(self, task: asyncio.Task[T]) -> None:
        """Cancel once, as asyncio does, and insist only when the grace is over.

        A second cancellation would cut the ``await`` of the very cleanup that the first
        one has begun. Code that swallowed it is refused its next durable operation.
        """
        self._grace_ends_at = self._loop.time() + self._grace_s
        task.cancel()
        await asyncio.wait({task}, timeout=self._grace_s)
        for _ in range(_INSIST_TIMES):
            if task.done():
                return
            task.cancel()
            await asyncio.wait({task}, timeout=_INSIST_EVERY_S)
        if not task.done():
            _leave_behind(task)


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


async def end_within(
    grace_s: float, tasks: Collection[asyncio.Task[Any]]
) -> set[asyncio.Task[Any]]:
    """Wait for cancelled tasks, whose results nobody wants, and leave behind what does not end.

    Returns:
        The tasks that were left behind.
    """
    if not tasks:
        return set()
    done, left = await asyncio.wait(tasks, timeout=grace_s)
    for task in done:
        _forget(task)
    for task in left:
        _leave_behind(task)
    return left


_left_behind: set[asyncio.Task[Any]] = set()


def _leave_behind(task: asyncio.Task[Any]) -> None:
    """Let nobody wait for a task that does not end, and keep it from being collected.

    Collecting it would ask it to end once more, which it refuses.
    """
    _left_behind.add(task)
    task.add_done_callback(_forget)
    # asyncio.run() would wait for it for ever at its end.
    asyncio._unregister_task(task)  # noqa: SLF001 - documented for loop authors


def _forget(task: asyncio.Task[Any]) -> None:
    _left_behind.discard(task)
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
