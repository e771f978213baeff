"""Top-level await: run source text in a live session as if typed at a prompt that allows it."""

from __future__ import annotations

from executor.async_executor import AsyncExecutor
from executor.errors import (
    ExecutionInterruptedError,
    ExecutorClosedError,
    ExecutorError,
    ReentrantExecutionError,
)
from executor.modes import ExecutionMode
from executor.namespace import ENGINE_INTERNALS, NamespaceManager
from executor.threads import ThreadedExecutor
from executor.transport import (
    ErrorMessage,
    Message,
    NoteMessage,
    OutputMessage,
    ResultMessage,
    Transport,
)

__all__ = [
    "ENGINE_INTERNALS",
    "AsyncExecutor",
    "ErrorMessage",
    "ExecutionInterruptedError",
    "ExecutionMode",
    "ExecutorClosedError",
    "ExecutorError",
    "Message",
    "NamespaceManager",
    "NoteMessage",
    "OutputMessage",
    "ReentrantExecutionError",
    "ResultMessage",
    "ThreadedExecutor",
    "Transport",
]
