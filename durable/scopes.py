"""Which durable id space the running asyncio task owns.

A step's id must be the same in every replay. The bare SDK numbers steps in call
order, and under ``gather`` a replay calls in another order than the first run, so
results land in the wrong coroutine. Here every asyncio task has a number line of its
own: a task created by coroutine function ``worker`` from a task with id space ``S`` gets
``S`` + ``worker~k``, where ``k`` counts the ``worker`` tasks made from ``S`` so far.
Creation order within one task is program order, which replay preserves; who runs
first does not matter. Counting by coroutine name keeps tasks that a library makes
for itself from shifting the user's. ``as_completed`` makes its tasks in the order of a
set, which is no order: there the list it was given counts, or, of a generator, the
coroutines' own arguments (:mod:`durable.batches`).

Scopes are tied to tasks by a task factory and not by a context variable: a copied
context cannot tell a child task from its parent, and a timer callback inherits a
context although its place in the program is unknown. Only the executor's own task, which
runs a cell in place of the task that called it, is known by its context.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import resonate
from resonate.ids import join_id

import executor
from durable.batches import Batches, current_batch
from durable.builds import is_building
from durable.errors import UnknownTaskError

__all__ = ["Scope", "bind", "current_scope", "install_task_factory", "own_cells", "scope_of"]

type AnyCoroutine = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]

#: Tasks whose coroutine lives below these directories are machinery: the executor's
#: cell task acts for its caller; the SDK's background tasks own no scope.
_EXECUTOR_DIR = str(Path(executor.__file__).parent)
_RESONATE_DIR = str(Path(resonate.__file__).parent)

_SEGMENT_LENGTH_MAX = 48


class Scope:
    """One number line of step ids, owned by one asyncio task at a time.

    Args:
        owner: The activation (root function or step) that the ids belong to.
        prefix: Durable promise id that every id minted here extends.
    """

    __slots__ = ("__weakref__", "_batches", "_births", "_seq", "owner", "prefix")

    def __init__(self, owner: Any, prefix: str) -> None:
        self.owner = owner
        self.prefix = prefix
        self._seq = 0
        self._births: dict[str, int] = {}
        self._batches = Batches()

    def next_id(self) -> str:
        """Mint the id of the next step called from this scope's task."""
        self._seq += 1
        return join_id(self.prefix, str(self._seq))

    def keyed_id(self, key: str) -> str:
        """Return the id of a step that the user named, whoever calls it."""
        return join_id(self.owner.base_id, f"={key}")

    def child(self, coroutine: AnyCoroutine) -> Scope | None:
        """Open the scope of a task that this scope's task creates now.

        Returns:
            The scope, or None where the task's place cannot be known.
        """
        batch = current_batch()
        if batch is None:
            return self._ordinal_child(coroutine)
        place = self._batches.place(batch, coroutine)
        if isinstance(place, str):
            name = f"{_segment(coroutine)}~{place}"
            return Scope(self.owner, join_id(self.prefix, name))
        if place is None:
            return None
        children = self._batches.children(batch, self._ordinal_child)
        return children.get(id(coroutine))

    def _ordinal_child(self, coroutine: AnyCoroutine) -> Scope:
        name = _segment(coroutine)
        ordinal = self._births.get(name, 0)
        self._births[name] = ordinal + 1
        return Scope(self.owner, join_id(self.prefix, f"{name}~{ordinal}"))


def _segment(coroutine: AnyCoroutine) -> str:
    name = getattr(coroutine, "__name__", None)
    if not isinstance(name, str) or not name:
        name = type(coroutine).__name__
    return name.replace(":", "_").replace(".", "_").replace("~", "_")[:_SEGMENT_LENGTH_MAX]


