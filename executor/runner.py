"""Runs compiled cells: inline, or as a task on the event loop that can be stopped.

The one seam of the executor: :meth:`CellRunner.run` is given a compiled cell, the mode it was
routed to and its time limit, and answers with an :class:`~executor.outcome.Outcome`. It never
raises what the cell raised.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from enum import Enum
from functools import partial
from typing import Any

from executor.compiler import CompiledCell
from executor.deadlines import add_timeout_notes, where
from executor.errors import ExecutionInterruptedError
from executor.interrupts import Guard, awaiting_chain, awaiting_frames, force
from executor.modes import ExecutionMode
from executor.monitoring import LoopWatch, current_watch
from executor.outcome import Outcome, drop_own_frame
from executor.runs import CURRENT_RUN, Run
from executor.splitting import Part
from executor.supervision import ABANDONED_NOTE, Supervisor, place_of, was_stopped
from executor.tasks import TaskRegistry

__all__ = ["CellRunner", "Stop"]

STOP_GRACE_S = 0.5
"""A stopped cell has this long for its ``finally`` blocks before its caller is let go."""


class Stop(Enum):
    """Why a cell was told to stop."""

    TIMEOUT = "timeout"
    INTERRUPT = "interrupt"
    CANCEL = "cancel"


def _run_inline(
    cell: CompiledCell, namespace: dict[str, Any], run: Run, watch: LoopWatch | None
) -> Any:
    CURRENT_RUN.set(run)
    current_watch.set(watch)
    if cell.body is not None:
        eval(cell.body, namespace)  # noqa: S307  # running the user's code is what this is for
    if cell.last is not None:
        return eval(cell.last, namespace)  # noqa: S307
    return None


def _leave_behind(code: Coroutine[Any, Any, Any]) -> None:
    """Close a cell's coroutine, unless it, or what it awaits, answers that with another await.

    Such a coroutine never ends. To collect it, at the end of the process at the latest, would only
    make it refuse once more, and without a running loop it may do so for ever: it is kept for good.
    """
    # From the inside: CPython 3.13.0 closes the outer one also where the inner one has refused.
    for awaited, _ in reversed(awaiting_chain(code)):
        try:
            awaited.close()
        except BaseException:  # noqa: BLE001  # whatever its clean-up raises, its caller is gone
            if awaiting_chain(awaited):  # it is suspended still
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
                return


@types.coroutine
def _next_round() -> Generator[None, None, None]:
    yield


class _LoopCell:
    """One cell on its way through the event loop, in a task of its own."""

    __slots__ = (
        "_code", "_grace", "_loop", "_supervisor", "_timer", "_waiter", "guard", "is_abandoned",
        "outcome", "place", "stop_reason", "task",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor, guard: Guard
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self.guard = guard
        self._waiter: asyncio.Future[None] | None = None
        self._code: Coroutine[Any, Any, Any] | None = None
        self.place: str | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.outcome: Outcome | None = None
        self.stop_reason: Stop | None = None
        self.is_abandoned = False

    async def main(
        self, cell: CompiledCell, namespace: dict[str, Any], run: Run, watch: LoopWatch | None
    ) -> None:
        """The task's coroutine; nothing that the cell raises gets out of it."""
        CURRENT_RUN.set(run)
        current_watch.set(watch)
        value = None
        try:
            parts = self._supervisor.parts(cell, self.guard, run) if cell.may_call else None
            if parts is not None:
                value = await self._run_parts(parts, namespace, run)
            elif cell.body is not None:
                pending = eval(cell.body, namespace)  # noqa: S307
                if cell.body_awaits:
                    await self._drive(pending)
            if parts is None and cell.last is not None:
                value = eval(cell.last, namespace)  # noqa: S307
                if cell.last_awaits:
                    value = await self._drive(value)
        except BaseException as error:  # noqa: BLE001  # SystemExit in a task would stop the loop
            self.outcome = Outcome(None, error)
        else:
            self.outcome = Outcome(value)
        self._supervisor.end(self.guard)
        self._supervisor.learn(cell, watch, None)
        self._wake()

    async def _run_parts(self, parts: list[Part], namespace: dict[str, Any], run: Run) -> Any:
        value = None
        for part in parts:
            if part.blocks:
                value = await self._supervisor.run_part(part, self.guard, run)
            else:
                value = eval(part.code, namespace)  # noqa: S307
                if part.awaits:
                    value = await self._drive(value)
        return value

    @types.coroutine
    def _drive(self, code: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await ``code``, keeping the power to leave it behind: what ``await`` cannot do."""
        self._code = self.guard.coroutine = code
        step: Callable[[], Any] = partial(code.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                self._code = None
                # Not into a variable: a frame that refers to its own traceback is a cycle.
                if end.__traceback__ is not None and end.__traceback__.tb_next is not None:
                    # Raised, not returned: of module code CPython does not tell the two apart.
                    raise RuntimeError("coroutine raised StopIteration") from end
                return end.value
            try:
                yield waits_for
            except BaseException as error:
                if self.is_abandoned:
                    force(self.guard)
                    _leave_behind(code)
                    raise
                drop_own_frame(error)
                step = partial(code.throw, error)
            else:
                step = partial(code.send, None)

    def stop(self, reason: Stop) -> None:
        """Cancel the cell; the first reason is the one that counts."""
        if self.outcome is not None or self.stop_reason is not None or self.task is None:
            return
        self.stop_reason = reason
        self.place = None if self._code is None else where(reversed(awaiting_frames(self._code)))
        self._grace = self._loop.call_later(STOP_GRACE_S, self.abandon)
        self.guard.cancel = self.task.cancel
        self._supervisor.press(self.guard, reason.value)
        self.task.cancel()

    def stop_threadsafe(self, reason: Stop) -> None:
        """The same from any thread, also while the loop is frozen and cannot hear it."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self.stop(reason)
        else:
            self._loop.call_soon_threadsafe(self.stop, reason)

    def abandon(self) -> None:
        """Leave the cell where it stands, and let the caller go."""
        if self.outcome is None and self.task is not None:
            self.is_abandoned = True
            self.task.cancel()

    async def left(self, limit_s: float | None) -> asyncio.CancelledError | None:
        """Wait until the cell has ended or was abandoned.

        Args:
            limit_s: Seconds until it is stopped, or None.

        Returns:
            The caller's own cancellation, where one came meanwhile; it stops the cell, and a
            second one abandons it.
        """
        due_s = None if limit_s is None else self._loop.time() + limit_s
        cancellation: asyncio.CancelledError | None = None
        # A cell that lets the others have their turn just once has ended when this one comes.
        waits_for: Awaitable[None] = _next_round()
        try:
            while self.outcome is None:
                try:
                    await waits_for
                except asyncio.CancelledError as error:
                    if cancellation is None:
                        cancellation = error
                        self.stop(Stop.CANCEL)
                    else:
                        self.abandon()
                if self.outcome is None:
                    waits_for = self._waiter = self._loop.create_future()
                    if self._timer is None and due_s is not None:
                        self._timer = self._loop.call_at(due_s, self.stop, Stop.TIMEOUT)
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()
            if self._grace is not None:
                self._grace.cancel()
        return cancellation

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class CellRunner:
    """Runs the cells of one session, one at a time.

    Args:
        namespace: Globals and locals of every cell.
        context: The session's context variables; every cell runs in this very context, so what
            one sets the next one sees.
        tasks: The tasks that the cells start.
        supervisor: Ends cells that do not end by themselves.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        context: Context,
        tasks: TaskRegistry,
        supervisor: Supervisor,
    ) -> None:
        self._supervisor = supervisor
        self._ended: list[concurrent.futures.Future[None]] = []
        self._namespace = namespace
        self._context = context
        self._tasks = tasks
        self._current: _LoopCell | None = None

    async def run(
        self, cell: CompiledCell, run: Run, mode: ExecutionMode, limit_s: float | None
    ) -> Outcome:
        """Run ``cell`` to its end, or to the end of its time.

        Args:
            cell: What to run.
            run: Whom its output, its tasks and its notes belong to.
            mode: Where it was routed to.
            limit_s: Seconds until it is stopped, or None.
        """
        self._supervisor.wake()
        try:
            if mode is ExecutionMode.TOP_LEVEL_AWAIT:
                return await self._run_on_loop(cell, run, limit_s)
            if mode is ExecutionMode.BLOCKING_SYNC:
                return await self._run_in_thread(cell, run, limit_s)
            return await self._run_inline(cell, run, limit_s)
        finally:
            if limit_s is not None and self._tasks.pending:
                self._supervisor.rest(run, limit_s)
            while self._ended:
                self._ended.pop().set_result(None)

    def stop(self, reason: Stop) -> concurrent.futures.Future[None] | None:
        """Stop the cell that is running, if one is; from any thread.

        Returns:
            A future that is done when the cell has ended or was given up; None where none runs.
        """
        guard, current = self._supervisor.guard, self._current
        if guard is None or guard.released:
            return None
        ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended.append(ended)
        if current is not None:
            current.stop_threadsafe(reason)
        self._supervisor.press(guard, reason.value)
        return ended

    async def _run_inline(self, cell: CompiledCell, run: Run, limit_s: float | None) -> Outcome:
        supervisor = self._supervisor
        watch = supervisor.watch_loop(cell, run) if cell.may_call else None
        guard = supervisor.begin(cell, limit_s, asyncio.get_running_loop())
        begun_s = time.perf_counter()
        try:
            outcome = Outcome(self._context.run(_run_inline, cell, self._namespace, run, watch))
        except BaseException as error:  # noqa: BLE001  # the caller raises it in its own frame
            outcome = Outcome(None, error)
        supervisor.end(guard)
        supervisor.learn(cell, watch, time.perf_counter() - begun_s)
        if was_stopped(guard, outcome):
            return await _stopped_outcome(guard, outcome, place_of(guard), cell, limit_s)
        return outcome

    async def _run_in_thread(self, cell: CompiledCell, run: Run, limit_s: float | None) -> Outcome:
        call = partial(_run_inline, cell, self._namespace, run, None)
        outcome, guard, cancellation = await self._supervisor.run_in_thread(
            cell, call, self._context, limit_s
        )
        place = place_of(guard)
        if guard.abandoned:
            # The thread is still inside the context, and its output is nobody's any more.
            self._context = self._context.copy()
            run.is_muted = True
            run.note("abandoned", f"{ABANDONED_NOTE} {place or ''}")
        if cancellation is None and was_stopped(guard, outcome):
            return await _stopped_outcome(guard, outcome, place, cell, limit_s)
        self._supervisor.explain(cell, run, outcome.error)
        return outcome

    async def _run_on_loop(self, cell: CompiledCell, run: Run, limit_s: float | None) -> Outcome:
        loop = asyncio.get_running_loop()
        watch = self._supervisor.watch_loop(cell, run) if cell.may_call else None
        guard = self._supervisor.begin(cell, limit_s, loop)
        current = _LoopCell(loop, self._supervisor, guard)
        main = current.main(cell, self._namespace, run, watch)
        # Run at once up to the first await: a cell that never waits costs no round of the loop.
        task = asyncio.Task(main, loop=loop, context=self._context, eager_start=True)
        if current.outcome is None:
            cancellation = await self._wait_for(current, task, limit_s)
            if cancellation is not None or current.stop_reason is not None:
                await self._clean_up(current, run)
            if cancellation is not None:
                return Outcome(None, cancellation)
        outcome = current.outcome
        assert outcome is not None  # _wait_for() has waited for it
        if current.stop_reason is None and not was_stopped(guard, outcome):
            return outcome
        if current.is_abandoned:
            # Without the user's frames it would show nothing but how the cell was left behind.
            outcome.forget()
        # A loop that lives has said where the cell awaited; of a frozen one there is a sample.
        place = current.place or place_of(guard)
        return await _stopped_outcome(guard, outcome, place, cell, limit_s)

    async def _wait_for(
        self, current: _LoopCell, task: asyncio.Task[None], limit_s: float | None
    ) -> asyncio.CancelledError | None:
        self._current = current
        current.task = task
        try:
            return await current.left(limit_s)
        finally:
            self._current = None

    async def _clean_up(self, current: _LoopCell, run: Run) -> None:
        """After a stop: cancel what the cell has started, and leave nothing shared with it."""
        children = self._tasks.pending_of(run)
        for child in children:
            child.cancel()
        if children:
            await asyncio.wait(children, timeout=STOP_GRACE_S)
        if current.is_abandoned:
            run.note(
                "abandoned",
                f"The cell had not ended {STOP_GRACE_S:g} seconds after it was stopped. It was "
                "left where it stood; what it had still to clean up may not have been done.",
            )


async def _stopped_outcome(
    guard: Guard,
    outcome: Outcome,
    place: str | None,
    cell: CompiledCell,
    limit_s: float | None,
) -> Outcome:
    if guard.reason == Stop.CANCEL.value:
        cancellation = await _own_cancellation()
        if place is not None:
            cancellation.add_note(place)
        return Outcome(None, cancellation)
    error: Exception
    if guard.reason == Stop.TIMEOUT.value:
        assert limit_s is not None  # nothing times out without a limit
        error = TimeoutError(f"the cell did not end within {limit_s:g} seconds")
        add_timeout_notes(error, limit_s, cell.source, place)
    else:
        error = ExecutionInterruptedError("the cell was interrupted")
        if place is not None:
            error.add_note(place)
    if guard.abandoned:
        error.add_note("The call there cannot be interrupted; its thread was given up")
    error.__cause__ = outcome.error
    return Outcome(None, error)


async def _own_cancellation() -> asyncio.CancelledError:
    """The caller's cancellation, of which it has not heard while the cell held the loop."""
    try:
        await _next_round()
    except asyncio.CancelledError as error:
        return error
    return asyncio.CancelledError()
