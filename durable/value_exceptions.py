"""Exceptions taken apart into class, arguments and attributes, and put together again.

The default pickle of an exception calls its class with ``args``, which fails for
every class whose ``__init__`` takes something else. Here the user's ``__new__`` and
``__init__`` are not called: the builtin base makes the object, the rest is state.
"""

from __future__ import annotations

import types
from typing import Any

__all__ = [
    "exception_parts",
    "has_own_reduction",
    "rebuild_exception",
    "reduce_exception",
    "restore_attributes",
]

_HEAP_TYPE_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE, Include/object.h
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)

# Links, carried apart; notes are text of the record; AttributeError.obj is whatever
# object lacked the attribute, alive and of any size.
_LEFT_OUT = frozenset(
    {
        "args",
        "obj",
        "exceptions",
        "__dict__",
        "__weakref__",
        "__notes__",
        "__cause__",
        "__context__",
        "__suppress_context__",
        "__traceback__",
    }
)
_REDUCTIONS = (
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
)


def has_own_reduction(cls: type) -> bool:
    """Tell whether an exception class says itself how it is pickled."""
    return any(name in vars(base) for base in cls.__mro__ if _is_heap(base) for name in _REDUCTIONS)


def exception_parts(exc: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments and attributes :func:`rebuild_exception` needs.

    Members of a group are left out of both; its arguments are the message alone.
    """
    cls = type(exc)
    base = _builtin_base(cls)
    if issubclass(base, BaseExceptionGroup):
        return (BaseExceptionGroup.message.__get__(exc),), _own_state(exc, None)
    args = base.__reduce__(exc)[1]
    if not isinstance(args, tuple):
        args = exc.args
    return args, _own_state(exc, _make(cls, base, args))


def rebuild_exception(
    cls: type[BaseException],
    args: tuple[Any, ...],
    members: list[BaseException] | None = None,
) -> BaseException:
    """Make an exception of ``cls`` without calling its ``__new__`` or ``__init__``.

    Args:
        cls: The class.
        args: Arguments of its builtin base; of a group, the message.
        members: Exceptions of a group.
    """
    base = _builtin_base(cls)
    if issubclass(base, BaseExceptionGroup):
        return _make(cls, base, (*args, list(members or [])))
    return _make(cls, base, args)


def restore_attributes(exc: BaseException, attributes: dict[str, Any]) -> None:
    """Set what :func:`exception_parts` read, past any ``__setattr__`` of the class."""
    for name, value in attributes.items():
        object.__setattr__(exc, name, value)


def reduce_exception(exc: BaseException) -> Any:
    """Return a reduction for pickle, ``None`` where the class has one of its own."""
    cls = type(exc)
    if has_own_reduction(cls):
        return None
    args, attributes = exception_parts(exc)
    members = list(exc.exceptions) if isinstance(exc, BaseExceptionGroup) else None
    state = (
        attributes,
        list(getattr(exc, "__notes__", ())),
        exc.__cause__,
        exc.__suppress_context__,
    )
    return rebuild_exception, (cls, args, members), state, None, None, _restore_pickled


def _restore_pickled(exc: BaseException, state: Any) -> None:
    attributes, notes, cause, suppress = state
    restore_attributes(exc, attributes)
    for note in notes:
        BaseException.add_note(exc, note)
    exc.__cause__ = cause
    exc.__suppress_context__ = suppress


def _is_heap(cls: type) -> bool:
    return bool(cls.__flags__ & _HEAP_TYPE_FLAG)


def _builtin_base(cls: type) -> type[BaseException]:
    for base in cls.__mro__:
        if (
            base.__module__ == "builtins"
            and issubclass(base, BaseException)
            and not (_is_heap(base) and base.__name__ != "ExceptionGroup")
        ):
            return base
    return BaseException


def _make(cls: type, base: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    maker: Any = base.__new__
    exc: BaseException = maker(cls, *args)
    if not issubclass(base, BaseExceptionGroup):
        base.__init__(exc, *args)
    return exc


def _own_state(exc: BaseException, fresh: BaseException | None) -> dict[str, Any]:
    """Return attributes a fresh exception of the same arguments would not have."""
    state: dict[str, Any] = {}
    for base in reversed(type(exc).__mro__[:-1]):  # what object has is no state
        for name, descriptor in vars(base).items():
            if type(descriptor) not in _DESCRIPTORS or name in _LEFT_OUT:
                continue
            if name == "message" and base is BaseExceptionGroup:
                continue  # read-only, and an argument
            value = _read(descriptor, exc)
            if value is not _MISSING and (fresh is None or _read(descriptor, fresh) is not value):
                state[name] = value
    own = BaseException.__dict__["__dict__"].__get__(exc)
    state.update((name, value) for name, value in own.items() if name not in _LEFT_OUT)
    return state


_MISSING = object()


def _read(descriptor: Any, exc: BaseException) -> Any:
    try:
        return descriptor.__get__(exc)
    except AttributeError:
        return _MISSING
