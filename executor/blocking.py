"""Finds the calls in a cell that could wait on I/O, a lock, a process or a clock.

The answer is what the cell *could* do when it runs now, in this namespace:
names are followed in the order of the source, live objects are what they are,
functions count where they are called. Nothing of the user's is run, and no
source, tree or namespace makes the analysis raise.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from executor.blocking_builtins import SPECIAL as _BUILTINS
from executor.blocking_code import Followed
from executor.blocking_iterators import SPECIAL as _ITERATORS
from executor.blocking_libraries import add_libraries
from executor.blocking_managers import SPECIAL as _MANAGERS
from executor.blocking_network import add_network_and_threads
from executor.blocking_ops import BlockingCall, Found
from executor.blocking_services import add_services
from executor.blocking_source import FunctionSources
from executor.blocking_stdlib import add_standard_library
from executor.blocking_table import BlockingTable

__all__ = [
    "DEFAULT_TABLE",
    "BlockingCall",
    "default_table",
    "find_blocking",
    "register_blocking",
    "register_type",
]


def default_table() -> BlockingTable:
    """A new table with the standard library and the third-party libraries known here."""
    table = BlockingTable()
    add_standard_library(table)
    add_network_and_threads(table)
    add_libraries(table)
    add_services(table)
    return table


DEFAULT_TABLE = default_table()
"""What :func:`find_blocking` uses where it is given no table of one's own."""

SPECIAL = _BUILTINS | _ITERATORS | _MANAGERS
"""Functions of Python that the analysis models itself."""

_SOURCES = FunctionSources()


def register_blocking(*functions: str, table: BlockingTable = DEFAULT_TABLE) -> None:
    """Say that functions can wait.

    Args:
        functions: Dotted names as users import them: ``"mymodule.fetch"``. The
            notation of :mod:`executor.blocking_table` may follow:
            ``"mymodule.connect=mymodule.Client"`` says what the call returns.
        table: The table to enter them in.

    Raises:
        ValueError: A name has no module, or its result is not well written.
    """
    for text in functions:
        head = text.partition("=")[0].partition("?")[0]
        module, _, name = head.rpartition(".")
        if not module or not name:
            raise ValueError(
                f"{text!r} names no module: write the dotted name that users import,"
                " such as 'mymodule.fetch'"
            )
        table.add_functions(module, text[len(module) + 1 :])


def register_type(
    path: str,
    methods: str | set[str] | list[str] = "",
    *,
    table: BlockingTable = DEFAULT_TABLE,
    **columns: Any,
) -> None:
    """Say that methods of a class can wait.

    Args:
        path: Dotted name of the class as users import it: ``"mymodule.Client"``.
        methods: Names of the methods that can wait, in a collection or in the
            notation of :mod:`executor.blocking_table`.
        table: The table to enter it in.
        columns: Further columns of :meth:`BlockingTable.add_type`, such as
            ``new="!"`` for a constructor that waits.

    Raises:
        ValueError: The name has no module, or a result is not well written.
    """
    if "." not in path:
        raise ValueError(
            f"{path!r} names no module: write the dotted name that users import,"
            " such as 'mymodule.Client'"
        )
    words = methods if isinstance(methods, str) else " ".join(sorted(methods))
    table.add_type(path, waits=words, **columns)


def find_blocking(
    tree: ast.Module,
    namespace: Mapping[str, Any],
    *,
    every: bool = False,
    table: BlockingTable = DEFAULT_TABLE,
) -> tuple[BlockingCall, ...]:
    """The calls at which running a cell could wait.

    Args:
        tree: The parsed cell.
        namespace: The live globals it will run in; read, never written.
        every: Find all of them; otherwise the first one ends the search.
        table: Which calls can wait.

    Returns:
        The calls in the order they were met; empty where the cell never waits.
    """
    flow = Followed(table, SPECIAL, every=every, sources=_SOURCES, namespace=namespace)
    try:
        flow.cell(tree.body)
    except Found:
        pass
    except Exception:  # noqa: BLE001 - a broken tree or namespace must not stop its cell
        return tuple(flow.found)
    return tuple(flow.found)
