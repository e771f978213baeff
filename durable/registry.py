"""The functions an app has registered."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from durable.calls import function_name, shape_of
from durable.entries import Entry
from durable.errors import InvalidArgumentError, NotRegisteredError
from durable.records import SOURCE_FUNCTION
from durable.retries import RetryPolicy
from durable.sources import run_source

__all__ = ["Registry", "source_entry"]


def source_entry() -> Entry:
    """Return the entry of the function that runs source text."""
    shape = msgspec.structs.replace(shape_of(run_source), wants_context=True)
    return Entry(
        function=run_source,
        name=SOURCE_FUNCTION,
        version=1,
        shape=shape,
        signature=_signature_of(run_source),
    )


def _signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


class Registry:
    """Registered functions by name and version, and by object."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], Entry] = {}
        self._keys: dict[int, tuple[str, int]] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def entry_for(
        self,
        function: Callable[..., Any],
        name: str | None,
        version: int,
        *,
        retry: RetryPolicy | None,
        timeout: timedelta | None,
    ) -> Entry:
        """Describe a function to register.

        Raises:
            InvalidArgumentError: It cannot be registered so; the message says why.
        """
        if not callable(function):
            msg = f"register() needs a function and got {type(function).__name__}"
            raise InvalidArgumentError(msg)
        chosen = function_name(function).rsplit(".", 1)[-1] if name is None else name
        if not isinstance(chosen, str) or not chosen or chosen == "<lambda>":
            msg = f"register() needs a name for {function!r}: @app.register(name='...')"
            raise InvalidArgumentError(msg)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            msg = f"version={version!r} of {chosen!r} must be a whole number from 1"
            raise InvalidArgumentError(msg)
        signature = _signature_of(function)
        parameters = [] if signature is None else list(signature.parameters.values())
        positional = {
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        }
        if not parameters or parameters[0].kind not in positional:
            msg = (
                f"{chosen!r} takes no context: a durable function's first parameter is ctx, "
                f"'async def {chosen}(ctx, ...)'"
            )
            raise InvalidArgumentError(msg)
        shape = msgspec.structs.replace(shape_of(function), wants_context=True)
        return Entry(
            function=function,
            name=chosen,
            version=version,
            shape=shape,
            retry=retry,
            timeout=timeout,
            signature=signature,
        )

    def add(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            InvalidArgumentError: Another function has its name and version.
        """
        key = (entry.name, entry.version)
        if key in self._entries:
            msg = (
                f"{entry.name!r} version {entry.version} is registered already: "
                "give it another name= or version="
            )
            raise InvalidArgumentError(msg)
        self._entries[key] = entry
        self._keys[id(entry.function)] = key

    def find(self, name: str, version: int) -> Entry | None:
        """Return the entry of a name and version, or None."""
        return self._entries.get((name, version))

    def name_of(self, fn: str | Callable[..., Any], version: int) -> tuple[str, int]:
        """Return name and version of a registered function, or of a name as it is.

        Raises:
            NotRegisteredError: The function object was not registered.
            InvalidArgumentError: Neither a function nor a name.
        """
        if isinstance(fn, str):
            if not fn:
                msg = "the function's name must not be empty"
                raise InvalidArgumentError(msg)
            return fn, version
        key = self._keys.get(id(fn))
        if key is not None:
            return key
        for entry in self._entries.values():
            if entry.function == fn:
                return entry.name, entry.version
        if not callable(fn):
            msg = f"{fn!r} is neither a registered function nor a name"
            raise InvalidArgumentError(msg)
        raise NotRegisteredError(self.unknown(function_name(fn), version))

    def unknown(self, name: str, version: int) -> str:
        """Return the message about a function that is not registered."""
        names = sorted({entry.name for entry in self if not entry.name.startswith("sostenuto.")})
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        known = ", ".join(names) if names else "none"
        return (
            f"{name!r} (version {version}) is not registered{hint} Registered: {known}. "
            "Decorate it with @app.register before it is started"
        )

    def check_arity(self, entry: Entry, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Check that a call fits the function.

        Raises:
            InvalidArgumentError: It does not; the message says how.
        """
        signature = entry.signature
        if signature is None:
            return
        try:
            signature.bind(None, *args, **kwargs)
        except TypeError as error:
            msg = f"{entry.name}{signature} cannot be called so: {error} (ctx is given by the app)"
            raise InvalidArgumentError(msg) from None
