"""Decides where a cell runs, and says why."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from executor.blocking import BlockingCall, find_blocking
from executor.modes import ExecutionMode

__all__ = ["Route", "analyze", "blocking_calls", "defines_async", "route"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a cell runs and why.

    Attributes:
        mode: How the executor runs it.
        reason: One sentence for notes and logs.
        line: 1-based line in the cell that decided it, where one did.
    """

    mode: ExecutionMode
    reason: str
    line: int | None = None


def route(tree: ast.Module, namespace: Mapping[str, Any], *, is_coroutine: bool) -> Route:
    """Choose the mode of a parsed cell; runs nothing and never raises.

    Args:
        tree: The cell, as it will be compiled.
        namespace: The live globals it will run in; read, never written.
        is_coroutine: Whether the compiled cell has CO_COROUTINE set.

    Returns:
        The mode with its reason.
    """
    if is_coroutine:
        return Route(ExecutionMode.TOP_LEVEL_AWAIT, "the cell awaits at top level")
    calls = find_blocking(tree, namespace)
    if calls:
        first = calls[0]
        reason = f"{first.name} can wait (line {first.line})"
        return Route(ExecutionMode.BLOCKING_SYNC, reason, first.line)
    line = _async_definition(tree)
    if line is not None:
        return defines_async(line)
    return Route(ExecutionMode.SIMPLE_SYNC, "no call in the cell can wait")


def defines_async(line: int) -> Route:
    """The route of a cell that defines an async function there, and awaits and waits nowhere."""
    reason = f"defines an async function (line {line}) and awaits nothing at top level"
    return Route(ExecutionMode.ASYNC_DEF, reason, line)


def blocking_calls(tree: ast.Module, namespace: Mapping[str, Any]) -> tuple[BlockingCall, ...]:
    """All calls at which a cell could block, also inside what it awaits.

    For cells that run on the event loop, where each of them would hold it up.
    """
    return find_blocking(tree, namespace, every=True)


def analyze(source: str, namespace: Mapping[str, Any]) -> Route:
    """Choose the mode of a source text; runs nothing and never raises.

    Text that does not parse is SIMPLE_SYNC: compiling it raises at once.
    """
    try:
        tree = ast.parse(source)
    except (
        SyntaxError,
        ValueError,
        TypeError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
        return Route(ExecutionMode.SIMPLE_SYNC, f"does not parse: {type(error).__name__}")
    is_coroutine = False
    if "async" in source or "await" in source:
        is_coroutine = _is_coroutine(tree)
    found = route(tree, namespace, is_coroutine=is_coroutine)
    if found.mode is ExecutionMode.SIMPLE_SYNC and "await" in source:
        line = _awaiting_function(tree)
        if line is not None:
            reason = f"defines a function that awaits (line {line})"
            return Route(ExecutionMode.ASYNC_DEF, reason, line)
    return found


def _is_coroutine(tree: ast.Module) -> bool:
    """Whether the cell compiles to a coroutine, as CPython itself decides."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        code = compile(tree, "<cell>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError):
        return _awaits_outside_functions(tree)
    return bool(code.co_flags & inspect.CO_COROUTINE)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_AWAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def _awaits_outside_functions(tree: ast.AST) -> bool:
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, _AWAITS):
            return True
        if not isinstance(node, _FUNCTIONS):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _async_definition(tree: ast.Module) -> int | None:
    """The line of the first async function, looking at statements alone."""
    pending: list[Any] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.AsyncFunctionDef):
            return node.lineno
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            inner = getattr(node, field, None)
            if type(inner) is list:
                pending.extend(inner)
    return None


def _awaiting_function(tree: ast.Module) -> int | None:
    """The line of the first plain function or lambda whose own body awaits."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            if any(_awaits_outside_functions(part) for part in body):
                return node.lineno
        pending.extend(ast.iter_child_nodes(node))
    return None
