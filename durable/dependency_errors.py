"""What registering, building and closing dependencies can fail with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from durable.errors import DurableError

__all__ = [
    "AsyncDependencyError",
    "CaptiveDependencyError",
    "ConstructionFailedError",
    "ContainerClosedError",
    "DependencyBusyError",
    "DependencyCloseError",
    "DependencyCycleError",
    "DependencyError",
    "DependencyInUseError",
    "ExecutionContextError",
    "InvalidDependencyError",
    "UnknownDependencyError",
]


class DependencyError(DurableError):
    """Root of the errors of dependency injection."""


class InvalidDependencyError(DependencyError, TypeError):
    """A registration cannot work: a wrong name, arity or kind of object."""


class UnknownDependencyError(DependencyError, KeyError):
    """Nothing is registered under this name; the message lists the names that are.

    Attributes:
        name: the name asked for.
        registered: the registered names, sorted.
        nearest: the registered name most like it, if one is.
    """

    def __init__(self, name: object, registered: Sequence[str], nearest: str | None) -> None:
        known = ", ".join(map(repr, registered)) or "none"
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        super().__init__(
            f"no dependency is registered as {name!r}.{hint} Registered: {known}."
            " Register it with set_dependency(name, factory_or_value)"
        )
        self.name = name
        self.registered = tuple(registered)
        self.nearest = nearest

    # KeyError shows the repr of its message; this one is written for people.
    __str__ = Exception.__str__


class DependencyInUseError(DependencyError):
    """A shared dependency was registered again after it had been handed out."""


class DependencyCycleError(DependencyError, RecursionError):
    """Factories need each other in a circle.

    Attributes:
        cycle: the names along it; the first is repeated at the end.
    """

    def __init__(self, cycle: Sequence[str]) -> None:
        super().__init__(
            f"dependencies need each other in a circle: {' -> '.join(cycle)}; let one of the"
            " factories ask for the other later, when its instance is used"
        )
        self.cycle = tuple(cycle)


class CaptiveDependencyError(DependencyError):
    """A singleton asked for a dependency that lives for one execution only."""


class ExecutionContextError(CaptiveDependencyError, AttributeError):
    """A singleton's factory asked for what only the context of an execution has.

    It is also an :class:`AttributeError`, so ``getattr(ctx, name, default)`` gives the default.
    """


class AsyncDependencyError(DependencyError):
    """A dependency that must be awaited was asked for without ``await``."""


class DependencyBusyError(DependencyError):
    """A dependency was asked for without ``await`` while a task of the same thread builds it."""


class ConstructionFailedError(DependencyError):
    """A task that a factory started asks for more although the factory has failed."""


class ContainerClosedError(DependencyError):
    """The execution has ended and its dependencies are closed."""


class DependencyCloseError(DependencyError, ExceptionGroup[Exception]):
    """Some dependencies could not be closed; all were tried, and all failures are inside."""

    def __new__(cls, message: str, exceptions: Sequence[Exception]) -> Self:
        """Make the group; ``exceptions`` must not be empty."""
        return super().__new__(cls, message, exceptions)

    def derive[E: Exception](self, excs: Sequence[E]) -> ExceptionGroup[E]:  # type: ignore[override]
        """Keep the type when the group is split."""
        return DependencyCloseError(self.message, excs)  # type: ignore[return-value]
