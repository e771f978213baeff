"""Python values to readable JSON builtins, in one walk.

Containers are numbered in reading order; where an object occurs again, a reference
to its number is written, so that what was shared is shared after reading and the
walk stays linear. Circles, and sharing across the border of a pickle, have no
readable form: :class:`WholePickleNeededError` asks for the value as one pickle.
"""

from __future__ import annotations

import copyreg
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MappingProxyType
from typing import Any, ClassVar

import msgspec

from durable.value_classes import (
    HEAP_TYPE_FLAG,
    find_live,
    is_class,
    is_importable,
    qualified_name,
    type_name,
)
from durable.value_objects import is_plain_object, object_slots, read_attributes
from durable.value_pickles import RefusedError, is_live
from durable.value_scalars import SCALAR_WRITERS, TAG, is_json_text

__all__ = ["Definitions", "ValueWriter", "WholePickleNeededError"]

# Bounds the recursion of writer and reader alike, well inside CPython's 1,000 frames.
# Plain JSON takes another road, without recursion.
_MAX_DEPTH = 100

_IMMUTABLE = frozenset({tuple, frozenset, slice})


class WholePickleNeededError(Exception):
    """The value has a circle, or shares objects in a way that JSON cannot show."""


class Definitions:
    """Names of the source-defined classes and functions of one record.

    Attributes:
        by_label: Label -> definition, in the order met.
        by_value_only: Labels that no live namespace can answer.
    """

    def __init__(self, namespace: Mapping[str, Any] | None) -> None:
        self.namespace = namespace
        self.by_label: dict[str, Any] = {}
        self.by_value_only: set[str] = set()
        self._labels: dict[int, str | None] = {}

    def claim(self, definition: Any) -> str | None:
        """Return the label of a source definition, ``None`` for anything else."""
        key = id(definition)
        if key not in self._labels:
            self._labels[key] = self._name(definition)
        return self._labels[key]

    def _name(self, definition: Any) -> str | None:
        if is_importable(definition, self.namespace):
            return None
        if is_class(definition) and not definition.__flags__ & HEAP_TYPE_FLAG:
            return None
        module, name = qualified_name(definition)
        label = f"{module}:{name}"
        live = find_live(module, name, self.namespace, (type, FunctionType)) is definition
        if not is_class(definition):
            if not live or definition.__closure__ or label in self.by_label:
                return None  # cloudpickle carries it with what it closes over
        elif not live:
            addressable = self.namespace is None and "<locals>" not in name
            if not addressable or label in self.by_label:
                label = f"{label}#{len(self.by_label) + 1}"
                self.by_value_only.add(label)
        elif label in self.by_label:
            return None
        self.by_label[label] = definition
        return label


