"""How a cell that does not return is made to: an exception raised in its own frames, nowhere else.

Three ways lead into a frame of a running cell, each precise in its own manner:

- ``sys.monitoring`` instruction events on the code objects found on the stack. The callback runs
  in the frame itself, so whether it may raise is decided where and when it would raise.
- A signal to the main thread, whose handler runs in the interrupted frame and decides the same;
  it also ends system calls such as ``time.sleep`` and ``recv``.
- An asynchronous exception into a thread that runs nothing but the cell.

Which frames belong to a cell is one rule, :func:`cell_stack`, used by all three.
"""

from __future__ import annotations

import asyncio
import ctypes
import linecache
import math
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from executor.instrumentation import add_events, register, remove_events, tool_id
from executor.safepoints import SafePoints, safe_points
from executor.source import nested_codes

__all__ = [
    "ALL_FRAMES",
    "OWN_FRAMES",
    "Guard",
    "InterruptError",
    "Position",
    "awaiting_chain",
    "awaiting_frames",
    "cell_stack",
    "protect_package",
]

OWN_FRAMES: Final = 0
"""Only frames of code that was written in the session."""
ALL_FRAMES: Final = 1
"""Also frames of libraries that the cell called."""

_INSTRUCTION: Final = sys.monitoring.events.INSTRUCTION
_RESUMABLE: Final = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_MAX_DEPTH: Final = 1000  # of awaited coroutines; CPython's own default recursion limit
_PACKAGE: Final = __name__.partition(".")[0]
# Frames of these packages end a cell's stack: an exception raised in or above them would strike
# code that keeps its own state, such as a transport that is writing, or another task of the loop.
# Weak references' callbacks run wherever an object happens to die: also on a cell's stack.
_FINALIZING: Final = frozenset({"_weakrefset", "weakref"})
_protected: set[str] = {_PACKAGE, "asyncio", *_FINALIZING}


def protect_package(name: str) -> None:
    """Never interrupt code of this top-level package, nor what it calls.

    Args:
        name: The first part of the module name, such as ``"durable"``.
    """
    _protected.add(name)


class InterruptError(asyncio.CancelledError):
    """Raised in a cell's own frames to end the cell.

    A kind of CancelledError, so ``except Exception`` does not catch it, and task groups and
    ``finally`` blocks treat it as what it is: the end of the work.
    """


class Position(NamedTuple):
    """A place in source code.

    Attributes:
        filename: As in tracebacks.
        line: From 1.
        function: The code object's qualified name.
        text: The source line without indentation, or "" where it cannot be had.
    """

    filename: str
    line: int
    function: str
    text: str

    @property
    def place(self) -> str:
        """File, line and source text, for people."""
        place = f"{self.filename}, line {self.line}"
        return f"{place}: {self.text}" if self.text else place


def position_of(frame: FrameType, line: int | None = None) -> Position:
    """The place a frame stands at.

    Args:
        frame: Of any thread, running or not.
        line: Where it stood when an exception passed, if it went on since.
    """
    code = frame.f_code
    line = line or frame.f_lineno or code.co_firstlineno
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    return Position(code.co_filename, line, code.co_qualname, text)


def awaiting_chain(awaitable: Any) -> list[tuple[Any, FrameType]]:
    """A suspended coroutine and what it awaits, each with its frame, outermost first.

    Args:
        awaitable: A coroutine, generator or async generator; anything else has no frames.
    """
    chain: list[tuple[Any, FrameType]] = []
    for _ in range(_MAX_DEPTH):
        frame = inner = None
        for kind in ("cr", "gi", "ag"):
            frame = frame or getattr(awaitable, f"{kind}_frame", None)
            inner = inner or getattr(awaitable, f"{kind}_await", None)
        inner = inner or getattr(awaitable, "gi_yieldfrom", None)
        if frame is None:
            break
        chain.append((awaitable, frame))
        awaitable = inner
    return chain


def awaiting_frames(awaitable: Any) -> list[FrameType]:
    """The frames of a suspended coroutine and of what it awaits, innermost first."""
    return [frame for _, frame in reversed(awaiting_chain(awaitable))]


