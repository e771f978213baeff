"""What an app tells its listeners while executions run."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec

__all__ = ["Event", "EventKind", "Listener"]


class EventKind(Enum):
    """The moments a listener is told of."""

    EXECUTION_STARTED = "execution_started"
    EXECUTION_FINISHED = "execution_finished"
    CELL_STARTED = "cell_started"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    STEP_FAILED = "step_failed"
    STEP_REPLAYED = "step_replayed"
    STEP_RETRYING = "step_retrying"
    WAITING = "waiting"
    WOKEN = "woken"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One moment in the life of an execution.

    Attributes:
        kind: Which moment.
        execution_id: Id of the execution.
        step_id: Durable promise id of the step, or of the execution itself.
        name: Function name, or ``sleep``, ``promise``; of a cell, its title.
        at_ms: Wall clock, milliseconds since the epoch.
        due_ms: For ``waiting``: when it is due, or None where only others can settle it.
        detail: One line for a person: an error, the wait before the next attempt, which
            of how many cells.
    """

    kind: EventKind
    execution_id: str
    step_id: str
    name: str
    at_ms: int
    due_ms: int | None = None
    detail: str = ""


#: Called on the event loop for every event. Must not block; what it raises is logged.
type Listener = Callable[[Event], None]
