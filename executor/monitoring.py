"""What running code teaches: which calls held the event loop, and what to do the next time.

Static analysis cannot know every function. While a cell runs on the event loop, the calls in its
own code are timed: ``sys.monitoring`` events on the cell's code objects, functions included. A
call costs 0.2 to 0.4 microseconds more, most of it two looks at the clock, and a place that has
made a thousand quick calls is left alone. One that holds the loop for long becomes a
:class:`Stall`: a note for the user, and a lesson for the next run of the same source.
"""

import contextlib
import contextvars
import linecache
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from executor.instrumentation import add_events, register, remove_events, tool_id
from executor.source import nested_codes

__all__ = [
    "STALL_THRESHOLD_S",
    "Experience",
    "LoopWatch",
    "Stall",
    "end_turn",
    "experience",
    "name_of",
    "observe",
]

STALL_THRESHOLD_S: Final = 0.1
"""A loop held for longer has stalled; asyncio's own ``slow_callback_duration`` is the same."""

_SAMPLE_EVERY = 64  # calls; which place makes so many of them is looked at this often
_MAX_SAMPLES = 16  # of one place, which is then left alone: about a thousand calls
_MAX_STALLS = 8  # noted for one run: the first ones; a loop of slow calls makes no longer list
_MAX_TIMED_CALLS = 50_000  # then the code is left alone: at 0.4 us a call this is 20 ms in all
_MAX_SOURCES = 512
_MAX_SOURCE_CHARS = 64 * 1024
_EVENTS = sys.monitoring.events
_RESUMABLE: Final = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_NEVER_S: Final = math.inf
_PACKAGE: Final = __name__.partition(".")[0] + "."
_LOCAL_EVENTS: Final = _EVENTS.CALL | _EVENTS.PY_YIELD | _EVENTS.PY_RESUME


class Stall(NamedTuple):
    """A time in which a cell held the event loop.

    Attributes:
        filename: Of the cell, as in tracebacks.
        line: From 1, of the call; of the cell's first line where no call is to blame.
        call: What was called, or None where the time went into Python code of the cell.
        elapsed_s: How long nothing else ran.
        statement: Line of the statement at the top level of the cell that was running, or None
            where a task of the cell or a callback was.
    """

    filename: str
    line: int
    call: str | None
    elapsed_s: float
    statement: int | None = None

    def __str__(self) -> str:
        text = linecache.getline(self.filename, self.line).strip()
        where = f"{self.filename}, line {self.line}" + (f": {text}" if text else "")
        what = f"a call of {self.call}" if self.call else "running Python code"
        return f"The event loop stood still for {self.elapsed_s:.3f} s in {what} at {where}"