class ValueWriter:
    """Writes one value.

    Attributes:
        definitions: Source definitions the value names.
        parts: Objects without a readable form, for one common pickle.
        part_paths: Where each part is inside the value.
        path: Where the walk is now, as ``(kind, key)`` steps.
        names_classes: Whether the form must be signed because it names a class.
        culprit: The value met last, for the error message.
    """

    def __init__(self, namespace: Mapping[str, Any] | None) -> None:
        self.namespace = namespace
        self.definitions = Definitions(namespace)
        self.parts: list[Any] = []
        self.part_paths: list[tuple[Any, ...]] = []
        self.path: list[tuple[str, Any]] = []
        self.names_classes = False
        self.culprit: Any = None
        self._numbers: dict[int, int] = {}
        self._count = 0
        self._kept: list[Any] = []
        self._open: set[int] = set()
        self._part_numbers: dict[int, int] = {}
        self._inside_sets = 0
        self._unnumbered: set[int] = set()

    def write(self, value: Any) -> Any:
        """Return the JSON form of ``value``."""
        if value is None or value is True or value is False:
            return value
        self.culprit = value
        cls = type(value)
        scalar = SCALAR_WRITERS.get(cls)
        if scalar is not None:
            written = scalar(value)
            return self.write_part(value) if written is None else written
        container = self._CONTAINERS.get(cls)
        if container is not None:
            return self._write_shared(value, container, mutable=cls not in _IMMUTABLE)
        if cls is FunctionType or cls is BuiltinFunctionType or is_class(value):
            return self._write_definition(value)
        return self._write_instance(value, cls)

    def write_part(self, value: Any) -> dict[str, Any]:
        """Put ``value`` among the parts of the pickle and return its place-holder."""
        number = self._part_numbers.get(id(value))
        if number is None:
            number = self._part_numbers[id(value)] = len(self.parts)
            self.parts.append(value)
            self.part_paths.append(tuple(self.path))
        node = {TAG: "pickled", "class": _printable(type_name(type(value))), "part": number}
        for base, show in _SHOWN.items():
            if issubclass(type(value), base):
                node["text"] = _printable(show(value)[:200])
        return node

    def shares(self, visited: Iterable[int]) -> bool:
        """Tell whether a pickle that met the objects of these ids shares any with the rest."""
        return any(i in self._unnumbered or i in self._numbers for i in visited)

    def _child(self, kind: str, key: Any, value: Any) -> Any:
        self.path.append((kind, key))
        node = self.write(value)
        self.path.pop()
        return node

    def _write_shared(
        self, value: Any, content: Callable[[Any, Any], Any], *, mutable: bool
    ) -> Any:
        if len(self.path) > _MAX_DEPTH:
            raise WholePickleNeededError
        key = id(value)
        known = self._numbers.get(key)
        if self._inside_sets:
            # Members of a set are sorted, so they have no reading order to number.
            if mutable:
                if known is not None or key in self._unnumbered:
                    raise WholePickleNeededError
                self._unnumbered.add(key)
                self._kept.append(value)
            return content(self, value)
        if key in self._unnumbered or key in self._open:
            raise WholePickleNeededError
        if known is not None and (mutable or value):
            return {TAG: "same", "as": known}
        self._count += 1
        self._numbers[key] = self._count
        self._kept.append(value)
        self._open.add(key)
        node = content(self, value)
        self._open.discard(key)
        return node

    def _write_list(self, value: list[Any]) -> Any:
        return [self._child("item", i, v) for i, v in enumerate(value)]

    def _write_dict(self, value: dict[Any, Any]) -> Any:
        if TAG not in value and all(type(k) is str and is_json_text(k) for k in value):
            return {k: self._child("item", k, v) for k, v in value.items()}
        return {TAG: "dict", "items": self._pairs(value)}

    def _pairs(self, value: Mapping[Any, Any]) -> list[Any]:
        return [[self._child("key", k, k), self._child("item", k, v)] for k, v in value.items()]

    def _write_tuple(self, value: tuple[Any, ...]) -> Any:
        items = [self._child("item", i, v) for i, v in enumerate(value)]
        return {TAG: "tuple", "items": items}

    def _write_set(self, value: set[Any] | frozenset[Any]) -> Any:
        self._inside_sets += 1
        items = [self._child("member", None, v) for v in value]
        self._inside_sets -= 1
        return {TAG: type(value).__name__, "items": sorted(items, key=msgspec.json.encode)}

    def _write_deque(self, value: deque[Any]) -> Any:
        items = [self._child("item", i, v) for i, v in enumerate(value)]
        return {TAG: "deque", "items": items, "maxlen": value.maxlen}

    def _write_bytearray(self, value: bytearray) -> Any:
        return {TAG: "bytearray", "base64": SCALAR_WRITERS[bytes](bytes(value))["base64"]}

    def _write_slice(self, value: slice) -> Any:
        bounds = [self._child("attr", n, getattr(value, n)) for n in ("start", "stop", "step")]
        return {TAG: "slice", "bounds": bounds}

    def _write_ordered(self, value: OrderedDict[Any, Any]) -> Any:
        return {TAG: "ordered_dict", "items": self._pairs(value)}

    def _write_counter(self, value: Counter[Any]) -> Any:
        return {TAG: "counter", "items": self._pairs(value)}

    def _write_defaultdict(self, value: defaultdict[Any, Any]) -> Any:
        factory = self._child("attr", "default_factory", value.default_factory)
        return {TAG: "defaultdict", "factory": factory, "items": self._pairs(value)}

    def _write_proxy(self, value: MappingProxyType[Any, Any]) -> Any:
        return {TAG: "mapping_proxy", "items": self._pairs(value)}

    def _label(self, definition: Any) -> str:
        """Return the name of a class or function; what names one must be signed."""
        label = self.definitions.claim(definition)
        if label is None:
            if not is_importable(definition, self.namespace):
                raise RefusedError(f"the class {type_name(definition)} has no name to find it by")
            label = ":".join(qualified_name(definition))
        self.names_classes = True
        return label

    def _write_definition(self, value: Any) -> Any:
        module, name = qualified_name(value)
        if is_importable(value, self.namespace):
            if module == "builtins" and is_class(value) and "." not in name:
                return {TAG: "builtin", "name": name}
        elif type(value) is BuiltinFunctionType or not self.definitions.claim(value):
            return self.write_part(value)
        return {TAG: "class" if is_class(value) else "function", "name": self._label(value)}

    def _write_instance(self, value: Any, cls: type) -> Any:
        if is_live(cls):
            raise RefusedError(f"a live {type_name(cls)} cannot be stored")
        if issubclass(cls, BaseException):
            return self.write_part(value)
        if issubclass(cls, Enum):
            return self._write_enum(value, cls)
        content: Callable[[Any, Any], Any]
        if issubclass(cls, tuple):
            if not _is_namedtuple(value, cls):
                return self.write_part(value)
            content = self._INSTANCES["namedtuple"]
        elif issubclass(cls, msgspec.Struct):
            if not _has_default_reduction(cls, msgspec.Struct):
                return self.write_part(value)
            content = self._INSTANCES["struct"]
        elif _is_model(cls):
            content = self._INSTANCES["model"]
        elif cls not in copyreg.dispatch_table and is_plain_object(cls):
            attributes = read_attributes(value, object_slots(cls))
            if not all(type(k) is str and is_json_text(k) for k in attributes):
                return self.write_part(value)
            content = self._INSTANCES["object"]
        else:
            return self.write_part(value)
        return self._write_shared(value, content, mutable=not _is_frozen(cls))

    def _write_object(self, value: Any) -> Any:
        cls = type(value)
        label = self._label(cls)
        attributes = read_attributes(value, object_slots(cls))
        written = {k: self._child("attr", k, v) for k, v in attributes.items()}
        return {TAG: "object", "class": label, "attributes": written}

    def _write_namedtuple(self, value: Any) -> Any:
        label = self._label(type(value))
        fields = zip(type(value)._fields, tuple.__iter__(value), strict=True)
        written = {k: self._child("attr", k, v) for k, v in fields}
        return {TAG: "namedtuple", "class": label, "fields": written}

    def _write_struct(self, value: msgspec.Struct) -> Any:
        label = self._label(type(value))
        fields = {k: getattr(value, k) for k in value.__struct_fields__ if hasattr(value, k)}
        written = {k: self._child("attr", k, v) for k, v in fields.items()}
        return {TAG: "struct", "class": label, "fields": written}

    def _write_model(self, value: Any) -> Any:
        label = self._label(type(value))
        state = value.__getstate__()
        self._kept.append(state)  # a number goes with an identity: it must outlive the walk
        return {TAG: "model", "class": label, "state": self._child("attr", "state", state)}

    def _write_enum(self, value: Enum, cls: type[Enum]) -> Any:
        name, inner = value._name_, value._value_  # documented for subclasses of Enum
        node: dict[str, Any] = {TAG: "enum", "class": self._label(cls)}
        if name is not None and cls.__members__.get(name) is value and is_json_text(name):
            shown = {"value": inner} if type(inner) is int or type(inner) is str else {}
            if not all(SCALAR_WRITERS[type(v)](v) is v for v in shown.values()):
                shown = {}
            return {**node, "name": name, **shown}
        if type(inner) is int:
            return {**node, "value": inner}
        return self.write_part(value)

    _INSTANCES: ClassVar[dict[str, Callable[[Any, Any], Any]]] = {
        "namedtuple": _write_namedtuple,
        "struct": _write_struct,
        "model": _write_model,
        "object": _write_object,
    }
    _CONTAINERS: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
        list: _write_list,
        dict: _write_dict,
        tuple: _write_tuple,
        set: _write_set,
        frozenset: _write_set,
        bytearray: _write_bytearray,
        slice: _write_slice,
        deque: _write_deque,
        OrderedDict: _write_ordered,
        Counter: _write_counter,
        defaultdict: _write_defaultdict,
        MappingProxyType: _write_proxy,
    }


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# Number-like and text-like classes show what they hold beside the pickle.
_SHOWN: dict[type, Callable[[Any], str]] = {
    float: float.__repr__,
    str: str.__str__,
}


def _is_frozen(cls: type) -> bool:
    if issubclass(cls, tuple):
        return True
    if issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    params = getattr(cls, "__dataclass_params__", None)
    return bool(params is not None and params.frozen and params.eq)


def _is_namedtuple(value: Any, cls: Any) -> bool:
    fields = getattr(cls, "_fields", None)
    return (
        type(fields) is tuple
        and len(fields) == tuple.__len__(value)
        and len(set(fields)) == len(fields)
        and all(type(f) is str and is_json_text(f) for f in fields)
        and not getattr(value, "__dict__", None)
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
    )


def _has_default_reduction(cls: type, base: Any) -> bool:
    own: Any = cls  # methods are compared by identity, whatever their types
    return (
        own.__reduce__ is base.__reduce__
        and own.__reduce_ex__ is object.__reduce_ex__
        and "__getstate__" not in vars(cls)
    )


def _is_model(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    base = getattr(pydantic, "BaseModel", None)
    if base is None or not issubclass(cls, base):
        return False
    methods = [getattr(cls, name, None) for name in ("__getstate__", "__setstate__")]
    own: Any = cls
    return own.__reduce__ is object.__reduce__ and all(
        getattr(m, "__module__", "").startswith("pydantic.") for m in methods
    )
