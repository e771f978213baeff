"""Tells at a glance that a cell cannot wait: the cheap answer before the thorough one.

A cell is innocent if everything it can reach is: builtins that compute, modules that compute,
plain values, and functions, classes and instances of the session for which the same holds.
Whatever is not clearly so is left to :mod:`executor.routing`; innocence is never the wrong answer,
only sometimes a missed one.
"""

from __future__ import annotations

import re
from typing import Any

from executor.compiler import CompiledCell
from executor.reach import COMPUTING_MODULES, names_of, reaches_nothing_that_waits

__all__ = ["is_innocent"]

_IMPORT = re.compile(r"\b(?:import|from)\b")
_SIMPLE_IMPORT = re.compile(
    r"^[ \t]*(?:import (\w+)(?: as \w+)?|from (\w+) import [\w, ]+)[ \t]*(?:#.*)?$", re.MULTILINE
)


def is_innocent(cell: CompiledCell, namespace: dict[str, Any]) -> bool:
    """Whether it is plain that ``cell`` can wait for nothing, and defines nothing asynchronous.

    Args:
        cell: Compiled, and no coroutine.
        namespace: The live namespace; read, never written.
    """
    if not cell.is_examined:
        cell.is_examined = True
        if _imports_are_pure(cell.source):
            cell.plain_names = names_of(cell.codes)
    names = cell.plain_names
    return names is not None and reaches_nothing_that_waits(names, namespace)


def _imports_are_pure(source: str) -> bool:
    mentions = len(_IMPORT.findall(source))
    if not mentions:
        return True
    expected = 0
    for found in _SIMPLE_IMPORT.finditer(source):
        if (found[1] or found[2]) not in COMPUTING_MODULES:
            return False
        expected += 1 if found[1] else 2
    return expected == mentions
