"""Errors of the promises package, under one root."""

from __future__ import annotations

import asyncio

__all__ = [
    "NoRunningLoopError",
    "NotAnExceptionError",
    "NotSettledError",
    "PromiseError",
    "SourceLoopClosedError",
    "UnsupportedSourceError",
]


class PromiseError(Exception):
    """Root of every error this package raises of its own accord."""


class NotSettledError(PromiseError, asyncio.InvalidStateError):
    """The outcome of a pending promise was asked for without waiting.

    It is also an :class:`asyncio.InvalidStateError`, so code written for futures keeps working.
    """


class NoRunningLoopError(PromiseError, RuntimeError):
    """A promise was awaited, or asked for an asyncio future, where no event loop runs."""


class NotAnExceptionError(PromiseError, TypeError):
    """``set_exception`` was given something that cannot be raised."""


class UnsupportedSourceError(PromiseError, TypeError):
    """``from_future`` or ``from_handle`` was given something that is neither."""


class SourceLoopClosedError(PromiseError, RuntimeError):
    """A pending future belongs to a closed event loop, so it can never settle."""
