"""Instances of ordinary Python classes as their attributes, and back.

Reading sets the attributes past ``__init__``, ``__post_init__`` and ``__setattr__``,
as pickle does: frozen and slotted dataclasses, fields with ``init=False`` and cached
properties come back as they were, and no code of the class runs.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Mapping
from typing import Any

from durable.value_classes import HEAP_TYPE_FLAG

__all__ = ["is_plain_object", "object_slots", "read_attributes", "rebuild_object"]


def is_plain_object(cls: type) -> bool:
    """Tell whether attributes are all there is to an instance of ``cls``.

    False for classes that inherit from a builtin other than ``object`` and for those
    that say themselves how they are pickled.
    """
    own: Any = cls  # methods are compared by identity, whatever their types
    return (
        all(base is object or base.__flags__ & HEAP_TYPE_FLAG for base in cls.__mro__)
        and not _has_hidden_state(cls)
        and own.__new__ is object.__new__
        and own.__reduce__ is object.__reduce__
        and own.__reduce_ex__ is object.__reduce_ex__
        and (own.__getstate__ is object.__getstate__ or _of_dataclasses(own.__getstate__))
        and _of_dataclasses(getattr(cls, "__setstate__", None))
        and not hasattr(cls, "__getnewargs__")
        and not hasattr(cls, "__getnewargs_ex__")
    )


def _has_hidden_state(cls: type) -> bool:
    """Tell whether instances have room for more than attributes, as those of C classes do.

    The same test as CPython's own default pickling (object_getstate_default).
    """
    pointers = len(object_slots(cls)) + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    return cls.__itemsize__ != 0 or cls.__basicsize__ > (
        object.__basicsize__ + pointers * struct.calcsize("P")
    )


def object_slots(cls: type) -> dict[str, Any]:
    """Return the slot descriptors of ``cls`` by name, bases first."""
    return {
        name: member
        for base in reversed(cls.__mro__)
        for name, member in vars(base).items()
        if type(member) is types.MemberDescriptorType and base.__flags__ & HEAP_TYPE_FLAG
    }


def read_attributes(value: Any, slots: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the attributes an instance has now, slots first."""
    attributes: dict[Any, Any] = {}
    for name, member in slots.items():
        try:
            attributes[name] = member.__get__(value)
        except AttributeError:
            continue  # never set, or deleted
    own = _own_dict(value)
    if own:
        attributes.update(own)
    return attributes


def rebuild_object(cls: type, attributes: Mapping[str, Any]) -> Any:
    """Make an instance with these attributes.

    Raises:
        TypeError: ``cls`` is not, or no longer, an ordinary class with room for them.
    """
    if not is_plain_object(cls):
        raise TypeError(f"{cls.__qualname__} is no longer an ordinary class")
    value: Any = object.__new__(cls)
    slots = object_slots(cls)
    own = _own_dict(value)
    for name, attribute in attributes.items():
        if name in slots:
            slots[name].__set__(value, attribute)
        elif own is not None:
            own[name] = attribute
        else:
            raise TypeError(f"{cls.__qualname__} has no slot {name!r}")
    return value


def _own_dict(value: Any) -> dict[Any, Any] | None:
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return own if type(own) is dict else None


def _of_dataclasses(function: Any) -> bool:
    return function is None or getattr(function, "__module__", None) == "dataclasses"
