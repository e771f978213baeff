"""What a cell can get hold of through the names it mentions, and whether any of that could wait.

Values are told apart by their real type and read through :mod:`executor.names`: none of their own
code runs. What is not clearly harmless is answered with no, which only sends the cell the thorough
way; the walk gives up after a number of values for the same reason.
"""

from __future__ import annotations

import builtins
import datetime as dt
import decimal
import fractions
import opcode
import re
import sys
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from itertools import islice
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
    NotImplementedType,
)
from typing import Any

from executor import names
from executor.blocking import DEFAULT_TABLE
from executor.source import nested_codes

__all__ = ["COMPUTING_MODULES", "names_of", "reaches_nothing_that_waits"]

COMPUTING_MODULES = frozenset(
    {
        "abc", "array", "base64", "binascii", "bisect", "calendar", "cmath", "collections",
        "colorsys", "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum",
        "fractions", "functools", "graphlib", "heapq", "html", "itertools", "json", "keyword",
        "math", "numbers", "operator", "random", "re", "statistics", "string", "struct",
        "textwrap", "types", "typing", "unicodedata", "zlib",
    }
)  # fmt: skip
"""Modules of which neither the import nor any function waits for anything but its arguments."""

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
_BUILTIN_CLASSES = frozenset(
    value for name in _BUILTINS if isinstance(value := vars(builtins)[name], type)
)

# Parameters that are annotated with them are files.
_STREAMS = frozenset({"IO", "TextIO", "BinaryIO"})

# Names that mean something although nothing is bound to them.
_NOT_NEW = frozenset(vars(builtins)) | COMPUTING_MODULES | _STREAMS

_SPECIAL_NAMES = frozenset(
    {
        "__name__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
        "__classcell__", "__doc__", "__init__", "__repr__", "__str__", "__eq__", "__hash__",
        "__len__", "__iter__", "__getitem__", "__annotations__", "__type_params__", "__classdict__",
        "__annotate__", "__annotate_func__", "__conditional_annotations__", "__main__",
    }
)  # fmt: skip

_PLAIN = frozenset(
    {
        NoneType, bool, int, float, complex, str, bytes, bytearray, range, slice, EllipsisType,
        NotImplementedType, dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
        decimal.Decimal, fractions.Fraction, re.Pattern, re.Match,
    }
)  # fmt: skip
_CONTAINERS = frozenset({list, tuple, set, frozenset, deque})
_MAPPINGS = frozenset({dict, defaultdict, OrderedDict, Counter})
# As many as routing itself looks at: what follows is of the same kinds in practice.
_MAX_ELEMENTS = 64
# To walk further takes longer than routing does.
_MAX_VALUES = 200

_IMPORT_NAME = opcode.opmap["IMPORT_NAME"]

_ABSENT: Any = object()


def names_of(codes: Iterable[CodeType]) -> tuple[str, ...] | None:
    """The names that code may look up; None where some of it is not for a glance."""
    found: dict[str, None] = {}
    for top in codes:
        for code in nested_codes(top):
            if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
                return None
            for name in code.co_names:
                if name.startswith("__") and name not in _SPECIAL_NAMES:
                    return None
                found[name] = None
    return tuple(found)


def reaches_nothing_that_waits(mentioned: tuple[str, ...], namespace: dict[str, Any]) -> bool:
    """Whether nothing that the names lead to can wait.

    Args:
        mentioned: What :func:`names_of` answered.
        namespace: The live namespace; read, never written.
    """
    get = namespace.get
    for name in mentioned:
        # New names and plain values, as most cells have alone, need no walk.
        if type(get(name)) not in _PLAIN or (name not in namespace and name in _NOT_NEW):
            return _Walk(namespace).is_harmless(mentioned)
    return True


