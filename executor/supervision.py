"""One session's use of the watchdog, of its own thread, and of what running code teaches."""

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from executor.compiler import CompiledCell
from executor.interrupts import Guard, InterruptError, Position, awaiting_frames, position_of
from executor.modes import ExecutionMode
from executor.monitoring import LoopWatch, Stall, current_watch, experience, observe, rearm
from executor.outcome import Outcome
from executor.routing import Route
from executor.runs import Run
from executor.splitting import Part, mentions_loop, split
from executor.threads import ThreadedExecutor, no_loop_note
from executor.watchdog import watchdog

__all__ = ["Supervisor", "place_of", "was_stopped"]

CELL_PREFIX = "<sostenuto "
"""How the file names of cells begin, of every session."""

ABANDONED_NOTE = (
    "The cell hangs in a call that cannot be interrupted. Its thread was given up: it binds no "
    "names and writes no output any more."
)


class Supervisor:
    """What keeps one session's cells from freezing their host.

    Args:
        session: Names the session's thread.
        namespace: The live namespace.
    """

    def __init__(self, session: str, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._threads = ThreadedExecutor(f"sostenuto {session}")
        self.guard: Guard | None = None
        self._idle: Guard | None = None
        self._has_signal = False

    @property
    def abandoned(self) -> list[threading.Thread]:
        """Threads of this session that hang in C."""
        return self._threads.abandoned

    def begin(
        self, cell: CompiledCell, limit_s: float | None, loop: asyncio.AbstractEventLoop
    ) -> Guard:
        """Watch a cell that is about to run on the loop, which is the calling thread's.

        Args:
            cell: Compiled.
            limit_s: Seconds it may take, or None.
            loop: Whose thread the cell is going to hold.
        """
        if not self._has_signal:
            self._has_signal = watchdog.signals.acquire(self)
        guard = self._new_guard(cell, limit_s, loop)
        watchdog.watch(guard)
        return guard

    def end(self, guard: Guard) -> None:
        """The cell has left its frames, or never entered them."""
        watchdog.release(guard)
        if self.guard is guard:
            self.guard = None

    def press(self, guard: Guard, reason: str) -> None:
        """End a cell, from any thread, whatever it is doing.

        Args:
            guard: The cell's; one that is being pressed already keeps its reason.
            reason: "timeout", "interrupt" or "cancel".
        """
        watchdog.press(guard, reason)

    async def run_in_thread(
        self,
        cell: CompiledCell,
        call: Callable[[], Any],
        context: contextvars.Context,
        limit_s: float | None,
    ) -> tuple[Outcome, Guard, asyncio.CancelledError | None]:
        """Run a cell in the session's thread.

        Args:
            cell: Compiled.
            call: Runs the cell.
            context: The session's; still entered by the thread if that was abandoned.
            limit_s: Seconds it may take, or None.

        Returns:
            How the cell ended, its guard, whose ``abandoned`` says that it has not, and the
            caller's own cancellation if that came meanwhile.
        """
        guard = self._new_guard(cell, limit_s, asyncio.get_running_loop())
        cancellation = None
        try:
            outcome = await self._threads.run(
                partial(_outcome_of, call), guard=guard, context=context
            )
        except InterruptError as error:
            outcome = Outcome(None, error)
        except asyncio.CancelledError as error:
            cancellation = error
            outcome = Outcome(None, error)
        finally:
            if self.guard is guard:
                self.guard = None
        return outcome, guard, cancellation

    def _new_guard(
        self, cell: CompiledCell, limit_s: float | None, loop: asyncio.AbstractEventLoop
    ) -> Guard:
        guard = self.guard = Guard(
            thread_id=threading.get_ident(),
            prefix=CELL_PREFIX,
            namespace=self._namespace,
            codes=cell.codes,
            due_s=math.inf if limit_s is None else time.monotonic() + limit_s,
            loop=loop,
        )
        caller = asyncio.current_task()
        if isinstance(caller, asyncio.Task):
            guard.caller = caller
            guard.cancels = caller.cancelling()
        return guard

    def rest(self, run: Run, limit_s: float) -> None:
        """No cell runs, but tasks of the session do: see to it that they do not freeze the loop.

        Args:
            run: Gets a note if one had to be ended.
            limit_s: Seconds for which they may hold the loop at a stretch.
        """
        guard = self._idle = Guard(
            thread_id=threading.get_ident(),
            prefix=CELL_PREFIX,
            namespace=self._namespace,
            loop=asyncio.get_running_loop(),
        )
        guard.patience_s = limit_s

        def freed() -> None:
            held = f"held the event loop for {limit_s:g} s and was ended"
            run.note("task", f"A task or callback of the session {held}. {place_of(guard) or ''}")
            if self._idle is guard:
                self.rest(run, limit_s)

        guard.freed = freed
        watchdog.watch(guard)

    def wake(self) -> None:
        """A cell is about to run: its own guard takes over."""
        if self._idle is not None:
            watchdog.release(self._idle)
            self._idle = None

    # -- what running teaches ------------------------------------------------------------------

    def watch_loop(self, cell: CompiledCell, run: Run) -> LoopWatch | None:
        """Time the calls of a cell on the loop; each one that holds it becomes a note.

        Args:
            cell: Compiled.
            run: Gets the notes.
        """
        if not observe(cell.codes):
            return None
        return LoopWatch(on_stall=lambda stall: run.note("stall", str(stall), stall.line))

    def learn(self, cell: CompiledCell, watch: LoopWatch | None, held_s: float | None) -> None:
        """Remember where the cell held the loop, now that it has ended.

        Args:
            cell: What ran.
            watch: Of this run.
            held_s: How long the whole cell held the loop, if it awaited nothing.
        """
        if watch is None:
            return
        watch.leave()
        if watch.cooled:
            rearm(cell.codes, watch.cooled)
            watch.cooled.clear()
        if not watch.stalls and held_s is not None and held_s >= watch.threshold_s:
            watch.add(Stall(cell.filename, 1, None, held_s))
        if watch.stalls:
            experience.learn(cell.source, watch.stalls)

    def corrected(self, cell: CompiledCell, found: Route) -> Route:
        """Route a cell by what earlier runs of the same source taught.

        A cell that held the loop without awaiting anything is better off in a thread, unless it
        seems to need the loop: there it would fail.

        Args:
            cell: Compiled.
            found: What static analysis says.
        """
        if cell.is_coroutine or found.mode is ExecutionMode.BLOCKING_SYNC:
            return found
        stalls = experience.recall(cell.source)
        if not stalls or mentions_loop(cell.codes):
            return found
        return Route(ExecutionMode.BLOCKING_SYNC, f"its last run held the loop: {stalls[0]}")

    def parts(self, cell: CompiledCell, guard: Guard, run: Run) -> list[Part] | None:
        """Cut a cell that awaits, where earlier runs of its source held the loop.

        Args:
            cell: Compiled.
            guard: The cell's, which is given the codes of the parts.
            run: Gets a note of each statement that leaves the loop.

        Returns:
            The parts, or None where the cell is to run as it is.
        """
        stalls = experience.recall(cell.source)
        lines = [each.statement for each in stalls if each.statement is not None]
        parts = split(cell, lines) if lines else None
        if parts is None:
            return None
        guard.codes = tuple(part.code for part in parts)
        observe(guard.codes)
        for part in parts:
            if part.blocks:
                text = "runs in a thread, as it held the event loop the last time"
                run.note("thread", f"The statement in line {part.line} {text}.", part.line)
        return parts

    async def run_part(self, part: Part, guard: Guard, run: Run) -> Any:
        """Run a statement of a cell that awaits in the session's thread; called by the cell's task.

        Args:
            part: To be run; does not await.
            guard: The whole cell's.
            run: The cell's.

        Returns:
            What the code evaluates to.
        """
        # The task itself is inside the session's context, so the thread gets a copy, and what it
        # sets there is brought back.
        watch = current_watch.get()
        if watch is not None:
            watch.leave()
        context = contextvars.copy_context()
        context.run(current_watch.set, None)
        own = Guard(
            thread_id=0,
            prefix=CELL_PREFIX,
            namespace=self._namespace,
            codes=(part.code,),
            due_s=guard.due_s,
        )
        call = partial(eval, part.code, self._namespace)
        try:
            return await self._threads.run(call, guard=own, context=context)
        finally:
            for variable, value in context.items():
                if variable is not current_watch:
                    variable.set(value)
            guard.positions = own.positions
            if own.abandoned:
                run.is_muted = True
                run.note("abandoned", ABANDONED_NOTE)

    def explain(self, cell: CompiledCell, run: Run, error: BaseException | None) -> None:
        """Say why an asyncio call failed in a cell that ran in a thread, and learn from it.

        Args:
            cell: What ran.
            run: Gets the note, as the error does.
            error: What the cell raised, or None.
        """
        reason = "it may block" if run.route is None else run.route.reason
        note = None if error is None else no_loop_note(error, reason)
        if error is not None and note is not None:
            error.add_note(note)  # a plain RuntimeError: it takes notes
            run.note("thread", note)
            experience.bind_to_loop(cell.source)

    def close(self) -> None:
        """The session ends: its thread goes, and its claim on the signal."""
        self.wake()
        self._threads.close()
        watchdog.signals.release(self)
        self._has_signal = False


def _outcome_of(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(call())
    except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
        return Outcome(None, error)


def was_stopped(guard: Guard, outcome: Outcome | None) -> bool:
    """Whether the watchdog ended the cell, or gave it up.

    A cell that happened to end by itself after its time was up was not stopped.
    """
    if guard.reason is None:
        return False
    if guard.abandoned or guard.delivered > 0:
        return True
    return outcome is not None and issubclass(type(outcome.error), InterruptError)


def place_of(guard: Guard) -> str | None:
    """Say where a cell stood when its time was up: its own line, and below it where it hung."""
    positions = guard.positions or tuple(
        position_of(frame) for frame in awaiting_frames(guard.coroutine)
    )
    if not positions:
        return None
    own: Position = next(
        (each for each in positions if each.filename.startswith(CELL_PREFIX)), positions[0]
    )
    text = f"The code stood at {own.place}"
    if positions[0] is not own:
        text += f" (inside it, in {positions[0].function} at {positions[0].place})"
    return text