class Guard:
    """What one execution allows to be interrupted, and what became of it.

    Attributes:
        thread_id: ``threading.get_ident()`` of the thread that runs the cell.
        dedicated: Whether that thread runs nothing but cells.
        prefix: How the filenames of this session's code objects begin.
        namespace: The live namespace, the globals of everything typed in the session.
        codes: The compiled parts of the cell.
        due_s: ``time.monotonic()`` seconds after which the cell is made to end; inf for never.
        reason: What for: "timeout" or "interrupt"; None while nobody wants the cell to end.
        loop: The loop of the caller.
        cancel: Called on the loop to cancel the task that awaits the cell.
        coroutine: The cell's coroutine, where it is one.
        caller: The task that awaits the cell, and `cancels` how often it had been cancelled.
        abandon: Called by the watchdog when a dedicated thread does not come back.
        patience_s: Where no cell runs: seconds for which the session's tasks may hold the loop.
        freed: Called on the loop once it has been freed from such a task.
        reach: OWN_FRAMES or ALL_FRAMES.
        allowance: How often the exception may still be raised; inf for as long as it takes.
        delivered: How often it was raised.
        bases: The lowest frames of the stacks that may be interrupted.
        positions: Where the cell stood when it was first to be interrupted, innermost first.
        released: The cell has ended; nothing may be raised any more.
        abandoned: The thread was given up.
    """

    # One is made for every cell, and few of them come to be pressed: what most never need is kept
    # by the class.
    abandon: Callable[[], object] | None = None
    abandoned = False
    allowance: float = 0
    asked_s: float | None = None
    beat_s: float | None = None
    caller: asyncio.Task[Any] | None = None
    cancel: Callable[[], object] | None = None
    cancels = 0
    cancelled_s = -math.inf
    candidate: FrameType | None = None
    coroutine: Any = None
    dedicated = False
    delivered = 0
    freed: Callable[[], object] | None = None
    known: tuple[FrameType, FrameType | None, FrameType] | None = None
    last_seen: tuple[FrameType, int, int] | None = None
    last_stack: Sequence[FrameType] = ()
    lock: threading.Lock | None = None
    patience_s: float | None = None
    positions: tuple[Position, ...] = ()
    reach = OWN_FRAMES
    reason: str | None = None
    released = False
    stage = 0

    def __init__(
        self,
        *,
        thread_id: int,
        prefix: str,
        namespace: dict[str, Any],
        codes: tuple[CodeType, ...] = (),
        due_s: float = math.inf,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.thread_id = thread_id
        self.prefix = prefix
        self.namespace = namespace
        self.codes = codes
        self.due_s = due_s
        self.loop = loop
        self.bases: list[FrameType] = []
        self.targets: dict[int, CodeType] = {}

    def is_unwanted(self) -> bool:
        """Whether the caller was cancelled, of which a frozen loop hears nothing."""
        return self.caller is not None and self.caller.cancelling() > self.cancels

    def owns(self, frame: FrameType) -> bool:
        """Whether the frame runs in the session's namespace: its cells, and what they exec."""
        return frame.f_globals is self.namespace

    def enters(self, frame: FrameType) -> bool:
        """Whether the frame can be the lowest of a cell's stack.

        A host may have lent its own globals as the namespace, so the code must be a cell's.
        """
        return self.owns(frame) and frame.f_code.co_filename.startswith(self.prefix)

    def is_root(self, frame: FrameType) -> bool:
        """Whether the frame is the cell's own, rather than one of a task or a callback."""
        return frame.f_globals is self.namespace and any(
            frame.f_code is code for code in self.codes
        )

    def admits(self, frame: FrameType) -> bool:
        """Whether the exception may be raised in this frame now.

        Args:
            frame: The innermost frame of the thread, of the executor's own frames excepted.
        """
        if self.released or self.allowance <= 0:
            return False
        if self.reach == OWN_FRAMES and not self.owns(frame):
            return False
        base = self._known_base(frame)
        if base is None:
            base = _base_of(frame, self)
            if base is None or not (self.is_root(base) or base in self.bases):
                return False
        if not frame.f_code.co_flags & _RESUMABLE:
            self.known = (frame, frame.f_back if frame is not base else None, base)
        return True

    def _known_base(self, frame: FrameType) -> FrameType | None:
        """The base, where the frame is next to one that was admitted before.

        A deep recursion that unwinds would be walked from end to end at every event. Only frames
        of plain functions count: those stay where they were called.
        """
        if frame.f_code.co_flags & _RESUMABLE or self.known is None:
            return None
        inner, outer, base = self.known
        called = frame.f_globals is self.namespace and frame.f_back is inner
        return base if frame is inner or frame is outer or called else None

    def take(self) -> None:
        """Count one exception, which the caller is about to raise."""
        handled = sys.exception()
        if self.allowance == math.inf and type(handled) is InterruptError:
            # One at every level of a deep recursion: CPython walks their whole chain for each.
            handled.__context__ = None
        self.allowance -= 1
        self.delivered += 1


def cell_stack(frame: FrameType | None, guard: Guard) -> list[FrameType]:
    """The frames of a cell, or of a task or a callback it made, on a stack.

    Args:
        frame: The innermost frame.
        guard: Of the session in question.

    Returns:
        The frames from the innermost one down to where the session's code was entered: all of
        them above the last frame of a protected package. Empty where the session's code is not
        what the thread is running: when the lowest of the frames is not the session's own.
    """
    base = None if frame is None else _base_of(frame, guard)
    stack: list[FrameType] = []
    if base is not None:
        while frame is not None and frame is not base:
            stack.append(frame)
            frame = frame.f_back
        stack.append(base)
    return stack


def _base_of(innermost: FrameType, guard: Guard) -> FrameType | None:
    """The lowest frame of a cell's stack. A stack can be deep and this is asked at each event."""
    namespace = guard.namespace
    frame: FrameType | None = innermost
    lowest: FrameType | None = None
    while frame is not None:
        if frame.f_globals is namespace:
            lowest = frame
        elif _is_protected(frame, guard):
            break
        elif not guard.dedicated:
            lowest = None  # entered from code that is not the session's, unless more is below
        frame = frame.f_back
    return lowest if lowest is not None and guard.enters(lowest) else None


def _is_protected(frame: FrameType, guard: Guard) -> bool:
    name = frame.f_globals.get("__name__")
    if not isinstance(name, str):
        return False
    package = name.partition(".")[0]
    if frame.f_code.co_name == "__del__" or package in _FINALIZING:
        return True
    # On a thread of its own, a loop that the cell runs is the cell's doing as well.
    return package == _PACKAGE if guard.dedicated else package in _protected


# --- instruction events ---------------------------------------------------------------------


class _Target(NamedTuple):
    """A code object under instruction events and those who asked for it."""

    code: CodeType
    points: SafePoints
    guards: tuple[Guard, ...]


_targets: dict[int, _Target] = {}
_targets_lock = threading.Lock()


def aim(guard: Guard, codes: Iterable[CodeType]) -> None:
    """Raise the exception at the next safe point of any of these code objects.

    Only in the guard's thread, only where :meth:`Guard.admits` agrees.

    Args:
        guard: Whose allowance is used up.
        codes: Functions and classes defined in them are included.
    """
    if not register(_INSTRUCTION, _on_instruction):
        return
    for outer in codes:
        for code in nested_codes(outer):
            if id(code) in guard.targets:
                continue
            points = safe_points(code)
            with _targets_lock:
                target = _targets.get(id(code))
                others = target.guards if target is not None else ()
                _targets[id(code)] = _Target(code, points, (*others, guard))
                guard.targets[id(code)] = code
                add_events(code, _INSTRUCTION)
    if guard.released and not guard.abandoned:
        unaim(guard)  # it ended meanwhile


def force(guard: Guard) -> None:
    """Let the cell's code run no further at all: whatever resumes it meets the exception.

    Args:
        guard: Of a cell that is suspended and is about to be left behind.
    """
    guard.reach = ALL_FRAMES
    guard.allowance = math.inf
    aim(guard, guard.codes)
    aim(guard, [frame.f_code for frame in awaiting_frames(guard.coroutine)])


def unaim(guard: Guard) -> None:
    """Take every event back that :func:`aim` set for this guard."""
    with _targets_lock:
        codes, guard.targets = guard.targets, {}
        for key, code in codes.items():
            target = _targets.get(key)
            if target is None:
                continue
            others = tuple(other for other in target.guards if other is not guard)
            if others:
                _targets[key] = target._replace(guards=others)
            else:
                del _targets[key]
                remove_events(code, _INSTRUCTION)


def _on_instruction(code: CodeType, offset: int) -> None:
    target = _targets.get(id(code))
    if target is None or offset not in target.points.firm:
        return
    thread_id = threading.get_ident()
    for guard in target.guards:
        if guard.thread_id != thread_id or guard.allowance <= 0:
            continue
        if guard.allowance != math.inf and offset not in target.points.gentle:
            continue
        if guard.admits(sys._getframe(1)):  # noqa: SLF001 - has no public twin
            guard.take()
            raise InterruptError(guard.reason)


# --- asynchronous exceptions ----------------------------------------------------------------


def strike(guard: Guard) -> None:
    """Leave an exception pending in a dedicated thread, to be raised when it next runs Python.

    Only where there is no monitoring id: it may be raised in a finalizer, and is lost there.
    The lock closes the gap between the cell's end and the thread's next work: see
    :func:`withdraw`.
    """
    lock = guard.lock
    if lock is None or tool_id() is not None:
        return
    with lock:
        if not guard.released:
            _set_async_exception(guard.thread_id, InterruptError)


def withdraw(guard: Guard) -> None:
    """Called by the dedicated thread itself when the cell has ended: nothing stays pending."""
    lock = guard.lock
    if lock is None:
        return
    with lock:
        guard.released = True
        _set_async_exception(guard.thread_id, None)


def _set_async_exception(thread_id: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), ctypes.py_object(error) if error is not None else None
    )
