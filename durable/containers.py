"""What executions and factories hold of the dependencies: each its own view of the registry."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

from durable.builds import Shelf, current_build
from durable.closers import ClosedOnExit, Closer, close_all, drive
from durable.dependency_errors import CaptiveDependencyError, ExecutionContextError
from durable.providers import Provider

__all__ = ["Container", "ExecutionFactory", "Registry", "SingletonContext", "warn_unclosed"]


class Registry(Protocol):
    """The registrations of an application and what its executions share."""

    def provider(self, name: str) -> Provider:
        """Return the registration of ``name``."""

    async def shared(self, provider: Provider, *, may_await: bool) -> Any:
        """Return a value, or a singleton, which is built if need be."""

    def container_for(self, context: Any) -> Container:
        """Return the container that instances made for ``context`` belong to."""


class Container(ClosedOnExit):
    """The dependencies of one execution: built once per name, closed when it ends.

    Obtain one with :meth:`Dependencies.container`. It is also an (async) context manager.

    Args:
        dependencies: the registrations.
        context: what factories are called with; the container itself if ``None``.
        shelf: where its instances are kept.

    Warns:
        ResourceWarning: it is dropped while instances are unclosed.
    """

    def __init__(self, dependencies: Registry, context: Any, shelf: Shelf) -> None:
        self.context = context
        self._dependencies = dependencies
        self._shelf = shelf

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"built: {', '.join(self._shelf.built) or 'nothing'}"
        return f"<{type(self).__name__} {state}>"

    def __del__(self) -> None:
        shelf = getattr(self, "_shelf", None)
        if shelf is not None and shelf.closers:
            warn_unclosed("Container", shelf, self)

    @property
    def closed(self) -> bool:
        """Whether the execution has ended."""
        return self._shelf.closed

    def get(self, name: str | type) -> Any:
        """Return the dependency ``name``: a value, a singleton, or this execution's instance.

        For the type ``Dependencies`` it is the registry itself, as under a plain SDK, so that
        one durable function works with either context.

        Raises:
            UnknownDependencyError: nothing is registered under this name.
            AsyncDependencyError: it must be awaited: use :meth:`aget`.
            DependencyBusyError: another task of this thread is building it: use :meth:`aget`.
            DependencyCycleError: its factory needs, by some way, what asks for it.
            CaptiveDependencyError: the factory of a singleton asks for what is not shared.
            ContainerClosedError: the execution has ended.
        """
        if isinstance(name, type):
            return self._dependencies
        return drive(self._obtain(name, may_await=False))

    async def aget(self, name: str) -> Any:
        """Return the dependency ``name``, whose factory may be async; see :meth:`get`."""
        return await self._obtain(name, may_await=True)

    #: The names under which a factory finds them when the container is its context.
    get_dependency = get
    aget_dependency = aget

    async def _obtain(self, name: str, *, may_await: bool) -> Any:
        self._shelf.check_open()
        provider = self._dependencies.provider(name)
        if provider.singleton:
            return await self._dependencies.shared(provider, may_await=may_await)
        asker = current_build()
        if asker is not None and asker.provider.singleton:
            raise _captive(asker.provider.name, name)
        context = self if self.context is None else self.context
        return await self._shelf.obtain(provider, context, may_await=may_await)

    def drain(self) -> list[Closer]:
        """End the execution without closing anything; return how its instances are closed."""
        self._shelf.closed = True
        return self._shelf.drain()

    def close(self) -> None:
        """Close the instances without awaiting.

        Raises:
            DependencyCloseError: some failed to close, or close asynchronously.
        """
        drive(close_all(self.drain(), "the execution's dependencies", may_await=False))

    async def aclose(self) -> None:
        """End the execution: close its instances in reverse order of building; all are tried.

        Raises:
            DependencyCloseError: some failed to close.
        """
        await close_all(self.drain(), "the execution's dependencies", may_await=True)


class ExecutionFactory:
    """The factory of a dependency that is not shared, ready to be called with a context.

    Calling it again for the same execution gives the same instance. The instance is closed with
    the container opened for that context; if none is, when the calling asyncio task ends, which
    under the plain SDK is when the durable function returns, fails or suspends; outside a task,
    with ``Dependencies.aclose()``.
    """

    __slots__ = ("_dependencies", "_provider")

    def __init__(self, dependencies: Registry, provider: Provider) -> None:
        self._dependencies = dependencies
        self._provider = provider

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._provider.name!r}>"

    def __call__(self, context: Any = None) -> Any:
        """Return the instance for ``context``; an awaitable of it if the factory is async."""
        if self._provider.is_async:
            return self.aget(context)
        return self._dependencies.container_for(context).get(self._provider.name)

    async def aget(self, context: Any = None) -> Any:
        """Return the instance for ``context``, awaiting whatever its making needs."""
        container = self._dependencies.container_for(context)
        return await container.aget(self._provider.name)


class SingletonContext:
    """What the factory of a singleton is given as its context: it has dependencies only.

    A singleton outlives every execution, so it must hold on to none. Whatever else is asked of
    this context is an :class:`ExecutionContextError`.
    """

    def __init__(self, dependencies: Registry, name: str) -> None:
        self._dependencies = dependencies
        self._name = name

    def get_dependency(self, name: str | type) -> Any:
        """Return a value or another singleton; ``Dependencies`` itself for its type.

        Raises:
            CaptiveDependencyError: what is asked for lives for one execution only.
        """
        if isinstance(name, type):
            return self._dependencies
        return drive(self._obtain(name, may_await=False))

    async def aget_dependency(self, name: str) -> Any:
        """Return a value or another singleton, whose factory may be async."""
        return await self._obtain(name, may_await=True)

    async def _obtain(self, name: str, *, may_await: bool) -> Any:
        provider = self._dependencies.provider(name)
        if not provider.singleton:
            raise _captive(self._name, name)
        return await self._dependencies.shared(provider, may_await=may_await)

    def __getattr__(self, attribute: str) -> Any:
        raise ExecutionContextError(
            f"singleton {self._name!r} asked its context for {attribute!r}, but it is shared by all"
            " executions and so built without one; register it with singleton=False if each"
            " execution needs its own"
        )


def _captive(singleton: str, wanted: str) -> CaptiveDependencyError:
    return CaptiveDependencyError(
        f"singleton {singleton!r} asks for {wanted!r}, which lives for one execution only and"
        f" would be used after it is closed; register {wanted!r} with singleton=True, or"
        f" {singleton!r} with singleton=False"
    )


def warn_unclosed(kind: str, shelf: Shelf, source: object) -> None:
    """Warn that ``source`` was dropped although its shelf holds what should be closed."""
    names = ", ".join(closer.name for closer in shelf.closers)
    warnings.warn(
        f"{kind} dropped with unclosed dependencies: {names}; close it with aclose()",
        ResourceWarning,
        stacklevel=2,
        source=source,
    )
