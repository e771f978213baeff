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
import os
import pathlib
import re
import sys
import time
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

__all__ = [
    "COMPUTING_MODULES",
    "LIMITED_MODULES",
    "names_of",
    "only_binds",
    "reaches_nothing_that_waits",
]

COMPUTING_MODULES = frozenset(
    {
        "abc", "array", "base64", "binascii", "bisect", "calendar", "cmath", "collections",
        "colorsys", "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum",
        "fractions", "functools", "graphlib", "heapq", "html", "itertools", "keyword",
        "math", "numbers", "operator", "random", "re", "statistics", "string", "struct",
        "textwrap", "types", "typing", "unicodedata", "zlib",
    }
)  # fmt: skip
"""Modules of which neither the import nor any function waits for anything but its arguments."""

_OS = frozenset(
    {
        "PathLike", "curdir", "devnull", "environ", "extsep", "fsdecode", "fsencode", "fspath",
        "getcwd", "getenv", "getpid", "getppid", "linesep", "name", "pardir", "path", "pathsep",
        "sep", "strerror",
    }
)  # fmt: skip
_OS_PATH = frozenset(
    {
        "basename", "commonpath", "commonprefix", "dirname", "isabs", "join", "normcase",
        "normpath", "sep", "split", "splitdrive", "splitext",
    }
)  # fmt: skip
_SYS = frozenset(
    {
        "argv", "byteorder", "executable", "float_info", "getrecursionlimit", "getrefcount",
        "getsizeof", "implementation", "int_info", "maxsize", "path", "platform", "prefix",
        "version", "version_info",
    }
)  # fmt: skip
_PATHS = frozenset(
    {
        pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePath,
        pathlib.PurePosixPath, pathlib.PureWindowsPath,
    }
)  # fmt: skip

LIMITED_MODULES: dict[str, frozenset[str]] = {
    "json": frozenset({"codecs", "decoder", "dump", "encoder", "load", "scanner"}),
    "os": frozenset(vars(os)) - _OS,
    "os.path": frozenset(vars(os.path)) - _OS_PATH,
    os.path.__name__: frozenset(vars(os.path)) - _OS_PATH,
    "pathlib": frozenset({*vars(pathlib), *dir(pathlib.Path)}.difference(dir(pathlib.PurePath)))
    - {cls.__name__ for cls in _PATHS},
    "sys": frozenset(vars(sys)) - _SYS,
    "time": frozenset(vars(time).keys() & {"sleep", "pthread_getcpuclockid"}),
}
# The known modules among them are watched over under those names.
for _module, _others in LIMITED_MODULES.items():
    LIMITED_MODULES[_module] = _others - COMPUTING_MODULES - LIMITED_MODULES.keys()
"""Modules of which only some functions and classes compute, with the names of all the others.

A cell that mentions none of those names gets at none of them, unless by a name made of text.
"""

_BY_TEXT = frozenset({"attrgetter", "get_field", "methodcaller"})

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
_KNOWN_MODULES = COMPUTING_MODULES | LIMITED_MODULES.keys()
_NOT_NEW = frozenset(vars(builtins)) | _KNOWN_MODULES | _STREAMS

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
_EXTENDED_ARG = opcode.opmap["EXTENDED_ARG"]
_LOAD_CONST = opcode.opmap["LOAD_CONST"]
_LOAD_SMALL_INT = opcode.opmap.get("LOAD_SMALL_INT", _LOAD_CONST)
_MATCH_CLASS = opcode.opmap["MATCH_CLASS"]

# Instructions that move values between names and constants, and call nothing. (To import is no
# waiting to routing either: what a module does at its import nobody knows.)
_BINDING = frozenset(
    opcode.opmap[name]
    for name in (
        "BUILD_CONST_KEY_MAP", "BUILD_LIST", "BUILD_TUPLE", "CACHE", "COPY", "EXTENDED_ARG",
        "IMPORT_FROM", "IMPORT_NAME", "LOAD_CONST", "LOAD_NAME", "LOAD_SMALL_INT", "MAKE_FUNCTION",
        "NOP", "POP_TOP", "RESUME", "RETURN_CONST", "RETURN_VALUE", "SET_FUNCTION_ATTRIBUTE",
        "STORE_NAME", "SWAP",
    )
    if name in opcode.opmap
)  # fmt: skip

_ABSENT: Any = object()


def only_binds(codes: Iterable[CodeType]) -> bool:
    """Whether code does nothing but define functions, import, and bind names to other names."""
    return all(_BINDING.issuperset(code.co_code[::2]) for code in codes)


def names_of(codes: Iterable[CodeType]) -> tuple[str, ...] | None:
    """The names that code may look up; None where some of it is not for a glance."""
    found: dict[str, None] = {}
    for top in codes:
        for code in nested_codes(top):
            if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
                return None
            operations = code.co_code[::2]
            if _MATCH_CLASS in operations:  # it reads attributes by names among the constants
                return None
            if _IMPORT_NAME in operations and not _imports_only_known(code, operations):
                return None
            for name in code.co_names:
                if name.startswith("__") and name not in _SPECIAL_NAMES:
                    return None
                found[name] = None
    return tuple(found)