class LoopWatch:
    """The timing of one run of a cell on the event loop.

    A span of time opens at a call or when the cell is resumed, and closes at the call's return,
    at the next call, or when the cell awaits: what happens while it is suspended is not its doing.

    Args:
        threshold_s: Shorter spans are forgotten.
        on_stall: Called with each stall that is noted, in the thread and the context of the cell.
        clock: Seconds, of high resolution.
    """

    __slots__ = (
        "_hits", "_on_stall", "clock", "code", "cooled", "function", "offset", "opened_s", "stalls",
        "threshold_s", "timed_calls",
    )  # fmt: skip

    def __init__(
        self,
        threshold_s: float = STALL_THRESHOLD_S,
        clock: Callable[[], float] = time.perf_counter,
        on_stall: Callable[[Stall], object] | None = None,
    ) -> None:
        self.threshold_s = threshold_s
        self._on_stall = on_stall
        self.clock = clock
        self.opened_s = _NEVER_S  # no span is open
        self.code: CodeType | None = None
        self.offset = 0
        self.function: Any = None
        self.timed_calls = 0
        self._hits: dict[tuple[int, int], int] = {}
        self.cooled: list[CodeType] = []
        self.stalls: list[Stall] = []

    def enter(
        self, code: CodeType, offset: int, function: Any, frame: FrameType | None = None
    ) -> None:
        """A call begins, or the cell is resumed (``function`` is None then), in this frame."""
        now_s = self.clock()
        if now_s - self.opened_s >= self.threshold_s:
            self.close(now_s, frame, is_resumed=True)
        self.code = code
        self.offset = offset
        self.function = function
        self.opened_s = now_s

    def leave(self) -> None:
        """The call has returned, or the cell awaits or has ended."""
        now_s = self.clock()
        if now_s - self.opened_s >= self.threshold_s:
            self.close(now_s)
        self.opened_s = _NEVER_S
        self.function = None

    def cool(self, code: CodeType, offset: int) -> Any:
        """Decide, now and then, whether calls are to be timed on: here, or anywhere.

        Returns:
            What a callback of ``sys.monitoring`` returns to leave a place alone, or None.
        """
        key = (id(code), offset)
        hits = self._hits[key] = self._hits.get(key, 0) + 1
        is_spent = self.timed_calls > _MAX_TIMED_CALLS
        if hits < _MAX_SAMPLES and not is_spent:
            return None
        self.cooled.append(code)
        self.opened_s = _NEVER_S
        self.function = None
        if is_spent:
            remove_events(code, _LOCAL_EVENTS)
        return sys.monitoring.DISABLE

    def add(self, stall: Stall) -> None:
        """Note a stall; a run that has many of them keeps the first ones."""
        if len(self.stalls) < _MAX_STALLS:
            self.stalls.append(stall)
            if self._on_stall is not None:
                with contextlib.suppress(Exception):  # it would be raised in the cell's own frame
                    self._on_stall(stall)

    def close(
        self, now_s: float, frame: FrameType | None = None, *, is_resumed: bool = False
    ) -> None:
        """Note the span that is open as a stall.

        Args:
            now_s: When it ended.
            frame: Where code of the session goes on, if it does: maybe in another turn of the
                loop, and then the loop did not stand still.
            is_resumed: Whether that frame has just been resumed.
        """
        code, function = self.code, self.function
        if code is None or (frame is not None and _is_another_turn(frame, is_resumed=is_resumed)):
            return
        call = None if function is None else name_of(function)
        line = _line_at(code, self.offset)
        statement = _statement_at(sys._getframe(1))  # noqa: SLF001 - has no public twin
        self.add(Stall(code.co_filename, line, call, now_s - self.opened_s, statement))


current_watch: contextvars.ContextVar[LoopWatch | None] = contextvars.ContextVar(
    "sostenuto_loop_watch", default=None
)
"""The run whose code is executing: set for a cell, inherited by the tasks that it starts."""


def observe(codes: Iterable[CodeType]) -> bool:
    """Time the calls in these code objects whenever they run under a watch.

    Args:
        codes: The parts of a compiled cell; functions defined in them are included.

    Returns:
        Whether they can be observed; not where other tools hold every monitoring id.
    """
    if tool_id() is None:
        return False
    _register_callbacks()
    for outer in codes:
        for code in nested_codes(outer):
            add_events(code, _LOCAL_EVENTS)
    return True


_registered: list[bool] = []


def rearm(codes: Iterable[CodeType], cooled: Iterable[CodeType]) -> None:
    """Let the next run of a cell be timed again where this one has been left alone.

    Args:
        codes: The parts of the compiled cell.
        cooled: Code objects with such places, of this cell or of others.
    """
    own = {id(code) for outer in codes for code in nested_codes(outer)}
    for code in cooled:
        if id(code) in own:
            remove_events(code, _LOCAL_EVENTS)  # observe() puts them back


def _register_callbacks() -> None:
    if not _registered:
        _registered.append(True)
        register(_EVENTS.CALL, _on_call)
        register(_EVENTS.C_RETURN, _on_return)
        register(_EVENTS.C_RAISE, _on_return)
        register(_EVENTS.PY_YIELD, _on_yield)
        register(_EVENTS.PY_RESUME, _on_resume)


_here = current_watch.get


def _on_call(code: CodeType, offset: int, function: Any, _argument: object) -> Any:
    # As LoopWatch.enter() does, without the call: this runs at every call of a cell.
    watch = _here()
    if watch is None:
        return None
    now_s = watch.clock()
    if now_s - watch.opened_s >= watch.threshold_s:
        watch.close(now_s, sys._getframe(1))  # noqa: SLF001 - has no public twin
    watch.code = code
    watch.offset = offset
    watch.function = function
    watch.opened_s = now_s
    watch.timed_calls = timed_calls = watch.timed_calls + 1
    return None if timed_calls % _SAMPLE_EVERY else watch.cool(code, offset)


def _on_return(_code: CodeType, _offset: int, _function: object, _argument: object) -> None:
    watch = _here()
    if watch is not None:
        now_s = watch.clock()
        if now_s - watch.opened_s >= watch.threshold_s:
            watch.close(now_s)
        watch.opened_s = _NEVER_S
        watch.function = None


