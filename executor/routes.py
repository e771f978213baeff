"""The route of a compiled cell, worked out once and again only when what its names mean changes."""

from __future__ import annotations

from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from executor.compiler import CompiledCell, rewritten_tree
from executor.innocence import is_innocent, only_defines
from executor.modes import ExecutionMode
from executor.routing import Route, defines_async, route
from executor.source import nested_codes

__all__ = ["CellRouter"]

_ON_LOOP = Route(ExecutionMode.TOP_LEVEL_AWAIT, "the cell awaits at top level")

_INNOCENT = Route(ExecutionMode.SIMPLE_SYNC, "no call in the cell can wait")

# Functions of earlier cells call further ones; a longer trail than this is followed no further.
_MAX_NAMES = 500

_ABSENT: Any = object()


class CellRouter:
    """Routes the cells of one session.

    Args:
        namespace: The live namespace; read, never written.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def route(self, cell: CompiledCell) -> Route:
        """Say where ``cell`` is to run now; never raises and runs none of it."""
        if cell.is_coroutine:
            cell.tree = None
            return _ON_LOOP
        if cell.defines_at is None:
            line = only_defines(cell)
            cell.defines_at = -1 if line is None else line
        if cell.defines_at >= 0:
            cell.tree = None
            return _INNOCENT if cell.defines_at == 0 else defines_async(cell.defines_at)
        if is_innocent(cell, self._namespace):
            cell.tree = None
            return _INNOCENT
        tree = cell.tree
        cell.tree = None
        if tree is None and cell.route is None:
            tree = rewritten_tree(cell)
        if tree is None:
            # Not the first run: only now is it worth knowing what the route depends on.
            if cell.route_names is None:
                cell.route_names = self._names(cell)
            meaning = self._meaning(cell.route_names)
            if cell.route is not None and meaning == cell.route_meaning:
                return cell.route
            cell.route_names = self._names(cell)
            cell.route_meaning = self._meaning(cell.route_names)
            tree = rewritten_tree(cell)
        found = cell.route = route(tree, self._namespace, is_coroutine=False)
        return found

    def _names(self, cell: CompiledCell) -> tuple[str, ...]:
        """The names that the cell, and functions of the session that it names, may look up."""
        found: dict[str, None] = {}
        pending: list[CodeType] = list(cell.codes)
        while pending and len(found) < _MAX_NAMES:
            for code in nested_codes(pending.pop()):
                for name in code.co_names:
                    if name in found:
                        continue
                    found[name] = None
                    value = self._namespace.get(name)
                    if type(value) is FunctionType and value.__globals__ is self._namespace:
                        pending.append(value.__code__)
        return tuple(found)

    def _meaning(self, names: Iterable[str]) -> tuple[int, ...]:
        get = self._namespace.get
        return tuple([_meaning(get(name, _ABSENT)) for name in names])


def _meaning(value: Any) -> int:
    """What routing knows a value by; a number, so that nothing is kept alive.

    A function that the cell defines itself is a new object each time but has the same code, and
    of a plain instance only the type counts.
    """
    kind = type(value)
    if kind is FunctionType:
        return id(value.__code__)
    if kind is ModuleType or kind is BuiltinFunctionType or issubclass(kind, type):
        return id(value)
    return id(kind)
