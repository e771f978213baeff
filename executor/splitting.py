"""Cuts a cell that awaits into parts, so that a statement that blocks can run in a thread.

Statements of a cell share one dictionary and no local variables, so they mean the same compiled
together or one by one, and in whichever thread they run. What changes is that tasks of the loop
may run during a statement that held it before: as they may at every await.
"""

import ast
from collections.abc import Collection
from inspect import CO_COROUTINE
from types import CodeType
from typing import NamedTuple

from executor.compiler import FUTURE_FLAGS, CompiledCell, rewritten_tree
from executor.lines import lease_lines
from executor.source import TLA_FLAG, nested_codes

__all__ = ["Part", "mentions_loop", "split"]

# What code that needs the running loop mentions by name, in all likelihood: it would fail in a
# thread.
_LOOP_NAMES = frozenset(
    {
        "anyio",
        "asyncio",
        "create_task",
        "ensure_future",
        "gather",
        "get_event_loop",
        "get_running_loop",
        "run_coroutine_threadsafe",
        "trio",
        "uvloop",
    }
)
# Statements that only bind names, or whose effect is on the compilation of what follows.
_STAY = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Global,
    ast.Nonlocal,
)


class Part(NamedTuple):
    """Some of a cell's statements.

    Attributes:
        code: Compiled; for the last expression of a cell it evaluates to its value.
        awaits: Whether it evaluates to a coroutine, which is to be awaited.
        blocks: Whether it is to run in a thread.
        line: Where it begins, from 1.
    """

    code: CodeType
    awaits: bool
    blocks: bool
    line: int


def mentions_loop(codes: Collection[CodeType]) -> bool:
    """Whether code names something that needs the running event loop."""
    return any(
        not _LOOP_NAMES.isdisjoint(code.co_names) for outer in codes for code in nested_codes(outer)
    )


def split(cell: CompiledCell, lines: Collection[int]) -> list[Part] | None:
    """Cut a cell around the statements that block.

    Args:
        cell: Compiled, one that awaits.
        lines: Of statements at the top level of the cell, any line of each, that held the loop.

    Returns:
        The parts in their order, or None where none of those statements can leave the loop.
    """
    tree = rewritten_tree(cell)
    flags = cell.parse_flags | TLA_FLAG | (cell.future_flags & FUTURE_FLAGS)
    parts: list[Part] = []
    staying: list[ast.stmt] = []
    for index, statement in enumerate(tree.body):
        is_last = cell.last is not None and index == len(tree.body) - 1
        part = _part([statement], cell, flags, is_last=is_last)
        can_leave = (
            any(statement.lineno <= line <= (statement.end_lineno or 0) for line in lines)
            and not isinstance(statement, _STAY)
            and not part.awaits
            and not mentions_loop([part.code])
        )
        if not can_leave and not is_last:
            staying.append(statement)
            continue
        if staying:
            parts.append(_part(staying, cell, flags, is_last=False))
            staying = []
        parts.append(part._replace(blocks=can_leave))
    if staying:
        parts.append(_part(staying, cell, flags, is_last=False))
    if not any(part.blocks for part in parts):
        return None
    lease_lines(cell.filename, [part.code for part in parts])
    return parts


def _part(statements: list[ast.stmt], cell: CompiledCell, flags: int, *, is_last: bool) -> Part:
    first = statements[0]
    if is_last and isinstance(first, ast.Expr):
        code = compile(ast.Expression(first.value), cell.filename, "eval", flags, True)
    else:
        module = ast.Module(statements, [])
        code = compile(module, cell.filename, "exec", flags, True)
    return Part(code, bool(code.co_flags & CO_COROUTINE), False, first.lineno)