class ScopeOwner(Protocol):
    """A running function or step."""

    scope: Scope

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Note a task that its code has started."""
        ...


_CELL_OWNER: ContextVar[ScopeOwner] = ContextVar("sostenuto_cell_owner")

_scopes: WeakKeyDictionary[asyncio.Task[Any], Scope] = WeakKeyDictionary()


class _Births(threading.local):
    """Tasks under construction: an eager task runs before its factory returns it."""

    def __init__(self) -> None:
        self.stack: list[tuple[AnyCoroutine, Scope]] = []


_births = _Births()


def scope_of(task: asyncio.Task[Any]) -> Scope | None:
    """Return the scope that ``task`` owns, or None where it owns none."""
    scope = _scopes.get(task)
    if scope is not None:
        return scope
    coroutine = task.get_coro()
    if _births.stack and _births.stack[-1][0] is coroutine:
        scope = _births.stack[-1][1]
    elif _directory_holds(_EXECUTOR_DIR, coroutine):
        owner = _CELL_OWNER.get(None)
        scope = None if owner is None else owner.scope
    if scope is not None:
        _scopes[task] = scope
    return scope


def own_cells(owner: ScopeOwner) -> None:
    """Let cells that executors run in the current context, and copies of it, act for ``owner``."""
    _CELL_OWNER.set(owner)


def bind(task: asyncio.Task[Any], scope: Scope | None) -> Scope | None:
    """Give ``task`` the scope and return the one it had; None takes it away."""
    before = _scopes.get(task)
    if scope is None:
        _scopes.pop(task, None)
    else:
        _scopes[task] = scope
    return before


def current_scope() -> Scope:
    """Return the scope of the running task.

    Raises:
        UnknownTaskError: Not on an event loop, or in a task whose place of
            creation is unknown.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        msg = (
            "ctx was called outside an asyncio task (from a thread or a loop callback), where its "
            "place in the history cannot be known: call it from the coroutine that runs the "
            "execution or from a task created with asyncio.create_task, gather or TaskGroup"
        )
        raise UnknownTaskError(msg)
    scope = scope_of(task)
    if scope is None:
        msg = (
            f"ctx was called from task {task.get_name()!r}, which was not created by a task of "
            "this execution through the event loop (asyncio.Task(...), a timer callback, another "
            "execution), so its place in the history cannot be known: create the task with "
            "asyncio.create_task, gather or TaskGroup in the execution's own code"
        )
        raise UnknownTaskError(msg)
    return scope


def _directory_holds(directory: str, coroutine: Any) -> bool:
    code = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_filename.startswith(directory)


def _scope_for(coroutine: AnyCoroutine) -> Scope | None:
    try:
        creator = asyncio.current_task()
    except RuntimeError:
        return None
    if creator is None:
        return None
    parent = scope_of(creator)
    if parent is None or _directory_holds(_RESONATE_DIR, coroutine):
        return None
    if is_building():
        # A connection's own tasks outlive the execution that happened to ask for it first.
        return None
    # An executor hands over the coroutines of its cells inside drivers of its own.
    return parent.child(getattr(coroutine, "contained_coroutine", coroutine))


class _ScopeTaskFactory:
    """A task factory that notes each task's scope and leaves all else as it was."""

    def __init__(self, inner: Callable[..., Any] | None) -> None:
        self.inner = inner

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: AnyCoroutine, **options: Any
    ) -> asyncio.Task[Any]:
        scope = _scope_for(coro) if _scopes else None
        if scope is None:
            return self._make(loop, coro, options)
        _births.stack.append((coro, scope))
        try:
            task = self._make(loop, coro, options)
        finally:
            _births.stack.pop()
        _scopes[task] = scope
        scope.owner.adopt(task)
        return task

    def _make(
        self, loop: asyncio.AbstractEventLoop, coro: Any, options: dict[str, Any]
    ) -> asyncio.Task[Any]:
        if self.inner is not None:
            made: asyncio.Task[Any] = self.inner(loop, coro, **options)
            return made
        return asyncio.Task(coro, loop=loop, **options)


def install_task_factory(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Note the scope of every task that ``loop`` creates from now on.

    Returns:
        A callable that puts the former factory back where nobody has installed
        another one since.
    """
    before = loop.get_task_factory()
    if isinstance(before, _ScopeTaskFactory):
        return lambda: None
    factory = _ScopeTaskFactory(before)
    loop.set_task_factory(factory)

    def uninstall() -> None:
        if loop.get_task_factory() is factory:
            loop.set_task_factory(before)

    return uninstall
