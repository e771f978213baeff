"""Tells at a glance that a cell cannot wait: the cheap answer before the thorough one.

A cell is innocent if everything it can reach is: builtins that compute, modules that compute,
plain values, and functions of the session for which the same holds. Whatever is not clearly so is
left to :mod:`executor.routing`; innocence is never the wrong answer, only sometimes a missed one.
"""

from __future__ import annotations

import builtins
import opcode
import re
from collections.abc import Iterable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import CodeType, EllipsisType, FunctionType, ModuleType, NoneType
from typing import Any

from executor.compiler import CompiledCell
from executor.source import nested_codes

__all__ = ["is_innocent"]

_COMPUTING = frozenset(
    {
        "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr",
        "classmethod", "complex", "dict", "divmod", "enumerate", "filter", "float", "format",
        "frozenset", "hash", "hex", "id", "int", "isinstance", "issubclass", "iter", "len", "list",
        "map", "max", "min", "next", "object", "oct", "ord", "pow", "print", "property", "range",
        "repr", "reversed", "round", "set", "slice", "sorted", "staticmethod", "str", "sum",
        "super", "tuple", "type", "zip",
    }
)  # fmt: skip
_BUILTINS = _COMPUTING | {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}

_MODULES = frozenset(
    {
        "abc", "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal",
        "enum", "fractions", "functools", "heapq", "itertools", "json", "math", "numbers",
        "operator", "random", "re", "statistics", "string", "textwrap",
    }
)  # fmt: skip

_SPECIAL_NAMES = frozenset(
    {
        "__name__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
        "__classcell__", "__doc__", "__init__", "__repr__", "__str__", "__eq__", "__hash__",
        "__len__", "__iter__", "__getitem__", "__annotations__", "__type_params__", "__classdict__",
        "__annotate__", "__annotate_func__", "__conditional_annotations__",
    }
)  # fmt: skip

_PLAIN = frozenset({NoneType, bool, int, float, complex, str, bytes, range, EllipsisType})

_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
# To look into a longer one takes longer than routing does.
_MAX_ELEMENTS = 50

_IMPORT = re.compile(r"\b(?:import|from)\b")
_SIMPLE_IMPORT = re.compile(
    r"^[ \t]*(?:import (\w+)(?: as \w+)?|from (\w+) import [\w, ]+)[ \t]*(?:#.*)?$", re.MULTILINE
)

_IMPORT_NAME = opcode.opmap["IMPORT_NAME"]

# A longer trail of functions is left to the thorough way.
_MAX_FUNCTIONS = 50

_ABSENT: Any = object()


def is_innocent(cell: CompiledCell, namespace: dict[str, Any]) -> bool:
    """Whether it is plain that ``cell`` can wait for nothing, and defines nothing asynchronous.

    Args:
        cell: Compiled, and no coroutine.
        namespace: The live namespace; read, never written.
    """
    if not cell.is_examined:
        cell.is_examined = True
        if _imports_are_pure(cell.source):
            cell.plain_names = _names(cell.codes)
    names = cell.plain_names
    return names is not None and _all_innocent(names, namespace)


def _imports_are_pure(source: str) -> bool:
    mentions = len(_IMPORT.findall(source))
    if not mentions:
        return True
    expected = 0
    for found in _SIMPLE_IMPORT.finditer(source):
        if (found[1] or found[2]) not in _MODULES:
            return False
        expected += 1 if found[1] else 2
    return expected == mentions


def _names(codes: Iterable[CodeType]) -> tuple[str, ...] | None:
    """The names that code may look up; None where some of it is not for a glance."""
    found: dict[str, None] = {}
    for top in codes:
        for code in nested_codes(top):
            if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
                return None
            for name in code.co_names:
                if name.startswith("_") and name not in _SPECIAL_NAMES:
                    return None
                found[name] = None
    return tuple(found)


def _all_innocent(names: tuple[str, ...], namespace: dict[str, Any]) -> bool:
    functions: dict[CodeType, None] = {}
    pending = [names]
    while pending:
        for name in pending.pop():
            value = namespace.get(name, _ABSENT)
            if value is _ABSENT:
                if name not in _BUILTINS and name in builtins.__dict__:
                    return False
                continue
            kind = type(value)
            if kind in _PLAIN or (kind in _CONTAINERS and _holds_plain(value)):
                continue
            if kind is ModuleType:
                if value.__dict__.get("__name__") not in _MODULES:
                    return False
            elif kind is FunctionType and _is_simple(value, namespace):
                code = value.__code__
                if code not in functions:
                    functions[code] = None
                    inner = _names([code])
                    if inner is None or _imports(code) or len(functions) > _MAX_FUNCTIONS:
                        return False
                    pending.append(inner)
            elif name not in _SPECIAL_NAMES:
                return False
    return True


def _holds_plain(container: Any) -> bool:
    if len(container) > _MAX_ELEMENTS:
        return False
    elements = container.values() if type(container) is dict else container
    return all(type(element) in _PLAIN for element in elements)


def _imports(function: CodeType) -> bool:
    """Whether a function may import; operands that look like it count too."""
    return any(_IMPORT_NAME in code.co_code for code in nested_codes(function))


def _is_simple(function: FunctionType, namespace: dict[str, Any]) -> bool:
    """Whether a function can reach nothing but what its code names."""
    if function.__globals__ is not namespace or function.__closure__ is not None:
        return False
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return all(type(default) in _PLAIN for default in defaults)
