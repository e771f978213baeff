"""The life of a promise as a table: pending, then settled once and for ever."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Final

from promises.errors import NotAnExceptionError

__all__ = ["TRANSITIONS", "Event", "Rejection", "State", "as_exception", "next_state"]


class State(StrEnum):
    """Where a promise stands."""

    PENDING = "pending"
    RESOLVED = "resolved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What a settler asks for."""

    RESOLVE = "resolve"
    REJECT = "reject"
    CANCEL = "cancel"


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.PENDING: {
        Event.RESOLVE: State.RESOLVED,
        Event.REJECT: State.REJECTED,
        Event.CANCEL: State.CANCELLED,
    },
    State.RESOLVED: {},
    State.REJECTED: {},
    State.CANCELLED: {},
}


def next_state(state: State, event: Event) -> State | None:
    """Look up where ``event`` leads from ``state``; ``None`` when it is refused."""
    return TRANSITIONS[state].get(event)


class Rejection:
    """A rejection as it was when it was settled, to be raised anew for every awaiter.

    Raising an exception writes to it: each ``raise`` adds traceback entries, and one inside an
    ``except`` block replaces the context. Awaiters share one exception object (its identity is
    part of the promise), so what raising changes is restored before each delivery. Notes are
    left alone: they are said about the exception, not about one awaiter's route to it.

    Args:
        exception: the exception every awaiter receives.
    """

    __slots__ = ("_cause", "_context", "_suppress_context", "_traceback", "exception")

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self._traceback: TracebackType | None = exception.__traceback__
        self._cause = exception.__cause__
        self._context = exception.__context__
        self._suppress_context = exception.__suppress_context__

    def restored(self) -> BaseException:
        """Return the exception with the traceback, cause and context it was settled with."""
        exception = self.exception
        # Past the class's own __setattr__: an exception may be a frozen dataclass.
        restore = partial(BaseException.__setattr__, exception)
        restore("__cause__", self._cause)
        restore("__context__", self._context)
        restore("__suppress_context__", self._suppress_context)
        return exception.with_traceback(self._traceback)


def as_exception(candidate: BaseException | type[BaseException]) -> BaseException:
    """Normalise what ``set_exception`` was given, as :class:`asyncio.Future` does.

    An exception class is instantiated. ``StopIteration`` would end the generator of whoever
    awaits instead of reaching its code, so a ``RuntimeError`` caused by it takes its place.

    Raises:
        NotAnExceptionError: ``candidate`` is not an exception.
    """
    exception = candidate() if isinstance(candidate, type) else candidate
    if not isinstance(exception, BaseException):
        raise NotAnExceptionError(
            f"a promise cannot be rejected with {candidate!r}: give an exception, or settle it"
            " with set_result(value)"
        )
    if not isinstance(exception, StopIteration):
        return exception
    replacement = RuntimeError(
        "StopIteration cannot be raised into a coroutine: it would end the coroutine silently"
    )
    replacement.__cause__ = exception
    return replacement
