"""Live objects of the namespace, read as values of the analysis.

Nothing here runs users' code: objects are told apart by their real type
(:func:`type`, never ``__class__``) and read through :mod:`executor.names`.
"""

from __future__ import annotations

import functools
import socket
import sys
from argparse import Namespace
from collections import deque
from queue import SimpleQueue
from types import (
    BuiltinFunctionType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

from executor import names
from executor.blocking_table import BlockingTable, TypeRule
from executor.blocking_values import (
    BoundMethod,
    Const,
    Instance,
    LiveClass,
    LiveFunction,
    LiveInstance,
    LiveIterator,
    Mapping,
    Property,
    Ref,
    RuleMethod,
    Sequence,
    Static,
    Value,
)

__all__ = ["LiveReader"]

_SCALARS = (str, bytes, int, float, bool, type(None))
_MOST_ITEMS = 64  # of a live list or dict: what follows is of the same kinds in practice
_DEEPEST_ITEMS = 2
_LIBRARY_PARTS = ("site-packages", "dist-packages")
_STANDARD_LIBRARY = (sys.prefix + "/lib/python", sys.base_prefix + "/lib/python", "<frozen ")


def is_users_code(filename: str) -> bool:
    """Whether a code object's file is neither the standard library's nor an installed package's."""
    if filename.startswith(_STANDARD_LIBRARY):
        return False
    return not any(part in filename for part in _LIBRARY_PARTS)


class LiveReader:
    """Turns live objects into values, with one table."""

    def __init__(self, table: BlockingTable) -> None:
        self.table = table
        self._depth = 0

    def read(self, live: object) -> Value | None:
        """What a live object is to the analysis; None when that is nothing."""
        kind = type(live)
        if kind in _SCALARS:
            return Const(live)
        reader = _READERS.get(kind)
        if reader is not None:
            value: Value | None = reader(self, live)
            return value
        for base in names.class_bases(kind):
            if base is type:
                return self._class(live)  # type: ignore[arg-type]
            if base is ModuleType:
                return self._module(live)  # type: ignore[arg-type]
        return self._instance(live)

    def rule_of(self, cls: type) -> TypeRule | None:
        """The table's entry for a class or the nearest of its bases."""
        for base in names.class_bases(cls):
            rule = self.table.types.get(self.table.canonical(names.class_path(base)))
            if rule is not None:
                return rule
        return None

    def class_member(self, cls: type, name: str) -> tuple[bool, Any]:
        """A class attribute, unless the table describes the class that holds it.

        Returns:
            Whether a class of the user's own holds it, and the attribute.
        """
        for base in names.class_bases(cls):
            if base is object or self.table.canonical(names.class_path(base)) in self.table.types:
                return False, names.MISSING
            found = names.own_attribute(base, name)
            if found is not names.MISSING:
                return True, found
        return False, names.MISSING

    def stored(self, attribute: object) -> Value | None:
        """A class attribute as it is stored: descriptors keep what they wrap."""
        kind = type(attribute)
        if kind is staticmethod:
            return Static(self.read(attribute.__func__), gets_class=False)  # type: ignore[attr-defined]
        if kind is classmethod:
            return Static(self.read(attribute.__func__), gets_class=True)  # type: ignore[attr-defined]
        if kind is property:
            setter = attribute.fset  # type: ignore[attr-defined]
            return Property(self.read(attribute.fget), self.read(setter))  # type: ignore[attr-defined]
        if kind is functools.cached_property:
            inner = names.instance_attribute(attribute, "func")
            return Property(self.read(inner))
        return self.read(attribute)

    # ------------------------------------------------------------- by kind

    def _module(self, module: ModuleType) -> Value | None:
        path = names.module_name(module)
        return Ref(self.table.canonical(path)) if path else None

    def _function(self, function: FunctionType) -> Value | None:
        path = self.table.canonical(names.function_path(function))
        if path in self.table.functions:
            return Ref(path)
        wrapped = function.__dict__.get("__wrapped__")
        if is_users_code(function.__code__.co_filename):
            return LiveFunction(function)
        if type(wrapped) is FunctionType:  # a library's decorator around a user's function
            return self._wrapper(function, wrapped)
        return Ref(path)

    def _wrapper(self, function: FunctionType, wrapped: FunctionType) -> Value | None:
        inner = self._function(wrapped)
        if function.__code__.co_filename.endswith("contextlib.py") and inner is not None:
            return BoundMethod(Ref("contextlib.contextmanager.helper"), inner)
        return inner

    def _builtin(self, function: BuiltinFunctionType) -> Value | None:
        owner = function.__self__
        if owner is None or type(owner) is ModuleType:
            return Ref(self.table.canonical(names.builtin_path(function)))
        name = function.__name__
        value = self.read(owner)
        if isinstance(value, Instance) and type(name) is str:
            method = value.rule.methods.get(name) or value.rule.other
            return None if method is None else RuleMethod(value, name, method)
        if type(owner) is type or isinstance(value, Ref):
            path = value.path if isinstance(value, Ref) else ""
            return Ref(f"{path}.{name}")
        return None

    def _method(self, method: MethodType) -> Value | None:
        owner, function = self.read(method.__self__), self.read(method.__func__)
        if isinstance(owner, LiveInstance) and owner.rule_instance is not None:
            if not isinstance(function, LiveFunction):
                owner = owner.rule_instance
        if isinstance(owner, Instance):
            name = names.callable_name(method.__func__)
            rule = owner.rule.methods.get(name) or owner.rule.other
            return None if rule is None else RuleMethod(owner, name, rule)
        if isinstance(owner, Ref) and isinstance(function, Ref):
            return Ref(f"{owner.path}.{function.path.rpartition('.')[2]}")
        if function is None or owner is None:
            return function
        return BoundMethod(function, owner)

    def _method_descriptor(self, method: MethodDescriptorType) -> Value | None:
        path = self.table.canonical(names.class_path(method.__objclass__))
        return Ref(f"{path}.{method.__name__}")

    def _class(self, cls: type) -> Value | None:
        path = self.table.canonical(names.class_path(cls))
        if path in self.table.types or path in self.table.functions:
            return Ref(path)
        if names.is_heap_class(cls) and (self.rule_of(cls) or self._is_users_class(cls)):
            return LiveClass(cls)
        return Ref(path) if path else None

    def _is_users_class(self, cls: type) -> bool:
        name = names.class_module(cls)
        module = sys.modules.get(name)
        if module is None or name == "__main__" or cls is SimpleNamespace or cls is Namespace:
            return True
        if name in sys.builtin_module_names:
            return False
        filename = names.module_attribute(module, "__file__")
        return type(filename) is not str or is_users_code(filename)

    def _instance(self, live: object) -> Value | None:
        cls = type(live)
        path = self.table.canonical(names.class_path(cls))
        rule = self.table.types.get(path)
        if rule is not None:
            return self._table_instance(live, rule)
        rule = self.rule_of(cls)
        inherited = None if rule is None else self._table_instance(live, rule)
        if not (names.is_heap_class(cls) or cls is SimpleNamespace) or not self._is_users_class(
            cls
        ):
            return inherited
        return LiveInstance(live, inherited)

    def _table_instance(self, live: object, rule: TypeRule) -> Instance:
        if rule.is_file and (live is sys.stdout or live is sys.stderr):
            return Instance(self.table.types["io.Standard"])
        if rule.path == "io.IOBase" and self._wraps_memory(live):
            return Instance(self.table.types["io.BytesIO"])
        instance = Instance(rule)
        if rule.path == "socket.socket" and _is_real_socket(type(live)):
            instance.never_waits = _socket_timeout(live) == 0
        if rule.path == "queue.Queue":
            size = names.instance_attribute(live, "maxsize")
            instance.unbounded = type(size) is int and size <= 0
        return instance

    def _wraps_memory(self, live: object) -> bool:
        for _ in range(3):  # text over buffer over raw, no deeper in practice
            descriptor = names.class_attribute(type(live), "buffer")
            if descriptor is names.MISSING:
                descriptor = names.class_attribute(type(live), "raw")
            if type(descriptor) is not GetSetDescriptorType and not names.is_slot(descriptor):
                return False
            try:
                live = descriptor.__get__(live, type(live))
            except (AttributeError, ValueError):  # detached
                return False
            rule = self.rule_of(type(live))
            if rule is not None and rule.in_memory:
                return True
        return False

    def _partial(self, partial: functools.partial[Any]) -> Value | None:
        function = self.read(_partial_function(partial, functools.partial))
        bound = _partial_args(partial, functools.partial)
        keywords = _partial_keywords(partial, functools.partial)
        helper = Ref("functools.partial.helper")
        given = Sequence([function, *map(self.read, bound)])
        named = Mapping({k: self.read(v) for k, v in keywords.items() if type(k) is str})
        return BoundMethod(helper, Sequence([given, named]))

    def _cached(self, function: object) -> Value | None:
        wrapped = names.wrapped_by(function)
        return None if wrapped is names.MISSING else self.read(wrapped)

    def _items(self, items: Any) -> Value:
        taken: list[Value | None] = []
        for item in items:
            if len(taken) == _MOST_ITEMS:
                return Sequence(taken, complete=False)
            taken.append(self._item(item))
        return Sequence(taken)

    def _item(self, item: object) -> Value | None:
        """An item of a container; containers in containers to a depth, for they may be cyclic."""
        if type(item) not in _CONTAINERS:
            return self.read(item)
        if self._depth >= _DEEPEST_ITEMS:
            return None
        self._depth += 1
        try:
            return self.read(item)
        finally:
            self._depth -= 1

    def _dict(self, live: dict[Any, Any]) -> Value:
        entries = {}
        for index, (key, item) in enumerate(live.items()):
            if index == _MOST_ITEMS:
                break
            if type(key) in (str, int):
                entries[key] = self._item(item)
        return Mapping(entries)


def _is_real_socket(cls: type) -> bool:
    return any(base is socket.SocketType for base in names.class_bases(cls))


_socket_timeout: Any = socket.SocketType.gettimeout
_partial_function = functools.partial.__dict__["func"].__get__
_partial_args = functools.partial.__dict__["args"].__get__
_partial_keywords = functools.partial.__dict__["keywords"].__get__

_CONTAINERS = (list, tuple, set, frozenset, deque, dict)

_READERS: dict[type, Any] = {
    ModuleType: LiveReader._module,
    FunctionType: LiveReader._function,
    BuiltinFunctionType: LiveReader._builtin,
    MethodType: LiveReader._method,
    MethodDescriptorType: LiveReader._method_descriptor,
    type: LiveReader._class,
    functools.partial: LiveReader._partial,
    GeneratorType: lambda _, iterator: LiveIterator(iterator),
    map: lambda _, iterator: LiveIterator(iterator),
    type(functools.lru_cache(len)): LiveReader._cached,
    type(SimpleQueue().get): LiveReader._builtin,  # methods of newer C classes
    dict: LiveReader._dict,
} | dict.fromkeys((list, tuple, set, frozenset, deque), LiveReader._items)
