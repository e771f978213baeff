"""What the executor itself can fail with; a cell's own exceptions leave as they are."""

from __future__ import annotations

__all__ = [
    "ExecutionInterruptedError",
    "ExecutorClosedError",
    "ExecutorError",
    "ReentrantExecutionError",
]


class ExecutorError(Exception):
    """Root of every exception that the executor raises on its own account."""


class ExecutionInterruptedError(ExecutorError):
    """``interrupt()`` stopped the cell that this ``execute()`` was running.

    An ordinary exception on purpose: a ``KeyboardInterrupt`` raised in a task stops the whole
    event loop, and a ``CancelledError`` would read as the cancellation of the caller.
    """


class ReentrantExecutionError(ExecutorError, RuntimeError):
    """A running cell asked its own executor to run another cell: it would wait for itself."""


class ExecutorClosedError(ExecutorError, RuntimeError):
    """The executor was closed by ``aclose()`` and runs no more cells."""
