"""Which cell the code that is running belongs to: through awaits, tasks, callbacks and threads."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any, Protocol

from executor.routing import Route
from executor.transport import NoteMessage, Outlet

__all__ = ["CURRENT_RUN", "Run", "RunOwner", "current_run"]


class RunOwner(Protocol):
    """Who takes care of what a run has started."""

    def adopt(self, task: asyncio.Future[Any], run: Run) -> None:
        """Take in a task that was started on behalf of ``run``."""

    def lose(self, callback: object, error: BaseException, run: Run) -> None:
        """Report what a callback of ``run`` raised and nobody can catch."""


class Run:
    """One execution of one cell, as its tasks, its threads and its output know it.

    Attributes:
        execution_id: The executor's id.
        cell: Number of the cell.
        outlet: Where its messages go; None where no transport was given.
        owner: Told of every task that is started on behalf of this run.
        namespace: The session's live namespace.
        is_active: Whether the cell itself is still running.
        is_muted: Whether what it still writes is dropped: it hangs in a thread that was given up.
        notes: What was noted about it, in order.
        route: Where it was routed to and why, once that is known.
    """

    __slots__ = (
        "cell",
        "execution_id",
        "is_active",
        "is_muted",
        "namespace",
        "notes",
        "outlet",
        "owner",
        "route",
    )

    def __init__(
        self,
        execution_id: str,
        cell: int,
        outlet: Outlet | None,
        owner: RunOwner,
        namespace: dict[str, Any],
    ) -> None:
        self.execution_id = execution_id
        self.cell = cell
        self.outlet = outlet
        self.owner = owner
        self.namespace = namespace
        self.is_active = True
        self.is_muted = False
        self.notes: list[NoteMessage] = []
        self.route: Route | None = None

    def note(self, topic: str, text: str, line: int | None = None) -> None:
        """Record a note, and send it to the transport."""
        message = NoteMessage(self.execution_id, self.cell, topic, text, line)
        self.notes.append(message)
        if self.outlet is not None:
            self.outlet.send(message)


CURRENT_RUN: ContextVar[Run | None] = ContextVar("sostenuto_run", default=None)
"""Set in a session's context; tasks and callbacks inherit it with their copy of the context."""

THREAD_RUN_ATTRIBUTE = "_sostenuto_run"
"""Where a thread keeps the run that started it: before Python 3.14 threads inherit no context."""


def current_run() -> Run | None:
    """The run that the calling code belongs to, or None for code of the host."""
    run = CURRENT_RUN.get()
    if run is None:
        run = getattr(threading.current_thread(), THREAD_RUN_ATTRIBUTE, None)
    return run
