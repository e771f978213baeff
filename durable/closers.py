"""Closing what dependency factories made: in reverse order, all of it, however it fails."""

from __future__ import annotations

import contextlib
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from durable.dependency_errors import AsyncDependencyError, DependencyCloseError

__all__ = ["Closer", "add_note", "close_all", "closer_of", "drive", "is_lock"]

logger = logging.getLogger("durable.dependencies")


@dataclass(frozen=True, slots=True)
class Closer:
    """How one instance is closed.

    Attributes:
        name: the dependency's name.
        instance: what was handed out; whoever is handed it again does not close it again.
        close: called with whether the result may be awaited; may return an awaitable.
    """

    name: str
    instance: Any
    close: Callable[[bool], Any]


def closer_of(name: str, instance: Any) -> Closer | None:
    """Return how ``instance`` closes itself: ``aclose()`` where one can await, else ``close()``."""
    if isinstance(instance, type):
        return None
    aclose, close = (_method(instance, "aclose"), _method(instance, "close"))
    if aclose is None and close is None:
        return None

    def call(may_await: bool) -> Any:
        method = (aclose or close) if may_await else (close or aclose)
        return method() if method is not None else None

    return Closer(name, instance, call)


def _method(instance: Any, name: str) -> Callable[[], Any] | None:
    method = getattr(instance, name, None)
    return method if callable(method) else None


def is_lock(instance: Any) -> bool:
    """Tell whether entering ``instance`` would acquire it, as with locks and semaphores."""
    return all(_method(instance, name) is not None for name in ("acquire", "release"))


async def close_all(closers: list[Closer], what: str, *, may_await: bool) -> None:
    """Close in reverse order and empty the list; every one is tried.

    Args:
        closers: in order of building.
        what: whose dependencies these are, for the error.
        may_await: when false this never suspends, and an async close is one of the failures.

    Raises:
        DependencyCloseError: some failed; the failures are inside, noted with their names.
        BaseException: a cancellation (or exit) that arrived meanwhile, after all were tried.
    """
    failures: list[Exception] = []
    interruption: BaseException | None = None
    while closers:
        closer = closers.pop()
        try:
            await _close(closer, may_await=may_await)
        except Exception as error:  # noqa: BLE001 - all must be tried; they are raised together
            add_note(error, f"while closing dependency {closer.name!r}")
            failures.append(error)
        except BaseException as error:  # noqa: BLE001 - raised below, when all were tried
            interruption = interruption or error
    group = DependencyCloseError(f"closing {what}", failures) if failures else None
    if interruption is not None:
        if group is not None:
            logger.error("%s failed during a cancellation", group.message, exc_info=group)
        raise interruption
    if group is not None:
        raise group


async def _close(closer: Closer, *, may_await: bool) -> None:
    result = closer.close(may_await)
    if not inspect.isawaitable(result):
        return
    if not may_await:
        if inspect.iscoroutine(result):
            result.close()
        raise AsyncDependencyError(
            f"dependency {closer.name!r} closes asynchronously: close with await aclose()"
        )
    await result


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, unless it is of a kind that refuses (a frozen class)."""
    with contextlib.suppress(Exception):
        error.add_note(note)


def drive[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError(f"{coroutine!r} suspended where nothing may be awaited")


class ClosedOnExit(ABC):
    """What is closed by leaving it: ``close()`` by ``with``, ``aclose()`` by ``async with``."""

    @abstractmethod
    def close(self) -> None:
        """Close without awaiting."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
