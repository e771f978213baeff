"""Readable JSON builtins back to Python values: the other half of the writer."""

from __future__ import annotations

import base64
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MappingProxyType
from typing import Any, ClassVar

import msgspec

from durable.errors import DurableError, ForeignPayloadError, UndecodableValueError
from durable.value_classes import is_class
from durable.value_objects import rebuild_object
from durable.value_scalars import SCALAR_READERS, TAG

__all__ = ["ValueReader"]

type _Reader = Callable[[Any, dict[str, Any]], Any]

_UNFINISHED = object()


class ValueReader:
    """Reads one value.

    Args:
        resolve: Definition of a label; ``None`` if the value is not signed, and then
            a label, a part or an object of some class is refused.
        parts: Gives the unpickled parts on first need.
    """

    def __init__(
        self,
        resolve: Callable[[str], Any] | None = None,
        parts: Callable[[], list[Any]] | None = None,
    ) -> None:
        self._resolve = resolve
        self._load_parts = parts
        self._parts: list[Any] | None = None
        self._values: list[Any] = [None]
        self._inside_sets = 0

    def read(self, node: Any) -> Any:
        """Return the value that ``node`` is the form of.

        Raises:
            ForeignPayloadError: No writer of ours wrote it, or it names a class and
                is not signed.
            UndecodableValueError: A class or module it needs is gone or has changed.
        """
        cls = type(node)
        if cls is list:
            return self._numbered(lambda r, n: [r.read(item) for item in n], node)
        if cls is not dict:
            return node
        if TAG not in node:
            return self._numbered(lambda r, n: {k: r.read(v) for k, v in n.items()}, node)
        tag = node[TAG]
        try:
            scalar = SCALAR_READERS.get(tag)
            if scalar is not None:
                return scalar(node)
            if tag == "same":
                return self._again(node["as"])
            container = self._CONTAINERS.get(tag)
            if container is not None:
                return self._numbered(container, node)
            signed = self._signed_reader(tag)
            if tag in self._SIGNED:
                return signed(self, node)
            return self._numbered(signed, node)
        except (DurableError, RecursionError):
            raise
        except Exception as exc:
            error = ForeignPayloadError if self._resolve is None else UndecodableValueError
            raise error(
                f"a stored value of the form {tag!r} cannot be rebuilt: {type(exc).__name__}: {exc}"
            ) from exc

    def _again(self, number: Any) -> Any:
        if type(number) is not int or not 0 < number < len(self._values):
            raise ForeignPayloadError("a stored value refers to a part of itself it has not")
        value = self._values[number]
        if value is _UNFINISHED:
            raise ForeignPayloadError("a stored value refers to a part that contains the reference")
        return value

    def _signed_reader(self, tag: Any) -> _Reader:
        found = self._SIGNED.get(tag) or self._SIGNED_NUMBERED.get(tag)
        if found is None:
            raise ForeignPayloadError(
                f"a stored value has the unknown form {str(tag)[:60]!r}; it was written by a newer "
                f"version, or not by this program"
            )
        if self._resolve is None:
            raise ForeignPayloadError(
                f"a stored value has the form {tag!r}, which names a class, and is not "
                f"signed; only values this installation signed are rebuilt"
            )
        return found

    def _numbered(self, read: _Reader, node: Any) -> Any:
        if self._inside_sets:
            return read(self, node)
        number = len(self._values)
        self._values.append(_UNFINISHED)
        value = self._values[number] = read(self, node)
        return value

    def _pairs(self, node: dict[str, Any]) -> list[tuple[Any, Any]]:
        return [(self.read(k), self.read(v)) for k, v in node["items"]]

    def _items(self, node: dict[str, Any]) -> list[Any]:
        return [self.read(item) for item in node["items"]]

    def _members(self, node: dict[str, Any]) -> list[Any]:
        self._inside_sets += 1
        try:
            return self._items(node)
        finally:
            self._inside_sets -= 1

    def _definition(self, node: dict[str, Any], key: str) -> Any:
        if self._resolve is None:
            raise ForeignPayloadError("an unsigned value names a class")
        return self._resolve(node[key])

    def _class(self, node: dict[str, Any]) -> type:
        found = self._definition(node, "name" if node[TAG] == "class" else "class")
        if not is_class(found):
            raise TypeError(f"{node.get('class')!r} is not a class")
        return found  # type: ignore[no-any-return]

    def _function(self, node: dict[str, Any]) -> Any:
        found = self._definition(node, "name")
        if not isinstance(found, FunctionType | BuiltinFunctionType):
            raise TypeError(f"{node['name']!r} is not a function")
        return found

    def _fields(self, node: dict[str, Any], key: str) -> dict[str, Any]:
        return {name: self.read(value) for name, value in node[key].items()}

    def _pickled(self, node: dict[str, Any]) -> Any:
        if self._parts is None:
            if self._load_parts is None:
                raise ForeignPayloadError("an unsigned value has a pickle")
            self._parts = self._load_parts()
        return self._parts[node["part"]]

    def _enum(self, node: dict[str, Any]) -> Any:
        cls: Any = self._class(node)
        if not issubclass(cls, Enum):
            raise TypeError(f"{node['class']} is no longer an Enum")
        return cls.__members__[node["name"]] if "name" in node else cls(node["value"])

    def _object(self, node: dict[str, Any]) -> Any:
        return rebuild_object(self._class(node), self._fields(node, "attributes"))

    def _namedtuple(self, node: dict[str, Any]) -> Any:
        cls: Any = self._class(node)
        fields = self._fields(node, "fields")
        if not issubclass(cls, tuple) or set(getattr(cls, "_fields", ())) != set(fields):
            raise TypeError(f"{node['class']} no longer has the fields {', '.join(fields)}")
        return tuple.__new__(cls, [fields[name] for name in cls._fields])

    def _struct(self, node: dict[str, Any]) -> Any:
        cls = self._class(node)
        if not issubclass(cls, msgspec.Struct):
            raise TypeError(f"{node['class']} is no longer a msgspec.Struct")
        return cls(**self._fields(node, "fields"))

    def _model(self, node: dict[str, Any]) -> Any:
        cls: Any = self._class(node)
        value = cls.__new__(cls)
        value.__setstate__(self.read(node["state"]))
        return value

    def _defaultdict(self, node: dict[str, Any]) -> Any:
        factory = self.read(node["factory"])
        return defaultdict(factory, self._pairs(node))

    def _counter(self, node: dict[str, Any]) -> Any:
        return Counter(dict(self._pairs(node)))

    def _slice(self, node: dict[str, Any]) -> Any:
        return slice(*(self.read(bound) for bound in node["bounds"]))

    def _dict(self, node: dict[str, Any]) -> Any:
        return dict(self._pairs(node))

    def _tuple(self, node: dict[str, Any]) -> Any:
        return tuple(self._items(node))

    def _set(self, node: dict[str, Any]) -> Any:
        return set(self._members(node))

    def _frozenset(self, node: dict[str, Any]) -> Any:
        return frozenset(self._members(node))

    def _bytearray(self, node: dict[str, Any]) -> Any:
        return bytearray(base64.b64decode(node["base64"], validate=True))

    def _deque(self, node: dict[str, Any]) -> Any:
        return deque(self._items(node), node["maxlen"])

    def _ordered_dict(self, node: dict[str, Any]) -> Any:
        return OrderedDict(self._pairs(node))

    def _mapping_proxy(self, node: dict[str, Any]) -> Any:
        return MappingProxyType(dict(self._pairs(node)))

    _CONTAINERS: ClassVar[dict[str, _Reader]] = {
        "dict": _dict,
        "tuple": _tuple,
        "set": _set,
        "frozenset": _frozenset,
        "bytearray": _bytearray,
        "slice": _slice,
        "deque": _deque,
        "ordered_dict": _ordered_dict,
        "counter": _counter,
        "defaultdict": _defaultdict,
        "mapping_proxy": _mapping_proxy,
    }
    _SIGNED: ClassVar[dict[str, _Reader]] = {
        "class": _class,
        "function": _function,
        "enum": _enum,
        "pickled": _pickled,
    }
    _SIGNED_NUMBERED: ClassVar[dict[str, _Reader]] = {
        "object": _object,
        "namedtuple": _namedtuple,
        "struct": _struct,
        "model": _model,
    }
