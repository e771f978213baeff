"""Cells on a thread of their own, with the session's semantics.

A thread rather than a pool: cells of one session run one after another, so one thread is enough,
and code that keeps thread-local state finds it again in the next cell. It is a daemon thread: one
that hangs in C must not keep the process from exiting.
"""

import asyncio
import contextlib
import contextvars
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from executor.interrupts import Guard, InterruptError, withdraw
from executor.watchdog import Watchdog, watchdog

__all__ = ["ThreadedExecutor", "no_loop_note"]

# CPython hands the GIL over after this long, to any of those who wait: a loop beside one busy
# thread waits this long at each step, and beside four it loses the draw several times in a row.
# With the default of 5 ms that made it 10 and 100 ms late. Shorter intervals cost a busy cell no
# more than a few percent, and nothing where the loop has nothing to do.
_BUSY_SWITCH_INTERVAL_S = 0.00025
_CROWDED_SWITCH_INTERVAL_S = 0.0001


class _SwitchInterval:
    """Lowers the interpreter's switch interval while cells run in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._host_s = 0.0
        self._ours_s = 0.0

    def _apply(self, step: int) -> None:
        with self._lock:
            current_s = sys.getswitchinterval()
            if self._running == 0 or current_s != self._ours_s:
                self._host_s = current_s  # the host's own choice, or its newest one
            self._running += step
            wanted_s = self._host_s
            if self._running == 1:
                wanted_s = min(wanted_s, _BUSY_SWITCH_INTERVAL_S)
            elif self._running > 1:
                wanted_s = min(wanted_s, _CROWDED_SWITCH_INTERVAL_S)
            if wanted_s != current_s:
                sys.setswitchinterval(wanted_s)
            self._ours_s = sys.getswitchinterval()  # what it was rounded to

    @contextlib.contextmanager
    def lowered(self) -> Iterator[None]:
        self._apply(1)
        try:
            yield
        finally:
            self._apply(-1)


_switch_interval = _SwitchInterval()


class _Job:
    """One call on its way through the thread and back to the loop."""

    def __init__(
        self,
        call: Callable[[], Any],
        context: contextvars.Context,
        guard: Guard,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._call: Callable[[], Any] | None = call
        self._context: contextvars.Context | None = context
        self.guard = guard
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None

    def perform(self) -> None:
        """Run the call; in the thread."""
        call, context = self._call, self._context
        self._call = self._context = None
        try:
            try:
                self.value = context.run(call) if context is not None and call is not None else None
            except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                self.error = error
            withdraw(self.guard)
        except InterruptError as late:  # it was on its way when the call ended
            withdraw(self.guard)
            self.error = self.error or late
        del call, context
        if self.guard.abandoned:
            self.value = self.error = None
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self.settle)

    def settle(self) -> None:
        """Wake the caller; on the loop."""
        self.settled = True
        if not self.future.done():
            self.future.set_result(None)

    async def left(self) -> None:
        """Wait until the call has ended or was abandoned, however often this is cancelled."""
        while not self.settled:
            self.future = self._loop.create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await self.future


class _CellThread(threading.Thread):
    """A daemon thread that cells do not see as one: the threads they start would be daemons too."""

    _is_running = False

    def run(self) -> None:
        """Do what a thread does, no longer as a daemon to those who ask."""
        self._is_running = True
        super().run()

    @property
    def daemon(self) -> bool:
        """Whether a thread that is made in this one is a daemon."""
        return not self._is_running and super().daemon

    @daemon.setter
    def daemon(self, value: bool) -> None:
        threading.Thread.daemon.fset(self, value)  # type: ignore[attr-defined]  # a property


class _Worker:
    """A daemon thread and its queue."""

    def __init__(self, name: str) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.thread = _CellThread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            job = self.jobs.get()
            if job is None:
                return
            job.perform()
            if job.guard.abandoned:
                return
            del job  # an idle thread keeps no cell's values alive


class ThreadedExecutor:
    """Runs synchronous calls in order on one thread, and gives the thread up when one hangs.

    Args:
        name: Of the thread, as debuggers show it.
        watcher: What ends calls that do not return.

    Example:
        >>> threads = ThreadedExecutor("session")
        >>> await threads.run(lambda: len("work"))
        4
    """

    def __init__(self, name: str = "cells", *, watcher: Watchdog = watchdog) -> None:
        self._name = name
        self._watchdog = watcher
        self._worker: _Worker | None = None
        self._abandoned: list[threading.Thread] = []

    @property
    def abandoned(self) -> list[threading.Thread]:
        """Threads that were given up and are still alive."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        return self._abandoned

    async def run(
        self,
        call: Callable[[], Any],
        *,
        guard: Guard | None = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Run a call in the thread; the loop stays free.

        A cancelled caller gets its CancelledError when the call has ended, at the latest when the
        thread is abandoned: ``watchdog.ABANDON_AFTER_S`` later. An abandoned thread stays inside
        the context: go on in a copy of it.

        Args:
            call: Takes nothing.
            guard: Not yet watched; says when and how the call may be interrupted, and afterwards
                where it stood and whether it was abandoned. By default it has no time limit.
            context: In which the call runs; not entered by any other thread meanwhile. By
                default a copy of the caller's.

        Returns:
            What the call returns.

        Raises:
            InterruptError: The guard was pressed and the call ended by that, or was abandoned.
            BaseException: Whatever the call raised. A coroutine cannot raise StopIteration: a call
                that may do so returns its outcome instead.
        """
        loop = asyncio.get_running_loop()
        if guard is None:
            guard = Guard(thread_id=0, prefix="<", namespace={})
        if context is None:
            context = contextvars.copy_context()
        worker = self._worker
        if worker is None or not worker.thread.is_alive():  # a forked child has none of our threads
            worker = self._worker = _Worker(self._name)
        job = _Job(call, context, guard, loop)
        guard.dedicated = True
        guard.thread_id = worker.thread.ident or 0
        guard.loop = loop
        guard.lock = threading.Lock()
        guard.abandon = job.settle
        self._watchdog.watch(guard)
        with _switch_interval.lowered():
            worker.jobs.put(job)
            try:
                await job.future
            except asyncio.CancelledError:
                self._watchdog.press(guard, "cancel")
                await job.left()
                raise
            finally:
                self._watchdog.release(guard)
                guard.abandon = None  # job and guard know each other: a cycle would keep the value
                if guard.abandoned:
                    self._give_up(worker)
        if guard.abandoned:
            raise InterruptError(guard.reason)
        if job.error is not None:
            raise job.error
        return job.value

    def _give_up(self, worker: _Worker) -> None:
        self._abandoned.append(worker.thread)
        if self._worker is worker:
            self._worker = None

    def close(self) -> None:
        """Let the thread end once it is idle; does not wait for it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.jobs.put(None)


def no_loop_note(error: BaseException, reason: str) -> str | None:
    """Why an asyncio call failed in a cell that ran in a thread.

    Args:
        error: What the cell raised.
        reason: Why the cell was routed to a thread.

    Returns:
        A note for the error, or None where it is about something else.
    """
    if type(error) is not RuntimeError:
        return None
    text = str(error)
    if text != "no running event loop" and not text.startswith("There is no current event loop"):
        return None
    return (
        f"The cell ran in a thread, where no event loop runs, because {reason}. "
        "Tasks, futures and loop calls need a cell that runs on the event loop: await something "
        "in it, or put the blocking part and the asyncio part into two cells."
    )
