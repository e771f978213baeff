"""The ways a cell can run, shared by routing and by the executor itself."""

from __future__ import annotations

from enum import Enum

__all__ = ["ExecutionMode"]


class ExecutionMode(Enum):
    """How :class:`~executor.AsyncExecutor` runs a source string."""

    TOP_LEVEL_AWAIT = "top_level_await"
    """The compiled cell is a coroutine: awaited on the event loop."""

    ASYNC_DEF = "async_def"
    """Defines async functions but awaits nothing itself: runs inline."""

    BLOCKING_SYNC = "blocking_sync"
    """Could wait on I/O, a lock, a process or a clock: runs in a thread."""

    SIMPLE_SYNC = "simple_sync"
    """Plain synchronous code: runs inline."""
