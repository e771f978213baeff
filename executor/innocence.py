"""Tells at a glance that a cell cannot wait: the cheap answer before the thorough one.

A cell is innocent if everything it can reach is: builtins that compute, modules that compute,
plain values, and functions, classes and instances of the session for which the same holds.
Whatever is not clearly so is left to :mod:`executor.routing`; innocence is never the wrong answer,
only sometimes a missed one.
"""

from __future__ import annotations

from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from typing import Any

from executor.compiler import CompiledCell
from executor.reach import names_of, only_binds, reaches_nothing_that_waits
from executor.source import nested_codes

__all__ = ["is_innocent", "only_defines"]


def is_innocent(cell: CompiledCell, namespace: dict[str, Any]) -> bool:
    """Whether it is plain that ``cell`` can wait for nothing, and defines nothing asynchronous.

    Args:
        cell: Compiled, and no coroutine.
        namespace: The live namespace; read, never written.
    """
    if not cell.is_examined:
        cell.is_examined = True
        cell.plain_names = names_of(cell.codes)
    names = cell.plain_names
    return names is not None and reaches_nothing_that_waits(names, namespace)


def only_defines(cell: CompiledCell) -> int | None:
    """Whether it is plain that ``cell`` calls nothing: it defines functions, imports and binds.

    Args:
        cell: Compiled, and no coroutine.

    Returns:
        The line of the first async function that it defines, 0 where there is none; None where a
        glance is not enough.
    """
    if cell.rewrites or not only_binds(cell.codes):
        return None
    lines = [
        code.co_firstlineno
        for outer in cell.codes
        for code in nested_codes(outer)
        if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR) and code.co_name[0] != "<"
    ]
    return min(lines, default=0)
