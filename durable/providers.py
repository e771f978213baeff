"""What was registered as a dependency, and how an instance is made of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from durable.closers import Closer, closer_of, is_lock
from durable.dependency_errors import AsyncDependencyError, InvalidDependencyError

__all__ = ["Built", "Provider", "Value", "construct", "provider_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

#: An optional first parameter receives the context only under one of these names: a class such
#: as ``Client(base_url=None)`` must not be given a context for a URL.
_CONTEXT_NAMES = frozenset({"ctx", "context"})


@dataclass(frozen=True, slots=True)
class Value:
    """Marks a callable as the dependency itself, not as its factory.

    Args:
        value: what ``get_dependency`` gives, as it is.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Provider:
    """One registration.

    Attributes:
        name: what it is asked for by.
        factory: makes an instance; ``None`` for a plain value.
        value: the plain value.
        singleton: whether all executions share one instance.
        takes_context: whether the factory is called with the context.
        is_async: whether the factory is known to need awaiting.
        enter: whether context managers are entered; ``None`` decides by the instance.
    """

    name: str
    factory: Callable[..., Any] | None
    value: Any
    singleton: bool
    takes_context: bool = False
    is_async: bool = False
    enter: bool | None = None


class Built(NamedTuple):
    """An instance, and how it is closed (``None``: it needs no closing)."""

    instance: Any
    closer: Closer | None


def provider_of(
    name: Any, factory_or_value: Any, *, singleton: bool | None, enter: bool | None
) -> Provider:
    """Check a registration and learn what the factory takes.

    Raises:
        InvalidDependencyError: the name is not a non-empty string, a value is to be built anew,
            a callable object may be either factory or value, or a factory's arity is wrong.
    """
    if not isinstance(name, str) or not name or not name.isprintable():
        raise InvalidDependencyError(f"a dependency needs a non-empty printable name, not {name!r}")
    is_value = isinstance(factory_or_value, Value)
    if is_value or not callable(factory_or_value):
        if singleton is False:
            raise InvalidDependencyError(
                f"dependency {name!r}: {factory_or_value!r} is a value, which cannot be built anew"
                " for each execution; give a factory, or leave out singleton=False"
            )
        value = factory_or_value.value if is_value else factory_or_value
        return Provider(name, None, value, singleton=True)
    if singleton is None and not _is_plain_factory(factory_or_value):
        raise InvalidDependencyError(
            f"dependency {name!r}: {factory_or_value!r} can be called, so it may be meant as a"
            " factory or as the value itself; say singleton=True or singleton=False for a factory,"
            " or wrap it as Value(...)"
        )
    return Provider(
        name,
        factory_or_value,
        None,
        singleton=bool(singleton),
        takes_context=_takes_context(name, factory_or_value),
        is_async=_any_kind(
            factory_or_value, inspect.iscoroutinefunction, inspect.isasyncgenfunction
        ),
        enter=enter,
    )


def _is_plain_factory(candidate: Any) -> bool:
    return inspect.isroutine(candidate) or isinstance(candidate, type | functools.partial)


def _any_kind(factory: Callable[..., Any], *kinds: Callable[[Any], bool]) -> bool:
    while isinstance(factory, functools.partial):
        factory = factory.func
    call = getattr(type(factory), "__call__", None)  # noqa: B004 - the method itself is wanted
    return any(kind(factory) or kind(call) for kind in kinds)


def _takes_context(name: str, factory: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # some built-in types tell no signature
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
    keywords = [
        p for p in parameters if p.default is p.empty and p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    if len(required) > 1 or keywords:
        label = getattr(factory, "__qualname__", repr(factory))
        needed = ", ".join(p.name for p in (*required, *keywords))
        raise InvalidDependencyError(
            f"dependency {name!r}: factory {label} needs the arguments ({needed}), but a factory"
            " is called with the context or with nothing; bind the others, as in"
            f" lambda ctx: {label}(ctx, ...)"
        )
    if required:
        return True
    first = parameters[0] if parameters else None
    if first is None:
        return False
    if first.kind is inspect.Parameter.VAR_POSITIONAL:
        return True
    return first.kind in _POSITIONAL and first.name.strip("_") in _CONTEXT_NAMES


async def construct(provider: Provider, context: Any, *, may_await: bool) -> Built:
    """Make an instance, and enter it where it is a context manager.

    Without ``may_await`` this never suspends, so one ``send(None)`` runs it.

    Raises:
        AsyncDependencyError: something must be awaited and ``may_await`` is false.
    """
    if provider.is_async and not may_await:
        raise _must_await(provider, "its factory is async")
    factory = _as_callable(provider)
    result = factory(context) if provider.takes_context else factory()
    if inspect.isawaitable(result):
        if not may_await:
            if inspect.iscoroutine(result):
                result.close()
            raise _must_await(provider, "its factory gave an awaitable")
        result = await result
    return await _entered(provider, result, may_await=may_await)


def _as_callable(provider: Provider) -> Callable[..., Any]:
    factory = provider.factory
    assert factory is not None, "values are not constructed"
    if _any_kind(factory, inspect.isgeneratorfunction):
        return contextmanager(factory)
    if _any_kind(factory, inspect.isasyncgenfunction):
        return asynccontextmanager(factory)
    return factory


async def _entered(provider: Provider, instance: Any, *, may_await: bool) -> Built:
    can_enter = hasattr(instance, "__enter__") or hasattr(instance, "__aenter__")
    enter = provider.enter
    if enter is None:
        # What can be closed is ready as it is; entering a lock would acquire it.
        enter = can_enter and closer_of(provider.name, instance) is None and not is_lock(instance)
    if not enter:
        return Built(instance, closer_of(provider.name, instance))
    if not can_enter:
        raise InvalidDependencyError(
            f"dependency {provider.name!r}: enter=True, but {instance!r} is no context manager"
        )
    if hasattr(instance, "__aenter__") and (may_await or not hasattr(instance, "__enter__")):
        if not may_await:
            raise _must_await(provider, "it is an async context manager")
        value = await instance.__aenter__()
        return Built(value, Closer(provider.name, value, _exit(instance.__aexit__)))
    value = instance.__enter__()
    return Built(value, Closer(provider.name, value, _exit(instance.__exit__)))


def _exit(method: Callable[..., Any]) -> Callable[[bool], Any]:
    # Without the execution's exception: a generator's code after its yield must run, too, when
    # it has no finally.
    return lambda _may_await: method(None, None, None)


def _must_await(provider: Provider, reason: str) -> AsyncDependencyError:
    return AsyncDependencyError(
        f"dependency {provider.name!r} must be awaited, because {reason}: use"
        f" await ctx.aget_dependency({provider.name!r})"
    )