class _Walk:
    """One walk over what is reachable, each value once."""

    __slots__ = ("_mentioned", "_modules", "_namespace", "_pending", "_seen")

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._pending: list[Any] = []
        self._seen: set[int] = set()
        self._mentioned: set[str] = set()
        self._modules: list[ModuleType] = []

    def is_harmless(self, mentioned: tuple[str, ...]) -> bool:
        if not self._name(mentioned) or not self._imported(mentioned):
            return False
        pending, seen = self._pending, self._seen
        while pending:
            value = pending.pop()
            if type(value) in _PLAIN or id(value) in seen:
                continue
            seen.add(id(value))
            if len(seen) > _MAX_VALUES or not self._value(value):
                return False
        return not self._modules or self._modules_lead_to_no_other()

    def _imported(self, mentioned: tuple[str, ...]) -> bool:
        """Take in the modules that the cell itself may import."""
        for name in COMPUTING_MODULES.intersection(mentioned):
            module = sys.modules.get(name)
            if type(module) is ModuleType:
                self._modules.append(module)
            elif any(each[0] == "_" and each not in _SPECIAL_NAMES for each in mentioned):
                return False  # what it holds privately is not known yet
        return True

    def _modules_lead_to_no_other(self) -> bool:
        """Modules hold the modules that they import, under names of their own."""
        return not any(
            type(names.module_attribute(module, name)) is ModuleType
            for module in self._modules
            for name in self._mentioned
        )

    def _name(self, mentioned: tuple[str, ...]) -> bool:
        self._mentioned.update(mentioned)
        get = self._namespace.get
        for name in mentioned:
            value = get(name, _ABSENT)
            if value is _ABSENT:
                if name in _STREAMS or (name not in _BUILTINS and name in builtins.__dict__):
                    return False
            elif type(value) not in _PLAIN and name not in _SPECIAL_NAMES:
                self._pending.append(value)
        return True

    def _value(self, value: Any) -> bool:
        kind = type(value)
        if kind is FunctionType:
            return self._function(value)
        if kind is ModuleType:
            self._modules.append(value)
            return names.module_name(value) in COMPUTING_MODULES
        if kind in _CONTAINERS:
            self._pending.extend(islice(value, _MAX_ELEMENTS))
            return True
        if kind in _MAPPINGS:
            self._pending.extend(islice(dict.values(value), _MAX_ELEMENTS))
            if kind is defaultdict:
                self._pending.append(value.default_factory)
            return True
        if kind is type:
            return self._class(value)
        if kind is BuiltinFunctionType:
            return self._builtin(value)
        if kind is MethodType:
            self._pending += (value.__self__, value.__func__)
            return True
        return type(kind) is type and names.is_heap_class(kind) and self._instance(value, kind)

    def _builtin(self, function: Any) -> bool:
        owner = function.__self__
        if type(owner) is not ModuleType:
            self._pending.append(owner)
            return True
        module = names.module_name(owner)
        if module == "builtins":
            return function.__name__ in _COMPUTING
        return module in COMPUTING_MODULES or function.__module__ in COMPUTING_MODULES

    def _function(self, function: FunctionType) -> bool:
        if names.function_path(function) in DEFAULT_TABLE.functions:
            return False
        code = function.__code__
        if function.__globals__ is not self._namespace:
            home = function.__globals__.get("__name__")
            return home in COMPUTING_MODULES and function.__closure__ is None
        if function.__closure__ is not None:
            for cell in function.__closure__:
                try:
                    self._pending.append(cell.cell_contents)
                except ValueError:  # not bound yet
                    return False
        self._pending.extend(function.__defaults__ or ())
        self._pending.extend((function.__kwdefaults__ or {}).values())
        self._pending.extend(function.__dict__.values())
        mentioned = _names_of_function(code)
        return mentioned is not None and self._name(mentioned)

    def _class(self, cls: type) -> bool:
        if cls in _BUILTIN_CLASSES or cls in _PLAIN or cls in _CONTAINERS or cls in _MAPPINGS:
            return True
        if not names.is_heap_class(cls) or names.class_module(cls) != "__main__":
            return False
        if names.class_path(cls) in DEFAULT_TABLE.types:
            return False
        bases = names.class_bases(cls)
        self._pending.extend(base for base in bases if base is not cls)
        for attribute in names.own_attributes(cls).values():
            kind = type(attribute)
            if kind is GetSetDescriptorType or kind is MemberDescriptorType:
                continue
            if kind is staticmethod or kind is classmethod:
                self._pending.append(attribute.__func__)
            elif kind is property:
                self._pending += (attribute.fget, attribute.fset, attribute.fdel)
            else:
                self._pending.append(attribute)
        return True

    def _instance(self, value: object, cls: type) -> bool:
        self._pending.append(cls)
        for base in names.class_bases(cls):
            if base is not object and not names.is_heap_class(base):
                return False  # a list, a file ... of its own: what that holds is not looked at
            for name, attribute in names.own_attributes(base).items():
                if type(attribute) is MemberDescriptorType:
                    self._pending.append(names.instance_attribute(value, name))
        attributes = names.instance_attributes(value)
        if len(attributes) > _MAX_ELEMENTS:
            return False
        self._pending.extend(attributes.values())
        return True


_MAX_KEPT = 512
_kept: dict[int, tuple[weakref.ref[CodeType], tuple[str, ...] | None]] = {}


def _names_of_function(code: CodeType) -> tuple[str, ...] | None:
    """The names that a function may look up; None also where it may import. Kept while it lives."""
    kept = _kept.get(id(code))
    if kept is not None and kept[0]() is code:
        return kept[1]
    mentioned = None
    # Operands that look like the instruction count too.
    if not any(_IMPORT_NAME in each.co_code for each in nested_codes(code)):
        mentioned = names_of([code])
    while len(_kept) >= _MAX_KEPT:
        _kept.pop(next(iter(_kept)), None)
    _kept[id(code)] = (weakref.ref(code), mentioned)
    return mentioned
