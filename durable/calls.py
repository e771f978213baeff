"""Calling users' functions: does it want a context, and where may it run."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import msgspec

__all__ = ["CallShape", "call_function", "function_name", "shape_of"]

#: First-parameter names that ask for the durable context.
CONTEXT_NAMES = frozenset({"ctx", "context", "_ctx"})

#: Worker threads for synchronous steps, for each event loop. More than cores, as such
#: steps mostly wait; fewer than what exhausts memory with 8 MB stacks.
THREADS_MAX = 64


class CallShape(msgspec.Struct, frozen=True):
    """How a callable is to be called.

    Attributes:
        is_async: Calling it gives an awaitable, so it runs on the event loop.
        wants_context: Its first parameter asks for the durable context.
    """

    is_async: bool
    wants_context: bool


_shapes: WeakKeyDictionary[Any, CallShape] = WeakKeyDictionary()


def shape_of(function: Callable[..., Any]) -> CallShape:
    """Return the shape of ``function``, remembered for as long as it lives."""
    try:
        known = _shapes.get(function)
    except TypeError:  # neither hashable nor weakly referable
        return _inspect(function)
    if known is None:
        known = _inspect(function)
        try:
            _shapes[function] = known
        except TypeError:
            return known
    return known


def _inspect(function: Callable[..., Any]) -> CallShape:
    is_async = inspect.iscoroutinefunction(function) or (
        not inspect.isroutine(function)
        and not inspect.isclass(function)
        and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - its kind, not whether
    )
    return CallShape(is_async, _wants_context(function))


def _wants_context(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return False
    if not parameters:
        return False
    first = parameters[0]
    positional = first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
    return positional and first.name in CONTEXT_NAMES


def function_name(function: Callable[..., Any]) -> str:
    """Return the name a step records: the qualified name without ``<locals>``."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    if not isinstance(name, str):
        name = type(function).__qualname__
    return name.rsplit("<locals>.", 1)[-1]


_limiters: WeakKeyDictionary[Any, anyio.CapacityLimiter] = WeakKeyDictionary()


def _limiter() -> anyio.CapacityLimiter:
    loop = asyncio.get_running_loop()
    limiter = _limiters.get(loop)
    if limiter is None:
        limiter = _limiters[loop] = anyio.CapacityLimiter(THREADS_MAX)
    return limiter


async def call_function(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_async: bool,
    thread_ids: set[int],
) -> Any:
    """Call an async function on the loop, any other in a worker thread.

    While the thread runs it, its identifier is among ``thread_ids``.

    A synchronous function could block, and one that blocks the loop would stop every
    other execution, heartbeat and timeout of the process. Cancelling gives up on the
    thread at once; the thread itself runs on, as Python cannot stop it.
    """
    if is_async:
        return await function(*args, **kwargs)

    def call() -> Any:
        thread_id = threading.get_ident()
        thread_ids.add(thread_id)
        try:
            return function(*args, **kwargs)
        finally:
            thread_ids.discard(thread_id)

    result = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=_limiter())
    if inspect.isawaitable(result):
        return await result
    return result
