"""Building each dependency once for its lifetime, whoever asks and however many at once.

Every construction under way is a node of one graph, with an edge to each construction it waits
for. A request that would close a circle is refused before anybody waits in it, whether the
circle runs through one factory calling the next or through tasks and threads that wait for each
other's singletons.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import Any

from durable.closers import Closer, add_note, close_all
from durable.dependency_errors import (
    AsyncDependencyError,
    ConstructionFailedError,
    ContainerClosedError,
    DependencyBusyError,
    DependencyCycleError,
    DependencyError,
)
from durable.providers import Provider, construct
from promises import AwaitablePromise

__all__ = ["Build", "Shelf", "current_build", "is_building"]


class Build:
    """One construction under way.

    Attributes:
        provider: what is built.
        parent: the construction whose factory asked for it first, if one did.
        thread_id: identifier of the thread that builds it.
        waits_for: the constructions its factory waits for now.
        failed: whether it ended without an instance.
        over: settled when the construction has ended; rejected if its factory raised.
    """

    __slots__ = ("failed", "over", "parent", "provider", "thread_id", "waits_for")

    def __init__(self, provider: Provider, parent: Build | None) -> None:
        self.provider = provider
        self.parent = parent
        self.thread_id = threading.get_ident()
        self.failed = False
        self.waits_for: list[Build] = []
        self.over: AwaitablePromise[None] = AwaitablePromise()

    def path_to(self, target: Build) -> list[Build] | None:
        """Return the constructions from this one to ``target`` along ``waits_for``, if any."""
        trail: list[Build] = []
        seen: set[int] = set()

        def visit(build: Build) -> bool:
            if id(build) in seen:
                return False
            seen.add(id(build))
            trail.append(build)
            if build is target or any(visit(awaited) for awaited in build.waits_for):
                return True
            trail.pop()
            return False

        return trail if visit(self) else None


_current: ContextVar[Build | None] = ContextVar("durable_dependency_build", default=None)


def current_build() -> Build | None:
    """Return the construction whose factory runs here, innermost first, or ``None``.

    Raises:
        ConstructionFailedError: this task was started by a factory that has failed since.
    """
    build = _current.get()
    # A task that a factory left behind on purpose is not part of the construction any more.
    innermost = None if build is None or build.over.done() else build
    while build is not None and (build.failed or not build.over.done()):
        if build.failed:
            # What a failed gather leaves behind must not build on: in a circle, each failure
            # would leave more behind than it was left by, and none would be the last.
            raise ConstructionFailedError(
                f"this was started by the factory of {build.provider.name!r}, which has failed"
                " since: no more dependencies are built for it"
            )
        build = build.parent
    return innermost


def is_building() -> bool:
    """Return whether the factory of a dependency runs here."""
    build = _current.get()
    return build is not None and not build.over.done()


class Shelf:
    """The instances of one lifetime: of an application, or of one execution.

    Args:
        owner: whose instances these are, for error messages.
        lock: guards the shelves of one application and the graph between their constructions.
        lender: the shelf of the longer lifetime around this one.
    """

    def __init__(self, owner: str, lock: threading.RLock, lender: Shelf | None = None) -> None:
        self.owner = owner
        self.built: dict[str, Any] = {}
        self.building: dict[str, Build] = {}
        self.closers: list[Closer] = []
        self.closed = False
        self._lock = lock
        self._lender = lender
        self.values: list[Any] = []

    async def obtain(self, provider: Provider, context: Any, *, may_await: bool) -> Any:
        """Return the instance, building it if nobody has, waiting if somebody does.

        Raises:
            DependencyCycleError: it needs, by some way, what asks for it.
            DependencyBusyError: it is under construction in this thread and cannot be awaited.
            ContainerClosedError: this lifetime is over.
        """
        name = provider.name
        asker = current_build()
        while True:
            with self._lock:
                if name in self.built:
                    return self.built[name]
                self.check_open()
                build = self.building.get(name)
                mine = build is None
                if build is None:
                    build = self.building[name] = Build(provider, asker)
                elif asker is not None:
                    _refuse_cycle(asker, build)
                if asker is not None:
                    asker.waits_for.append(build)
            try:
                if mine:
                    return await self._construct(build, context, may_await=may_await)
                await _wait(build, may_await=may_await)
            finally:
                if asker is not None:
                    with self._lock:
                        asker.waits_for.remove(build)

    async def _construct(self, build: Build, context: Any, *, may_await: bool) -> Any:
        name = build.provider.name
        token = _current.set(build)
        try:
            instance, closer = await construct(build.provider, context, may_await=may_await)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, DependencyError):
                add_note(error, f"while building dependency {name!r}")
            with self._lock:
                del self.building[name]
            _end(build, error)
            raise
        finally:
            # A coroutine closed by the collector unwinds in another context.
            with contextlib.suppress(ValueError):
                _current.reset(token)
        with self._lock:
            del self.building[name]
            if not self.closed:
                self.built[name] = instance
            if closer is not None and not self.has(instance):
                self.closers.append(closer)
        _end(build, None)
        if self.closed:
            await close_all(self.closers, self.owner, may_await=may_await)
            self.check_open()
        return instance

    def lend(self, owner: str) -> Shelf:
        """Open the shelf of a shorter lifetime, whose factories may hand on what is here."""
        return Shelf(owner, self._lock, self)

    def has(self, instance: Any) -> bool:
        """Tell whether ``instance`` is closed by this shelf or its lender, or is a value."""
        if any(closer.instance is instance for closer in self.closers):
            return True
        if any(value is instance for value in self.values):
            return True
        return self._lender is not None and self._lender.has(instance)

    def check_open(self) -> None:
        """Raise :class:`ContainerClosedError` once this lifetime is over."""
        if self.closed:
            raise ContainerClosedError(
                f"{self.owner} has ended and its dependencies are closed: get what you need"
                " before it ends, or register a singleton for what outlives it"
            )

    def drain(self) -> list[Closer]:
        """Forget all instances and return how they are closed, in order of building."""
        with self._lock:
            closers, self.closers = self.closers, []
            self.built.clear()
        return closers


def _refuse_cycle(asker: Build, wanted: Build) -> None:
    path = wanted.path_to(asker)
    if path is not None:
        names = [build.provider.name for build in path]
        raise DependencyCycleError([*names, names[0]])


async def _wait(build: Build, *, may_await: bool) -> None:
    if may_await:
        await build.over
    elif build.thread_id == threading.get_ident():
        name = build.provider.name
        raise DependencyBusyError(
            f"dependency {name!r} is being built by another task of this thread, which cannot go on"
            f" while this one waits: use await ctx.aget_dependency({name!r})"
        )
    else:
        build.over.to_concurrent().result()


def _end(build: Build, error: BaseException | None) -> None:
    build.failed = error is not None
    # A construction that was cancelled, tried without await, or started by a factory that failed
    # says nothing about the dependency: whoever waits for it tries again.
    retried = isinstance(
        error, AsyncDependencyError | ConstructionFailedError | DependencyBusyError
    )
    if isinstance(error, Exception) and not retried:
        build.over.set_exception(error)
        build.over.exception()  # its own caller receives it; nobody else needs to
    else:
        build.over.set_result(None)
