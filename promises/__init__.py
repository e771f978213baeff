"""Promises that are awaited on any loop and settled from any thread."""

from promises.awaitable import AwaitablePromise
from promises.errors import (
    NoRunningLoopError,
    NotAnExceptionError,
    NotSettledError,
    PromiseError,
    SourceLoopClosedError,
    UnsupportedSourceError,
)
from promises.state import State

__all__ = [
    "AwaitablePromise",
    "NoRunningLoopError",
    "NotAnExceptionError",
    "NotSettledError",
    "PromiseError",
    "SourceLoopClosedError",
    "State",
    "UnsupportedSourceError",
]
