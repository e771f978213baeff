"""One daemon thread that sees to it that cells end when they are told to.

It is the one party that still runs when a cell has frozen the event loop. To arm it costs a short
cell a dictionary entry: it looks at the guards a few times a second, and only a deadline nearer
than that wakes it.

A cell past its deadline is pressed in stages (:data:`STAGES`): first once and only in its own
code, with time for ``finally`` blocks to run; then also in the library code it called; then again
and again, so that no ``except BaseException: pass`` outlasts it. A cell in a thread that has not
ended by then is abandoned.
"""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from executor.interrupts import (
    ALL_FRAMES,
    OWN_FRAMES,
    Guard,
    aim,
    cell_stack,
    force,
    position_of,
    strike,
    unaim,
)
from executor.signals import SignalBridge

__all__ = ["ABANDON_AFTER_S", "STAGES", "Stage", "Watchdog", "watchdog"]

_log = logging.getLogger(__name__)


class Stage(NamedTuple):
    """How hard a cell is pressed.

    Attributes:
        after_s: Seconds after the deadline when the stage begins.
        reach: OWN_FRAMES or ALL_FRAMES.
        allowance: How often the exception is raised in this stage.
    """

    after_s: float
    reach: int
    allowance: float


# The caller of execute(timeout=1.0) is promised its TimeoutError within 2 s, so all must be over
# well within a second even on a loaded machine. The first 50 ms are asyncio.timeout's, which ends
# a cell that merely awaits in a better way than any of these.
STAGES = (
    Stage(0.05, OWN_FRAMES, 1),
    Stage(0.30, ALL_FRAMES, 1),
    Stage(0.55, ALL_FRAMES, math.inf),
)
ABANDON_AFTER_S = 0.75
"""Seconds after the deadline when a thread that has not come back is given up."""
_POLL_S = 0.1  # how late a deadline is noticed at worst, without a wake-up for each cell
_TICK_S = 0.02  # how often a pressed cell is looked at
_LINGER_S = 2.0  # how long the thread looks around with nothing to watch before it sleeps
_CANCEL_EVERY_S = 0.1
_REMIND_S = 0.5  # how often an abandoned thread is given its exception again
_CALLBACK_MODULES = ("executor.monitoring", "executor.interrupts")
_MAX_POSITIONS = 8  # innermost frames described in notes


