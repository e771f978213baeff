"""The syntax trees of functions that earlier cells defined.

Their source is taken from :mod:`linecache`, where the executor (like any
interactive interpreter) registers it under the code's filename. Only what is
already there is used: no file is read.
"""

from __future__ import annotations

import ast
import linecache
from types import FunctionType

__all__ = ["FunctionSources"]

type Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_MOST_FILES = 64  # trees kept; a session's later cells follow its recent ones


class FunctionSources:
    """Finds functions' definitions, keeping the trees of the files seen last."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[object, dict[tuple[int, str], list[Definition]]]] = {}

    def find(self, function: FunctionType) -> Definition | None:
        """The definition of a live function, or None where its source is not at hand."""
        code = function.__code__
        entry = linecache.cache.get(code.co_filename)
        if entry is None or len(entry) != 4:
            return None
        lines = entry[2]
        kept = self._files.get(code.co_filename)
        if kept is None or kept[0] is not lines:
            kept = self._files[code.co_filename] = (lines, _definitions("".join(lines)))
            if len(self._files) > _MOST_FILES:
                del self._files[next(iter(self._files))]
        found = kept[1].get((code.co_firstlineno, code.co_name), [])
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        fitting = [node for node in found if _parameters(node) == names]
        return fitting[0] if len(fitting) == 1 else None


def _parameters(node: Definition) -> tuple[str, ...]:
    spec = node.args
    return tuple(a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs))


def _definitions(source: str) -> dict[tuple[int, str], list[Definition]]:
    """All functions and lambdas of a source, by the first line and name of their code."""
    found: dict[tuple[int, str], list[Definition]] = {}
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            found.setdefault((node.lineno, "<lambda>"), []).append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            found.setdefault((first, node.name), []).append(node)
    return found
