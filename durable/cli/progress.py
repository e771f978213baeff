"""What ``sostenuto run`` shows while it runs: live on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self, TextIO

from durable.cli.terminal import console, moment

if TYPE_CHECKING:
    from durable.events import Event

__all__ = ["Activity", "LineProgress", "LiveProgress", "make_progress"]

#: Seconds between two plain lines, so that a log of a thousand steps stays readable.
LINE_INTERVAL_S = 1.0


class Activity:
    """What an execution is doing, kept from its events.

    Attributes:
        done: Steps finished by this process.
        replayed: Steps answered from the store.
        failed: Steps that failed for good.
        current: Name of the step begun last that still runs, or ''.
        cell: Which cell it is in, for source with cell markers; "" otherwise.
        waits: What it waits on: promise id to due time in ms, None where only others settle it.
    """

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.done = 0
        self.replayed = 0
        self.failed = 0
        self.waits: dict[str, int | None] = {}
        self._running: dict[str, str] = {}
        self.changed_at = self.started_at
        self.detail = ""
        self.cell = ""

    @property
    def current(self) -> str:
        """Name of the running step, and how many run beside it."""
        if not self._running:
            return ""
        name = next(reversed(self._running.values()))
        others = len(self._running) - 1
        return f"{name} (+{others})" if others else name

    @property
    def waiting(self) -> str:
        """What it waits on: a promise, or a moment."""
        promise_id, due_ms = next(iter(self.waits.items()))
        if due_ms is None:
            return f"waiting on {promise_id}"
        return f"sleeping until {moment(due_ms)}"

    @property
    def has_begun(self) -> bool:
        """Whether anything of it happened in this process."""
        return self.changed_at != self.started_at

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and all that is known of is waiting."""
        return not self._running and bool(self.waits)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command started to run it."""
        return time.monotonic() - self.started_at

    def note(self, event: Event) -> None:
        """Take in one event."""
        from durable.events import EventKind

        self.changed_at = time.monotonic()
        match event.kind:
            case EventKind.CELL_STARTED:
                self.cell = f"cell {event.detail}" + (f": {event.name}" if event.name else "")
            case EventKind.STEP_STARTED:
                self._running[event.step_id] = event.name
            case EventKind.STEP_FINISHED:
                self._running.pop(event.step_id, None)
                self.done += 1
            case EventKind.STEP_FAILED:
                self._running.pop(event.step_id, None)
                self.failed += 1
            case EventKind.STEP_REPLAYED:
                self.replayed += 1
            case EventKind.STEP_RETRYING:
                self.detail = event.detail
            case EventKind.WAITING:
                self.waits[event.step_id] = event.due_ms
            case EventKind.WOKEN:
                self.waits.pop(event.step_id, None)
            case _:
                pass

    def summary(self) -> str:
        """Return one line: steps done, current step, elapsed."""
        parts = [f"{self.done} step{'' if self.done == 1 else 's'} done"]
        if self.replayed:
            parts.append(f"{self.replayed} from the store")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.current:
            parts.append(f"in {self.current}")
        elif self.waits:
            parts.append(self.waiting)
        parts.append(f"{self.elapsed_s:.1f} s")
        return ", ".join(parts)


class LineProgress:
    """Plain lines on a stream that is no terminal."""

    def __init__(self, activity: Activity, stream: TextIO) -> None:
        self._activity = activity
        self._stream = stream
        self._next_at = time.monotonic() + LINE_INTERVAL_S
        self._shown = ""
        self._cell = ""
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._line(self._activity.summary())
        self._closed = True

    def update(self) -> None:
        """Show each new cell, and the activity at most once a second."""
        now = time.monotonic()
        if self._activity.cell != self._cell:
            self._cell = self._activity.cell
            self._line(self._cell)
        if now >= self._next_at:
            self._next_at = now + LINE_INTERVAL_S
            self._line(self._activity.summary())

    def say(self, text: str) -> None:
        """Show a line at once."""
        self._line(text)

    def _line(self, text: str) -> None:
        if text != self._shown and not self._closed:
            self._shown = text
            print(f"sostenuto: {text}", file=self._stream, flush=True)


class LiveProgress:
    """A live line below the program's own output, on a terminal."""

    def __init__(self, activity: Activity, console: Any) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._activity = activity
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("[dim]{task.fields[current]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", current="", total=None)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(None, None, None)
        self._progress.console.print(f"[dim]{self._activity.summary()}[/dim]", highlight=False)

    def update(self) -> None:
        """Show the activity; the display refreshes itself ten times a second."""
        from rich.markup import escape

        activity = self._activity
        done = f"{activity.done} step{'' if activity.done == 1 else 's'} done"
        if activity.cell:
            done = f"{escape(activity.cell)}  {done}"
        if activity.replayed:
            done += f", {activity.replayed} from the store"
        current = activity.current
        if not current and activity.waits:
            current = activity.waiting
        self._progress.update(self._task, description=done, current=escape(current))

    def say(self, text: str) -> None:
        """Show a line above the live one."""
        self._progress.console.print(text, highlight=False, markup=False)


class _Quiet:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def update(self) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


def make_progress(activity: Activity, *, quiet: bool) -> Any:
    """Return the progress display that fits standard error."""
    if quiet:
        return _Quiet()
    if sys.stderr.isatty():
        return LiveProgress(activity, console(stderr=True))
    return LineProgress(activity, sys.stderr)
