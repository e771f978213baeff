"""Where something is inside a value, as the expression a programmer would write."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from durable.value_objects import object_slots, read_attributes

__all__ = ["path_text", "path_within"]

type Step = tuple[str, Any]

# A path is a courtesy of the error message: give up on it rather than be slow.
_MAX_OBJECTS = 100_000
_MAX_KEY_SIZE = 60


def path_text(path: Sequence[Step]) -> str:
    """Return ``result["rows"][3].conn`` for the steps ``item rows, item 3, attr conn``."""
    return "result" + "".join(_step_text(kind, key) for kind, key in path)


def path_within(value: Any, culprit: Any) -> list[Step] | None:
    """Return the shortest path from ``value`` to the very object ``culprit``, if there is one."""
    queue: deque[tuple[Any, tuple[Any, ...] | None]] = deque([(value, None)])
    seen = {id(value)}
    kept = []
    while queue and len(seen) < _MAX_OBJECTS:
        current, trail = queue.popleft()
        if current is culprit:
            return _steps(trail)
        for step, child in _children(current):
            if id(child) not in seen:
                seen.add(id(child))
                kept.append(child)
                queue.append((child, (trail, step)))
    return None


def _steps(trail: tuple[Any, ...] | None) -> list[Step]:
    steps: list[Step] = []
    while trail is not None:
        trail, step = trail
        steps.append(step)
    return steps[::-1]


def _children(value: Any) -> Iterator[tuple[Step, Any]]:
    cls = type(value)
    if issubclass(cls, type):
        return
    if issubclass(cls, dict):
        for key, item in dict.items(value):
            yield ("item", key), item
    elif issubclass(cls, list | tuple):
        plain = list.__iter__ if issubclass(cls, list) else tuple.__iter__
        for index, item in enumerate(plain(value)):
            yield ("item", index), item
    elif cls in (set, frozenset):
        for item in value:
            yield ("member", None), item
    for name, item in read_attributes(value, object_slots(cls)).items():
        yield ("attr", name), item


def _step_text(kind: str, key: Any) -> str:
    if kind == "attr":
        return f".{key}"
    if kind == "member":
        return ".<member>"
    if type(key) is str:
        shown = '"' + ascii(key)[1:-1][:_MAX_KEY_SIZE] + '"'
    elif type(key) in (int, float, bool, type(None), bytes):
        shown = ascii(key)[:_MAX_KEY_SIZE]
    else:
        shown = f"<{type(key).__qualname__}>"
    return f".<key {shown}>" if kind == "key" else f"[{shown}]"
