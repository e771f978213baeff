"""Dependency injection by factory: a registry for the application, a container per execution.

``Dependencies`` lives as long as the application. It holds the registrations and the singletons,
each built at its first use and closed at shutdown. A :class:`Container` lives for one execution:
it builds what is not a singleton, once per name, and closes it when the execution ends.
"""

from __future__ import annotations

import asyncio
import difflib
import threading
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from durable.builds import Shelf
from durable.closers import ClosedOnExit, Closer, close_all, drive
from durable.containers import Container, ExecutionFactory, SingletonContext, warn_unclosed
from durable.dependency_errors import DependencyInUseError, UnknownDependencyError
from durable.factories import async_executor_factory
from durable.providers import Provider, Value, provider_of

__all__ = ["Container", "Dependencies", "ExecutionFactory", "SingletonContext", "Value"]


class Dependencies(ClosedOnExit):
    """The dependencies of an application, by name.

    ``async_executor`` is registered from the start, as a factory for each execution; register
    another under that name to replace it. With a Resonate instance of one's own, pass this
    object to ``resonate.with_dependency`` and reach it with ``ctx.get_dependency(Dependencies)``.

    It can be used from any thread. Close it with :meth:`aclose`; it is also an (async) context
    manager. After closing it can be used again, and builds anew.

    Warns:
        ResourceWarning: it is dropped while singletons are unclosed.
    """

    def __init__(self) -> None:
        # One lock for all shelves: the graph of constructions crosses them.
        self._lock = threading.RLock()
        self._shared = Shelf("the application", self._lock)
        self._loose: Container | None = None
        self._providers: dict[str, Provider] = {}
        self._handed_out: set[str] = set()
        self._containers: WeakValueDictionary[int, Container] = WeakValueDictionary()
        self._by_task: WeakKeyDictionary[asyncio.Task[Any], dict[int, Container]]
        self._by_task = WeakKeyDictionary()
        self._endings: set[asyncio.Task[None]] = set()
        self.set_dependency("async_executor", async_executor_factory, singleton=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.names())}>"

    def __contains__(self, name: object) -> bool:
        return name in self._providers

    def __del__(self) -> None:
        shared = getattr(self, "_shared", None)
        if shared is not None and shared.closers:
            warn_unclosed("Dependencies", shared, self)

    def names(self) -> tuple[str, ...]:
        """Return the registered names, sorted."""
        return tuple(sorted(self._providers))

    def set_dependency(
        self,
        name: str,
        factory_or_value: Any,
        *,
        singleton: bool | None = None,
        enter: bool | None = None,
    ) -> None:
        """Register a dependency; nothing is built before it is first asked for.

        A factory is a function, a method, a class or a :func:`functools.partial`; async
        functions, generators (what follows the ``yield`` closes) and functions that return
        context managers are factories too. It is called with the context if it has a required
        parameter, or one called ``ctx`` or ``context``; else with nothing. Anything that cannot
        be called is a value: it is given as it is, and never closed here, as it was not made
        here. To register a function or class as a value, wrap it: ``Value(fn)``.

        An instance is closed by its ``aclose()`` or ``close()``, else, if it is a context
        manager, by leaving it. What another factory or a registration made is not closed twice.

        Registering a name again replaces a factory for the executions that have not used it
        yet. What is shared cannot be replaced once it was handed out.

        Args:
            name: a non-empty string.
            factory_or_value: see above.
            singleton: ``True``: built once, at first use, shared by all executions and closed at
                shutdown. ``False``, the default for factories: built once in each execution that
                asks, and closed when that execution ends. A callable that is no plain factory
                (an object with ``__call__``) has no default.
            enter: whether to enter an instance that is a context manager and hand out what it
                gives. By default only if it has no ``close`` of its own and is no lock.

        Raises:
            InvalidDependencyError: the name, the arity of the factory or the combination of
                value and ``singleton`` cannot work.
            DependencyInUseError: the shared dependency of this name was handed out already.
        """
        provider = provider_of(name, factory_or_value, singleton=singleton, enter=enter)
        with self._lock:
            in_use = name in self._shared.built or name in self._shared.building
            if in_use or name in self._handed_out:
                raise DependencyInUseError(
                    f"dependency {name!r} is shared and was handed out already, so replacing it"
                    " would leave two in use; register before the first use, or after aclose()"
                )
            self._providers[name] = provider
            self._shared.values = [p.value for p in self._providers.values() if p.factory is None]

    def get(self, name: str) -> Any:
        """Return what is shared under ``name``, or the factory of what is not.

        For durable functions of a plain SDK: ``ctx.get_dependency(Dependencies).get(name)``
        gives a singleton or value itself, and for anything else an :class:`ExecutionFactory`,
        to be called with ``ctx``.

        Raises:
            UnknownDependencyError: nothing is registered under this name.
            AsyncDependencyError: a singleton must be awaited: use :meth:`aget`.
        """
        provider = self.provider(name)
        if not provider.singleton:
            return ExecutionFactory(self, provider)
        return drive(self.shared(provider, may_await=False))

    async def aget(self, name: str) -> Any:
        """Return the same as :meth:`get`, awaiting where a singleton needs it."""
        provider = self.provider(name)
        if not provider.singleton:
            return ExecutionFactory(self, provider)
        return await self.shared(provider, may_await=True)

    def container(self, context: Any = None) -> Container:
        """Open the container of one execution; whoever opens it closes it.

        Args:
            context: what factories are called with; the container itself if ``None``.
        """
        container = self._open(context)
        if context is not None:
            with self._lock:
                self._containers[id(context)] = container
        return container

    def _open(self, context: Any) -> Container:
        return Container(self, context, self._shared.lend("the execution"))

    def provider(self, name: str) -> Provider:
        """Return the registration of ``name``.

        Raises:
            UnknownDependencyError: there is none.
        """
        provider = self._providers.get(name)
        if provider is None:
            names = self.names()
            nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            raise UnknownDependencyError(name, names, nearest[0] if nearest else None)
        return provider

    async def shared(self, provider: Provider, *, may_await: bool) -> Any:
        """Return a value, or a singleton, which is built if need be."""
        if provider.factory is None:
            with self._lock:
                self._handed_out.add(provider.name)
            return provider.value
        context = SingletonContext(self, provider.name)
        return await self._shared.obtain(provider, context, may_await=may_await)

    def container_for(self, context: Any) -> Container:
        """Return the container that instances made for ``context`` belong to.

        That is the one opened for it, or the one it has as its attribute ``container``, if that
        is open. Else one that ends with the running asyncio task: under the plain SDK that is
        the task which runs the durable function. Outside any task it is one that ends with
        :meth:`aclose`.
        """
        own = getattr(context, "container", None)
        if isinstance(own, Container) and not own.closed:
            return own
        task = _current_task()
        with self._lock:
            opened = self._containers.get(id(context))
            if opened is not None and opened.context is context and not opened.closed:
                return opened
            if task is None:
                self._loose = self._loose or self._open(None)
                return self._loose
            # The SDK's ctx.options() gives another context over the same execution's state.
            key = id(getattr(context, "_state", context))
            containers = self._by_task.setdefault(task, {})
            container = containers.get(key)
            if container is None:
                container = containers[key] = self._open(context)
                task.add_done_callback(partial(self._end_with_task, container))
            return container

    def _end_with_task(self, container: Container, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._by_task.pop(task, None)
        # Eagerly, so that all but an async close is done before the loop goes on or ends.
        loop = task.get_loop()
        ending = asyncio.eager_task_factory(loop, container.aclose())
        if ending.done():
            self._report_ending(ending)
            return
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        ending.add_done_callback(self._report_ending)

    def _report_ending(self, ending: asyncio.Task[None]) -> None:
        error = None if ending.cancelled() else ending.exception()
        if error is not None:
            ending.get_loop().call_exception_handler(
                {"message": "closing an execution's dependencies failed", "exception": error}
            )

    def close(self) -> None:
        """Close the singletons without awaiting: for programs that run no event loop.

        Raises:
            DependencyCloseError: some failed to close, or close asynchronously.
        """
        drive(close_all(self._drain(), "the application's dependencies", may_await=False))

    async def aclose(self) -> None:
        """Close the singletons in reverse order of building; all are tried.

        What plain SDK functions left to close is closed first.

        Raises:
            DependencyCloseError: some failed to close.
        """
        loop = asyncio.get_running_loop()
        endings = [ending for ending in self._endings if ending.get_loop() is loop]
        if endings:
            await asyncio.wait(endings)
        await close_all(self._drain(), "the application's dependencies", may_await=True)

    def _drain(self) -> list[Closer]:
        here = _current_task()
        with self._lock:
            self._handed_out.clear()
            # An ended task's callback may not have run yet, if this is what it woke.
            ended = [task for task in self._by_task if task is here or task.done()]
            containers = [c for task in ended for c in self._by_task.pop(task).values()]
            if self._loose is not None:
                containers.append(self._loose)
                self._loose = None
            closers = self._shared.drain()
            for container in containers:
                closers += container.drain()
        return closers


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