def _imports_only_known(code: CodeType, operations: bytes) -> bool:
    """Whether all that code imports is, or comes from, modules that the walk knows."""
    if ("*",) in code.co_consts:
        return False
    operands = code.co_code[1::2]
    at = operations.find(_IMPORT_NAME)
    while at >= 0:
        # Before it stand the level of a relative import, and the names or None.
        if at < 2 or _EXTENDED_ARG in operations[max(0, at - 3) : at]:
            return False
        level: object = operands[at - 2]
        if operations[at - 2] == _LOAD_CONST:
            level = code.co_consts[operands[at - 2]]
        elif operations[at - 2] != _LOAD_SMALL_INT:
            return False
        if level != 0 or code.co_names[operands[at]] not in _KNOWN_MODULES:
            return False
        at = operations.find(_IMPORT_NAME, at + 1)
    return True


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


def _path_methods() -> Iterable[str]:
    """Methods of paths that wait, also in other versions of Python and for those who say so."""
    rule = DEFAULT_TABLE.types.get("pathlib.Path")
    return () if rule is None else [name for name, each in rule.methods.items() if each.waits]


class _Walk:
    """One walk over what is reachable, each value once."""

    __slots__ = ("_limited", "_mentioned", "_modules", "_namespace", "_pending", "_seen")

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._pending: list[Any] = []
        self._seen: set[int] = set()
        self._mentioned: set[str] = set()
        self._modules: list[ModuleType] = []
        self._limited: set[str] = set()

    def is_harmless(self, mentioned: tuple[str, ...]) -> bool:
        if not self._name(mentioned):
            return False
        pending, seen = self._pending, self._seen
        while pending:
            value = pending.pop()
            if type(value) in _PLAIN or id(value) in seen:
                continue
            seen.add(id(value))
            if len(seen) > _MAX_VALUES or not self._value(value):
                return False
        return (
            self._imports_are_known()
            and self._modules_lead_to_no_other()
            and self._limits_are_kept()
        )

    def _imports_are_known(self) -> bool:
        """Take in the modules that the cell and its functions may import."""
        mentioned = self._mentioned
        for name in mentioned & _KNOWN_MODULES:
            if name in LIMITED_MODULES:
                self._limited.add(name)
                continue
            module = sys.modules.get(name)
            if type(module) is ModuleType:
                self._modules.append(module)
            elif any(each[0] == "_" and each not in _SPECIAL_NAMES for each in mentioned):
                return False  # what it holds privately is not known yet
        return True

    def _modules_lead_to_no_other(self) -> bool:
        """Modules hold the modules that they import, under names of their own."""
        mentioned = self._mentioned
        for module in self._modules:
            attributes = names.module_dict(module)
            shared = attributes.keys() & mentioned
            if any(type(attributes.get(name)) is ModuleType for name in shared):
                return False
        return True

    def _limits_are_kept(self) -> bool:
        """Whether of modules that also wait nothing is mentioned that does."""
        limited = self._limited
        if not limited:
            return True
        if "os" in limited:
            limited.add("os.path")
        mentioned = self._mentioned
        if not mentioned.isdisjoint(_BY_TEXT):
            return False
        if "pathlib" in limited and not mentioned.isdisjoint(_path_methods()):
            return False
        functions = DEFAULT_TABLE.functions
        return all(
            mentioned.isdisjoint(LIMITED_MODULES[module])
            and not any(f"{module}.{name}" in functions for name in mentioned)
            for module in limited
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
            return self._module(value)
        if kind in _CONTAINERS:
            self._take(islice(value, _MAX_ELEMENTS))
            return True
        if kind in _MAPPINGS:
            self._take(islice(dict.values(value), _MAX_ELEMENTS))
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
        if kind in _PATHS:
            self._limited.add("pathlib")
            return True
        return type(kind) is type and names.is_heap_class(kind) and self._instance(value, kind)

    def _take(self, values: Iterable[Any]) -> None:
        self._pending += [value for value in values if type(value) not in _PLAIN]

    def _module(self, module: ModuleType) -> bool:
        name = names.module_name(module)
        if name in LIMITED_MODULES:
            self._limited.add(name)
            return True
        self._modules.append(module)
        return name in COMPUTING_MODULES

    def _builtin(self, function: Any) -> bool:
        owner = function.__self__
        if type(owner) is not ModuleType:
            self._pending.append(owner)
            return True
        module = names.module_name(owner)
        if module == "builtins":
            return function.__name__ in _COMPUTING
        if module in LIMITED_MODULES:
            return function.__name__ not in LIMITED_MODULES[module]
        return module in COMPUTING_MODULES or function.__module__ in COMPUTING_MODULES

    def _function(self, function: FunctionType) -> bool:
        if names.function_path(function) in DEFAULT_TABLE.functions:
            return False
        code = function.__code__
        if function.__globals__ is not self._namespace:
            home = function.__globals__.get("__name__")
            if home in LIMITED_MODULES and function.__name__ in LIMITED_MODULES[home]:
                return False
            is_known = home in COMPUTING_MODULES or home in LIMITED_MODULES
            return is_known and function.__closure__ is None
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
        if cls in _PATHS:
            self._limited.add("pathlib")
            return True
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
            if kind in _PLAIN or kind is GetSetDescriptorType or kind is MemberDescriptorType:
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
    """The names that a function may look up; None also for what it imports. Kept while it lives."""
    kept = _kept.get(id(code))
    if kept is not None and kept[0]() is code:
        return kept[1]
    mentioned = names_of([code])
    while len(_kept) >= _MAX_KEPT:
        _kept.pop(next(iter(_kept)), None)
    _kept[id(code)] = (weakref.ref(code), mentioned)
    return mentioned
