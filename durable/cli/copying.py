"""How far a copy has come: a bar on a terminal, a line a second elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from durable.cli.terminal import console

__all__ = ["Copying"]

#: A copy that is done sooner says nothing.
QUIET_S = 1.0


class Copying:
    """Progress of one copy.

    Args:
        what: The file that is copied.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._next_at = time.monotonic() + QUIET_S
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

            self._bar = Progress(
                "copying",
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Take in how many of the file's pages are copied; called from any thread."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = time.monotonic()
        if now >= self._next_at and total:
            self._next_at = now + QUIET_S
            print(
                f"sostenuto: {done * 100 // total} % of {self._what} copied",
                file=sys.stderr,
                flush=True,
            )