class Watchdog:
    """Presses guards past their deadline; see the module's description.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.signals = SignalBridge()
        self.reset()

    def reset(self) -> None:
        """Forget everything: what a forked child does, which has none of the threads."""
        self._guards: dict[Guard, None] = {}
        self._ghosts: dict[Guard, float] = {}
        self._wake = threading.Event()
        self._next_look_s = -math.inf
        self._thread: threading.Thread | None = None

    def watch(self, guard: Guard) -> None:
        """Begin to watch a guard.

        Args:
            guard: With its deadline in ``due_s``.
        """
        self._guards[guard] = None
        if guard.due_s < self._next_look_s or self._next_look_s < 0:
            self._rouse()

    def press(self, guard: Guard, reason: str) -> None:
        """End a cell now, from any thread. A guard that is being pressed already stays as it is.

        Args:
            guard: Watched.
            reason: "interrupt", "timeout" or "cancel".
        """
        if guard.reason is None:
            guard.reason = reason
            guard.due_s = min(guard.due_s, self._clock())
            self._rouse()

    def release(self, guard: Guard) -> None:
        """Stop watching: the cell has left its frames. Nothing is raised for this guard any more.

        A guard whose thread was abandoned stays under watch until the thread has ended.
        """
        self._guards.pop(guard, None)
        if guard.abandoned:
            return
        guard.released = True
        if guard.reason is not None:
            _let_go(guard)

    def _rouse(self) -> None:
        if self._thread is None:
            thread = threading.Thread(
                target=self._run, name="sostenuto-watchdog", daemon=True, args=(self._wake,)
            )
            self._thread = thread
            thread.start()
        self._wake.set()

    # --- the thread -------------------------------------------------------------------------

    def _run(self, wake: threading.Event) -> None:
        idle_since_s = self._clock()
        while True:
            now_s = self._clock()
            pause_s = self._look(now_s)
            if pause_s is not None:
                idle_since_s = now_s
            elif now_s - idle_since_s > _LINGER_S:
                self._next_look_s = -math.inf
                if not self._guards:  # else it came between the look and the line above
                    wake.wait()
                    wake.clear()
                idle_since_s = self._clock()
                continue
            pause_s = _POLL_S if pause_s is None else pause_s
            self._next_look_s = now_s + pause_s
            wake.wait(pause_s)
            wake.clear()

    def _look(self, now_s: float) -> float | None:
        """Press what is due.

        Returns:
            Seconds until the next look, or None where there is nothing to watch.
        """
        guards = list(self._guards)
        pause_s = _POLL_S if guards or self._ghosts else None
        for guard in guards:
            if guard.due_s <= now_s:
                pause_s = _TICK_S
                try:
                    self._press(guard, now_s)
                except Exception:  # noqa: BLE001 - it must outlive every surprise
                    _log.exception("the watchdog could not press a cell; it tries again")
            elif guard.reason is None and guard.is_unwanted():
                self.press(guard, "cancel")
            elif pause_s is not None:
                pause_s = min(pause_s, guard.due_s - now_s)
                if guard.patience_s is not None:
                    self._listen(guard, guard.patience_s, now_s)
        for ghost in list(self._ghosts):
            self._haunt(ghost, now_s)
        return pause_s

    def _listen(self, guard: Guard, patience_s: float, now_s: float) -> None:
        """Notice a loop that is held by what a cell left running, while no cell runs."""
        if guard.asked_s is None:
            if not cell_stack(_frame_of(guard.thread_id), guard):
                return

            def answer() -> None:
                guard.asked_s = None
                if guard.reason is not None and not guard.released:
                    self.release(guard)
                    if guard.freed is not None:
                        guard.freed()

            guard.asked_s = now_s
            _call_soon(guard, answer)
        elif now_s - guard.asked_s >= patience_s:
            guard.beat_s = math.inf
            guard.due_s = now_s

    def _press(self, guard: Guard, now_s: float) -> None:
        overdue_s = now_s - guard.due_s
        guard.reason = guard.reason or "timeout"
        frame = _frame_of(guard.thread_id)
        stack = cell_stack(frame, guard)
        if not guard.positions and stack:
            guard.positions = tuple(position_of(each) for each in stack[:_MAX_POSITIONS])
        if self._beat(guard):
            return
        self._advance(guard, overdue_s)
        if guard.dedicated and overdue_s >= ABANDON_AFTER_S:
            self._abandon(guard, now_s)
        elif guard.allowance <= 0:
            unaim(guard)  # the cell's cleanup is to run at full speed
        elif stack and self._is_guilty(guard, stack[-1]):
            self._aim(guard, stack)
        elif guard.stage == len(STAGES) and not guard.dedicated:
            self._wake_up(guard, now_s)

    def _beat(self, guard: Guard) -> bool:
        """Ask the loop for a sign of life, once: a loop that gives it has cancelled the cell.

        Returns:
            Whether it was asked just now.
        """
        if guard.beat_s is not None or guard.loop is None or guard.dedicated:
            return False
        guard.beat_s = math.inf

        def answer() -> None:
            guard.beat_s = self._clock()

        _call_soon(guard, answer)
        return True

    def _advance(self, guard: Guard, overdue_s: float) -> None:
        while guard.stage < len(STAGES) and overdue_s >= STAGES[guard.stage].after_s:
            stage = STAGES[guard.stage]
            guard.stage += 1
            guard.reach = stage.reach
            guard.allowance = stage.allowance
            alive = guard.beat_s is not None and guard.beat_s != math.inf
            if alive and guard.stage < len(STAGES):
                guard.allowance = 0  # the loop has cancelled it: let the cleanup run

    def _wake_up(self, guard: Guard, now_s: float) -> None:
        """Cancel a cell that swallowed a cancellation and awaits again, until it has ended."""
        force(guard)
        if guard.cancel is not None and now_s - guard.cancelled_s >= _CANCEL_EVERY_S:
            guard.cancelled_s = now_s
            cancel = guard.cancel
            _call_soon(guard, lambda: None if guard.released else cancel())

    def _is_guilty(self, guard: Guard, base: FrameType) -> bool:
        """Whether this stack is what keeps the cell from ending.

        The cell's own stack is. Another one of the session, of a task or a callback, is when the
        loop gives no sign of life and two looks in a row found that stack on it.
        """
        if guard.is_root(base) or base in guard.bases:
            return True
        frozen = guard.beat_s == math.inf
        if frozen and guard.candidate is base:
            guard.bases.append(base)
            return True
        guard.candidate = base
        return False

    def _aim(self, guard: Guard, stack: list[FrameType]) -> None:
        aim(guard, guard.codes)
        aim(guard, [each.f_code for each in stack if guard.owns(each)])
        if guard.reach == ALL_FRAMES:
            # Library code that the cell has been in for a whole tick; a finalizer, which runs on
            # whatever stack an object dies, does not last that long.
            before = {id(each) for each in guard.last_stack}
            aim(guard, [each.f_code for each in stack if id(each) in before])
        guard.last_stack = stack
        top = stack[0]
        seen = (top, top.f_lasti, guard.delivered)
        if guard.last_seen == seen:
            # The same instruction for a whole tick and no event: it is in C.
            self.signals.send(guard)
        guard.last_seen = seen

    def _abandon(self, guard: Guard, now_s: float) -> None:
        if guard.lock is not None:
            with guard.lock:
                if guard.released:
                    return
                guard.abandoned = True
        guard.reach = ALL_FRAMES
        guard.allowance = math.inf
        self._guards.pop(guard, None)
        self._ghosts[guard] = -math.inf
        self._haunt(guard, now_s)
        abandon = guard.abandon
        if abandon is not None:
            _call_soon(guard, abandon)

    def _haunt(self, guard: Guard, now_s: float) -> None:
        """Keep an exception waiting for an abandoned thread, wherever it comes back to Python."""
        if guard.released:
            del self._ghosts[guard]
            _let_go(guard)
        elif now_s - self._ghosts[guard] >= _REMIND_S:
            self._ghosts[guard] = now_s
            frame = _frame_of(guard.thread_id)
            stack = cell_stack(frame, guard)
            aim(guard, guard.codes)
            aim(guard, [each.f_code for each in stack])
            strike(guard)


def _let_go(guard: Guard) -> None:
    """Take back what pressing a guard has left behind, frames above all."""
    unaim(guard)
    guard.bases = []
    guard.candidate = guard.last_seen = guard.known = None
    guard.last_stack = ()


def _frame_of(thread_id: int) -> FrameType | None:
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - has no public twin
    # A cell that makes many calls is seen in the callbacks that time them: look below those.
    while frame is not None and frame.f_globals.get("__name__") in _CALLBACK_MODULES:
        frame = frame.f_back
    return frame


def _call_soon(guard: Guard, callback: Callable[[], object]) -> None:
    if guard.loop is not None:
        try:
            guard.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop is closed: nobody waits for this cell any more.
            guard.cancel = None


watchdog = Watchdog()
"""The process's watchdog. One thread serves every executor; it starts with the first cell."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watchdog.reset)
