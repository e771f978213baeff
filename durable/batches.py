"""The place of a task that ``asyncio.as_completed`` makes out of a set.

``as_completed`` puts what it is given into a set before it makes tasks, so the order of
creation is the order of memory addresses. What it was given is still in its frame: a list
tells the order. A generator has been used up by then; there a coroutine is told from the
others by its name and its immutable arguments, where these differ.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

__all__ = ["Batch", "Batches", "current_batch"]

#: Frames between the task factory and ``as_completed``: ``create_task``,
#: ``ensure_future`` and its helpers, with some to spare for other loops.
_DEPTH_MAX = 12

#: Names under which the versions of CPython keep what ``as_completed`` was given.
_GIVEN = ("fs", "aws")

_SCALARS = (str, bytes, int, float, complex, bool, type(None))


def _codes() -> frozenset[CodeType]:
    found = {asyncio.as_completed.__code__} if hasattr(asyncio.as_completed, "__code__") else set()
    iterator = getattr(asyncio.tasks, "_AsCompletedIterator", None)
    if iterator is not None:
        found.add(iterator.__init__.__code__)
    return frozenset(found)


_AS_COMPLETED = _codes()


class Batch:
    """One call of ``as_completed``."""

    __slots__ = ("given", "key")

    def __init__(self, frame: FrameType, given: Any) -> None:
        self.key = id(frame)
        self.given = given


def current_batch() -> Batch | None:
    """Return the call of ``as_completed`` that is making a task now, or None."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to a frame
    for _ in range(_DEPTH_MAX):
        if frame is None:
            return None
        if frame.f_code in _AS_COMPLETED:
            names = frame.f_locals
            given = next((names[name] for name in _GIVEN if name in names), None)
            return Batch(frame, given)
        frame = frame.f_back
    return None


class Batches:
    """The calls of ``as_completed`` that one task has under way."""

    __slots__ = ("_children", "_seen")

    def __init__(self) -> None:
        self._children: dict[int, tuple[Any, dict[int, Any]]] = {}
        self._seen: dict[int, set[str]] = {}

    def place(self, batch: Batch, coroutine: Any) -> int | str | None:
        """Return a position in the list, a digest of arguments, or None if it cannot be known."""
        if isinstance(batch.given, (list, tuple)):
            for position, each in enumerate(batch.given):
                if each is coroutine:
                    return position
            return None
        digest = _arguments_digest(coroutine)
        if digest is None:
            return None
        seen = self._seen.setdefault(batch.key, set())
        if digest in seen:
            return None
        seen.add(digest)
        return digest

    def children[T](self, batch: Batch, make: Callable[[Any], T]) -> dict[int, T]:
        """Return what ``make`` gives for each coroutine of the list, made once, in its order."""
        known = self._children.get(batch.key)
        # The list itself is kept, so that neither its id nor its coroutines' are used again.
        if known is None or known[0] is not batch.given:
            coroutines = _unique(batch.given)
            known = (batch.given, {id(each): make(each) for each in coroutines})
            self._children[batch.key] = known
        return known[1]


def _unique(given: Iterable[Any]) -> list[Any]:
    seen: set[int] = set()
    found = []
    for each in given:
        if id(each) not in seen and asyncio.iscoroutine(each):
            seen.add(id(each))
            found.append(each)
    return found


def _arguments_digest(coroutine: Any) -> str | None:
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return None
    code = frame.f_code
    values = frame.f_locals
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    parts = [code.co_qualname]
    for name in (*arguments, *code.co_freevars):
        value = values.get(name)
        text = _scalar(value)
        if text is not None:
            parts.append(f"{name}={text}")
        elif name in arguments and not _is_fixture(value):
            # It could differ in a replay, or be what tells this coroutine from the next.
            return None
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=6).hexdigest()


def _scalar(value: Any) -> str | None:
    if type(value) in _SCALARS:
        return repr(value)
    if type(value) is tuple:
        parts = [_scalar(each) for each in value]
        return None if None in parts else f"({','.join(part for part in parts if part)})"
    return None


def _is_fixture(value: Any) -> bool:
    """Whether a value is the same for every coroutine of a program: a function, ctx, a module."""
    return callable(value) or type(value).__name__ in {"DurableContext", "module", "Semaphore"}
