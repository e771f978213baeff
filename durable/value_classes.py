"""Names for classes and functions in stored values, and the way back from a name.

What can be imported is named ``module:QualName``. What was defined in the source of
an execution, or in a script run as ``__main__``, is named the same way and looked up
in the live namespace when read, so that ``isinstance`` and ``except`` see the class
the running code has; its code is stored beside the value for where that fails.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

from durable.errors import UndecodableValueError

__all__ = [
    "HEAP_TYPE_FLAG",
    "MAIN_MODULES",
    "find_live",
    "import_definition",
    "is_class",
    "is_importable",
    "qualified_name",
    "type_name",
]

MAIN_MODULES = frozenset({"__main__", "__mp_main__"})

HEAP_TYPE_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE, Include/object.h


def is_class(value: object) -> bool:
    """Tell whether ``value`` is a class, whatever its ``__class__`` claims."""
    return issubclass(type(value), type)


def type_name(cls: type) -> str:
    """Return ``module.QualName`` of a class, without the module for builtins; never raises."""
    try:
        module, name = qualified_name(cls)
    except Exception:  # noqa: BLE001 - a metaclass may raise anything
        return "<unnamed class>"
    return name if module == "builtins" else f"{module}.{name}"


def qualified_name(value: Any) -> tuple[str, str]:
    """Return the module and qualified name of a class or function, ``""`` where missing."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    return (
        module if isinstance(module, str) else "",
        name if isinstance(name, str) else "",
    )


def is_importable(value: Any, namespace: Mapping[str, Any] | None) -> bool:
    """Tell whether another process finds ``value`` by importing its module."""
    module_name, name = qualified_name(value)
    if module_name in MAIN_MODULES or not module_name or not name:
        return False
    if namespace is not None and namespace.get("__name__") == module_name:
        return False
    module = sys.modules.get(module_name)
    return module is not None and _walk(vars(module), name) is value


def find_live(
    module_name: str, name: str, namespace: Mapping[str, Any] | None, kind: type | tuple[type, ...]
) -> Any:
    """Return the live class or function of that name, ``None`` if there is none.

    Looked up in ``namespace`` first, then, for a script run directly, in ``__main__``.
    """
    scopes: list[Mapping[str, Any]] = [] if namespace is None else [namespace]
    if module_name in MAIN_MODULES:
        scopes.extend(vars(sys.modules[m]) for m in ("__main__",) if m in sys.modules)
    for scope in scopes:
        found = _walk(scope, name)
        if issubclass(type(found), kind) and qualified_name(found)[1] == name:
            return found
    return None


def import_definition(module_name: str, name: str) -> Any:
    """Return what ``module_name:name`` names, importing the module; for signed names alone.

    Raises:
        UndecodableValueError: The module or the name in it is gone.
    """
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        raise UndecodableValueError(
            f"a stored value needs {module_name}:{name}, and importing {module_name!r} failed "
            f"({type(exc).__name__}: {exc}); make the module importable here"
        ) from exc
    found = _walk(vars(module), name)
    if not (is_class(found) or isinstance(found, (FunctionType, BuiltinFunctionType))):
        raise UndecodableValueError(
            f"a stored value needs {module_name}:{name}, which the module no longer has; "
            f"keep the name there while records use it"
        )
    return found


def _walk(scope: Mapping[str, Any], name: str) -> Any:
    """Follow a qualified name without running descriptors or ``__getattr__``."""
    found: Any = None
    for part in name.split("."):
        found = scope.get(part)
        if found is None:
            return None
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        scope = type.__dict__["__dict__"].__get__(found) if is_class(found) else {}
    return found
