"""Everything the durable layer can fail with, rooted at :class:`DurableError`.

Each message says what was wrong, with what, and what to do about it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AppClosedError",
    "ConfigurationError",
    "DurableError",
    "EngineUnavailableError",
    "ExecutionCancelledError",
    "ExecutionMismatchError",
    "ExecutionOverError",
    "ExecutionTimeoutError",
    "ForeignContextError",
    "ForeignPayloadError",
    "InvalidArgumentError",
    "MissingExtraError",
    "NotRegisteredError",
    "PromiseRejectedError",
    "RemoteError",
    "ReplayDivergenceError",
    "SigningKeyError",
    "UndecodableValueError",
    "UnknownExecutionError",
    "UnknownTaskError",
    "UnserializableValueError",
    "WrongLoopError",
]


class DurableError(Exception):
    """Root of every error the durable layer raises of its own."""


class InvalidArgumentError(DurableError, ValueError):
    """An argument cannot be used; the message names it and the remedy."""


class ConfigurationError(DurableError, ValueError):
    """A URL or setting cannot be used; the message names it and the remedy."""


class MissingExtraError(ConfigurationError):
    """A URL needs a package that is not installed; the message has the pip command."""


class NotRegisteredError(DurableError, LookupError):
    """A function was started by a name or object that no ``register`` has seen."""


class AppClosedError(DurableError, RuntimeError):
    """The app is not open: before ``async with app`` or after it."""


class WrongLoopError(DurableError, RuntimeError):
    """The app was used from another event loop or thread than the one that opened it."""


class EngineUnavailableError(DurableError, ConnectionError):
    """The store or engine did not answer, also after bounded retries with jitter."""


class UnknownExecutionError(DurableError, LookupError):
    """No execution or promise with this id exists in the store."""


class ExecutionMismatchError(DurableError):
    """The id already names an execution of another function, other arguments or other source.

    Attributes:
        execution_id: The id in question.
        what: ``"function"``, ``"version"``, ``"arguments"`` or ``"source"``.
    """

    def __init__(self, message: str, *, execution_id: str = "", what: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.what = what


class ExecutionTimeoutError(DurableError, TimeoutError):
    """A durable timeout settled the execution, step or promise at its deadline."""


class ExecutionCancelledError(DurableError):
    """The execution, step or promise was cancelled.

    Deliberately not :class:`asyncio.CancelledError`: the task that awaits a
    handle is not itself being cancelled.
    """


class PromiseRejectedError(DurableError):
    """A durable promise was rejected with a value that is not an exception.

    Attributes:
        value: What it was rejected with.
    """

    def __init__(self, message: str, value: Any = None) -> None:
        super().__init__(message)
        self.value = value


class ExecutionOverError(DurableError, RuntimeError):
    """``ctx`` was used after its execution or step had ended."""


class ForeignContextError(DurableError, RuntimeError):
    """``ctx`` of one execution was used inside another."""


class UnknownTaskError(DurableError, RuntimeError):
    """``ctx`` was called where the step's place in the history cannot be known.

    Step ids derive from where an asyncio task was created. A task that was made
    behind the event loop's back (``asyncio.Task(...)``, a timer callback, another
    thread) has no such place, and guessing one would hand results to the wrong
    coroutine after a crash.
    """


class ReplayDivergenceError(DurableError):
    """The code asked for another step than the one its history recorded here.

    Attributes:
        step_id: Durable promise id of the step.
        recorded: ``{"step": name, "args": digest}`` as recorded.
        asked: The same, as the running code asked for it.
    """

    def __init__(
        self,
        message: str,
        *,
        step_id: str = "",
        recorded: dict[str, Any] | None = None,
        asked: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.step_id = step_id
        self.recorded = recorded or {}
        self.asked = asked or {}


class UnserializableValueError(DurableError, TypeError):
    """A value that nothing can store; the message names its type, its place and the remedy.

    Attributes:
        type_name: Qualified name of the type that cannot be stored.
        path: Where it is inside the value, as an expression: ``result["rows"][3].conn``.
        where: What returned the value.
    """

    def __init__(
        self, message: str, *, type_name: str = "", path: str = "", where: str = ""
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.path = path
        self.where = where


class UndecodableValueError(DurableError, ValueError):
    """A stored value of this installation that cannot be rebuilt here (a class is gone, say)."""


class ForeignPayloadError(DurableError, ValueError):
    """A stored value that must be signed by this installation is not, or was changed since."""


class SigningKeyError(DurableError):
    """The signing key cannot be used or made; the message names the file and the remedy."""


class RemoteError(DurableError):
    """A recorded exception whose own type cannot be had in this process.

    Attributes:
        type_name: ``module.QualName`` of the recorded exception, ``""`` if unknown.
        message: Its message.
        notes: Its notes.
    """

    def __init__(
        self, message: str, *, type_name: str = "", notes: list[str] | None = None
    ) -> None:
        super().__init__(f"{type_name}: {message}" if type_name else message)
        self.type_name = type_name
        self.message = message
        self.notes: list[str] = list(notes or [])
        for note in self.notes:
            self.add_note(note)
