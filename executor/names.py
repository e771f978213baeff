"""What an object is called, found out without running any code of its owner.

Live objects come from users' cells: they may have properties, ``__getattr__``,
``__class__`` or metaclasses that do anything at all. Every look-up here goes
through the type's own slots and dictionaries (the way of
:func:`inspect.getattr_static`), so that asking what an object is never runs
its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
)
from typing import Any

__all__ = [
    "MISSING",
    "builtin_path",
    "callable_name",
    "class_attribute",
    "class_bases",
    "class_module",
    "class_path",
    "function_path",
    "instance_attribute",
    "instance_attributes",
    "is_heap_class",
    "is_slot",
    "module_attribute",
    "module_dict",
    "module_name",
    "own_attribute",
    "own_attributes",
]

MISSING: Any = object()
"""Returned where nothing was found; None is a value that users have."""

_type_dict = type.__dict__["__dict__"].__get__
_type_mro = type.__dict__["__mro__"].__get__
_type_module = type.__dict__["__module__"].__get__
_type_qualname = type.__dict__["__qualname__"].__get__
_type_flags = type.__dict__["__flags__"].__get__
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE, Include/object.h
_module_dict: Any = vars(ModuleType)["__dict__"].__get__


def class_bases(cls: type) -> tuple[type, ...]:
    """The class and its bases in method resolution order."""
    bases: tuple[type, ...] = _type_mro(cls) or (cls,)
    return bases


def class_path(cls: type) -> str:
    """The dotted name a class was defined under, such as ``socket.socket``."""
    module = _type_module(cls)
    name = _type_qualname(cls)
    if type(module) is not str or type(name) is not str:
        return ""
    return name if module == "builtins" else f"{module}.{name}"


def function_path(function: FunctionType) -> str:
    """The dotted name of a Python function, such as ``subprocess.run``."""
    module, name = function.__module__, function.__qualname__
    return f"{module}.{name}" if type(module) is str and type(name) is str else ""


def builtin_path(function: BuiltinFunctionType) -> str:
    """The dotted name of a function written in C, such as ``time.sleep``."""
    module, name = function.__module__, function.__name__
    if type(name) is not str:
        return ""
    return f"{module}.{name}" if type(module) is str and module != "builtins" else name


def module_name(module: ModuleType) -> str:
    """The name in a module's own dictionary, or an empty string."""
    name = _module_dict(module).get("__name__")
    return name if type(name) is str else ""


def module_attribute(module: ModuleType, name: str) -> Any:
    """A module's global, or :data:`MISSING`; module ``__getattr__`` never runs."""
    return _module_dict(module).get(name, MISSING)


def module_dict(module: ModuleType) -> dict[str, Any]:
    """A module's globals."""
    attributes: dict[str, Any] = _module_dict(module)
    return attributes


def class_attribute(cls: type, name: str) -> Any:
    """A class attribute as stored, descriptors unbound, or :data:`MISSING`."""
    for base in class_bases(cls):
        found = _type_dict(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def wrapped_by(function: object) -> Any:
    """What ``functools.wraps`` and ``lru_cache`` say they wrap, or :data:`MISSING`."""
    return instance_attribute(function, "__wrapped__")


def instance_attribute(instance: object, name: str) -> Any:
    """An instance's own attribute, or :data:`MISSING`.

    Reads the instance dictionary and slots; class attributes, properties and
    ``__getattr__`` are left to the caller.
    """
    cls = type(instance)
    for base in class_bases(cls):
        namespace = _type_dict(base)
        slot = namespace.get(name)
        if type(slot) is MemberDescriptorType:
            try:
                return slot.__get__(instance, cls)
            except AttributeError:
                return MISSING
        holder = namespace.get("__dict__")
        if type(holder) in (GetSetDescriptorType, MemberDescriptorType):
            attributes = holder.__get__(instance, cls)
            if type(attributes) is dict and name in attributes:
                return attributes[name]
    return MISSING


def instance_attributes(instance: object) -> dict[str, Any]:
    """An instance's dictionary; empty where it has none of the usual kind."""
    cls = type(instance)
    for base in class_bases(cls):
        holder = _type_dict(base).get("__dict__")
        if type(holder) is GetSetDescriptorType:
            attributes = holder.__get__(instance, cls)
            return attributes if type(attributes) is dict else {}
    return {}


def own_attributes(cls: type) -> Mapping[str, Any]:
    """What a class's own dictionary holds, bases left out."""
    attributes: Mapping[str, Any] = _type_dict(cls)
    return attributes


def own_attribute(cls: type, name: str) -> Any:
    """An attribute in a class's own dictionary, bases left out, or :data:`MISSING`."""
    return _type_dict(cls).get(name, MISSING)


def class_module(cls: type) -> str:
    """The module a class says it was defined in, or an empty string."""
    module = _type_module(cls)
    return module if type(module) is str else ""


def callable_name(function: object) -> str:
    """The plain name of a function or method, or an empty string."""
    if type(function) in (FunctionType, BuiltinFunctionType, MethodDescriptorType):
        name = function.__name__  # type: ignore[attr-defined]
        return name if type(name) is str else ""
    return ""


def is_heap_class(cls: type) -> bool:
    """Whether a class was made by a class statement rather than in C."""
    return bool(_type_flags(cls) & _HEAP_TYPE)


def is_slot(value: object) -> bool:
    """Whether a class attribute is a member slot, which reads without running code."""
    return type(value) is MemberDescriptorType
