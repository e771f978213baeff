"""A short digest of arguments, the same in every process and for every hash seed.

Kept with each step so that replay notices a program that now passes something else.
It errs on the side of "the same": what has no value of its own counts by its type's
name, because memory addresses, caches and connections differ between runs.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import struct
from collections import OrderedDict, deque
from collections.abc import Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType
from typing import Any

import msgspec

from durable.value_classes import is_class, qualified_name
from durable.value_scalars import SCALAR_WRITERS, TAG

__all__ = ["digest_of"]

_DIGEST_SIZE_BYTES = 16
# The same on every stack: below it only types count, wherever the caller stands.
_MAX_DEPTH = 64


def digest_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return the digest of a call's arguments as 32 hex digits; never raises."""
    walk = _Walk()
    pieces = [walk.piece(arg) for arg in args]
    named = sorted((str(name), value) for name, value in kwargs.items())
    pieces.extend(b"=%b" % name.encode("utf-8", "surrogatepass") for name, _ in named)
    pieces.extend(walk.piece(value) for _, value in named)
    return _hash(b"call", pieces).hex()


class _Walk:
    def __init__(self) -> None:
        self._depth = 0
        self._known: dict[int, bytes] = {}
        self._open: set[int] = set()
        self._kept: list[Any] = []

    def piece(self, value: Any) -> bytes:
        """Return bytes that stand for ``value``; different kinds never collide."""
        try:
            return self._piece(value)
        except Exception:  # noqa: BLE001 - arguments are users' objects: any method may raise
            return _opaque(type(value))

    def _piece(self, value: Any) -> bytes:
        cls = type(value)
        if cls is str:
            return _scalar(b"s", value.encode("utf-8", "surrogatepass"))
        if value is None or cls is bool:
            return repr(value).encode()
        if cls is int:
            return _scalar(b"i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
        if cls is float:
            return b"f" + (b"nan" if math.isnan(value) else struct.pack(">d", value))
        if cls is bytes or cls is bytearray:
            return _scalar(b"b", bytes(value))
        writer = SCALAR_WRITERS.get(cls)
        if writer is not None:
            node = writer(value)
            if node is None:
                return _scalar(b"z", f"{cls.__qualname__} {value}".encode())
            return _scalar(b"t" + node[TAG].encode(), msgspec.json.encode(node))
        return self._container(value, cls)

    def _container(self, value: Any, cls: type) -> bytes:
        key = id(value)
        known = self._known.get(key)
        if known is not None:
            return known
        if key in self._open or self._depth > _MAX_DEPTH:
            return _opaque(cls)
        self._open.add(key)
        self._depth += 1
        try:
            found = self._content(value, cls)
        finally:
            self._depth -= 1
            self._open.discard(key)
        self._known[key] = found
        self._kept.append(value)
        return found

    def _content(self, value: Any, cls: type) -> bytes:
        if cls in _SEQUENCES:
            return _hash(cls.__name__.encode(), [self.piece(v) for v in value])
        if cls is set or cls is frozenset:
            return _hash(cls.__name__.encode(), sorted(self.piece(v) for v in value))
        if is_class(value) or cls is FunctionType or cls is BuiltinFunctionType:
            return _hash(b"name", [qualified_name(value)[1].encode("utf-8", "replace")])
        if cls is MethodType:
            return _hash(b"method", [self.piece(value.__func__), self.piece(value.__self__)])
        if cls is functools.partial:
            inner = [value.func, value.args, value.keywords]
            return _hash(b"partial", [self.piece(v) for v in inner])
        if issubclass(cls, Enum):
            return self._tagged(cls, [self.piece(value._name_), self.piece(value._value_)])
        if issubclass(cls, BaseException):
            return self._tagged(cls, [self.piece(v) for v in value.args])
        return self._structured(value, cls)

    def _structured(self, value: Any, cls: type) -> bytes:
        if dataclasses.is_dataclass(cls):
            # Fields left out of comparison are caches and clocks, not values.
            fields = [f.name for f in dataclasses.fields(cls) if f.compare]
            return self._attributes(value, cls, fields)
        if issubclass(cls, msgspec.Struct):
            return self._attributes(value, cls, list(cls.__struct_fields__))
        model_fields = getattr(cls, "model_fields", None)
        if isinstance(model_fields, dict):
            return self._attributes(value, cls, list(model_fields))
        if issubclass(cls, Mapping) or issubclass(cls, MappingProxyType):
            return self._tagged(cls, self._pairs(value, cls))
        if issubclass(cls, tuple | list | deque):
            return self._tagged(cls, [self.piece(v) for v in value])
        if issubclass(cls, set | frozenset):
            return self._tagged(cls, sorted(self.piece(v) for v in value))
        for base, plain in _SCALAR_BASES.items():
            if issubclass(cls, base):
                return self._tagged(cls, [self.piece(plain(value))])
        return _opaque(cls)

    def _pairs(self, value: Any, cls: type) -> list[bytes]:
        pairs = [self.piece(k) + b":" + self.piece(v) for k, v in value.items()]
        return pairs if issubclass(cls, OrderedDict) else sorted(pairs)

    def _attributes(self, value: Any, cls: type, names: list[str]) -> bytes:
        pieces = [b"%b=%b" % (n.encode(), self.piece(getattr(value, n, None))) for n in names]
        return self._tagged(cls, pieces)

    def _tagged(self, cls: type, pieces: list[bytes]) -> bytes:
        return _hash(b"o" + cls.__qualname__.encode("utf-8", "replace"), pieces)


_SEQUENCES = frozenset({list, tuple})
_SCALAR_BASES: dict[type, Any] = {
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
    bytes: bytes.__bytes__,
}


def _opaque(cls: type) -> bytes:
    try:
        name = cls.__qualname__
        return _hash(b"type", [name.encode("utf-8", "replace")])
    except Exception:  # noqa: BLE001 - a metaclass may raise anything
        return b"?"


def _scalar(kind: bytes, content: bytes) -> bytes:
    if len(content) > _DIGEST_SIZE_BYTES:
        return _hash(kind, [content])
    return b"%b%d:%b" % (kind, len(content), content)


def _hash(kind: bytes, pieces: list[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE_BYTES)
    digest.update(b"%d %b %d\n" % (len(kind), kind, len(pieces)))
    for piece in pieces:
        digest.update(b"%d:" % len(piece))
        digest.update(piece)
    return digest.digest()