def _on_yield(_code: CodeType, _offset: int, _value: object) -> None:
    end_turn()


def _on_resume(code: CodeType, offset: int) -> None:
    watch = _here()
    if watch is not None:
        watch.enter(code, offset, None, sys._getframe(1))  # noqa: SLF001 - has no public twin


def end_turn() -> None:
    """Code of a cell gives the loop back: whatever is open ends here."""
    watch = _here()
    if watch is not None:
        watch.leave()


def _is_another_turn(frame: FrameType, *, is_resumed: bool) -> bool:
    """Whether the loop has called the session's code anew since the span was opened.

    A function that ends in a call of Python code leaves its span open: no event says that it has
    returned. Tasks and the callbacks that are contained close it when they end; what is left are
    functions that the loop calls unseen, such as the methods of a protocol.
    """
    lowest = frame
    below = frame.f_back
    while below is not None:
        if below.f_globals is frame.f_globals:
            lowest = below
        below = below.f_back
    code, caller = lowest.f_code, lowest.f_back
    if code.co_flags & _RESUMABLE:
        # Resumed by the loop: what was open before is over. Later spans have begun after that.
        return is_resumed and lowest is frame
    if code.co_name == "<module>":
        return False
    name = None if caller is None else caller.f_globals.get("__name__")
    return not (isinstance(name, str) and name.startswith(_PACKAGE))


def _line_at(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def _statement_at(innermost: FrameType) -> int | None:
    """The line at which a cell's own frame stands, below the functions that it called."""
    frame: FrameType | None = innermost
    cell: FrameType | None = None
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith("<"):
            cell = frame
        elif cell is not None and frame.f_globals is not cell.f_globals:
            break
        frame = frame.f_back
    return None if cell is None else cell.f_lineno


def name_of(function: Any) -> str:
    """A readable name, from what the type says: an object's own attributes may be hostile."""
    kind = type(function)
    owner = function if kind.__module__ == "builtins" or issubclass(kind, type) else kind
    try:
        name = getattr(owner, "__qualname__", None)
        module = getattr(owner, "__module__", None)
        if module is None:
            module = getattr(getattr(owner, "__objclass__", None), "__module__", None)
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        return kind.__name__
    if type(name) is not str:
        return kind.__name__
    if type(module) is str and module not in ("builtins", "__main__"):
        return f"{module}.{name}"
    return name


class Experience:
    """Which sources held the loop, and where: bounded, shared by the executors of a process.

    Args:
        max_sources: The least recently used source is forgotten beyond this number.
    """

    def __init__(self, max_sources: int = _MAX_SOURCES) -> None:
        self._max_sources = max_sources
        self._lock = threading.Lock()
        self._stalls: OrderedDict[str, tuple[Stall, ...]] = OrderedDict()
        self._bound: OrderedDict[str, None] = OrderedDict()

    def learn(self, source: str, stalls: Iterable[Stall]) -> None:
        """Remember where a run of the source held the loop; nothing where it did not."""
        learnt = list(stalls)
        if not learnt or len(source) > _MAX_SOURCE_CHARS:
            return
        with self._lock:
            # A statement that left the loop stalls no more, and is to be remembered all the same.
            known = self._stalls.get(source, ())
            lines = {stall.line for stall in known}
            new = [stall for stall in learnt if stall.line not in lines]
            self._stalls[source] = (*known, *new)[:_MAX_STALLS]
            self._stalls.move_to_end(source)
            while len(self._stalls) > self._max_sources:
                self._stalls.popitem(last=False)

    def recall(self, source: str) -> tuple[Stall, ...]:
        """What earlier runs of the source taught; empty for one that needs the loop."""
        if not self._stalls:
            return ()
        with self._lock:
            if source not in self._stalls or source in self._bound:
                return ()
            self._stalls.move_to_end(source)
            return self._stalls[source]

    def bind_to_loop(self, source: str) -> None:
        """The source failed away from the loop: it is never routed elsewhere again."""
        with self._lock:
            self._bound[source] = None
            while len(self._bound) > self._max_sources:
                self._bound.popitem(last=False)

    def forget(self) -> None:
        """Start anew."""
        with self._lock:
            self._stalls.clear()
            self._bound.clear()


experience = Experience()
"""What the process has learnt. Source text alone is the key, as it is for compiled code."""
