"""Pickles of what has no readable form, with source definitions kept apart.

Built on cloudpickle, which alone can carry classes and functions that no module
has. Classes and functions defined in the source are left out of the pickle and
named in it (``persistent_id``), so that reading can put the live ones in their place.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib.util
import io
import pickle
import types
import weakref
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import cloudpickle

from durable.value_classes import is_class, type_name

__all__ = [
    "BYTECODE",
    "GraphPickler",
    "GraphUnpickler",
    "Namer",
    "RefusedError",
    "dump_definition",
    "is_live",
]

# Code objects of one CPython minor version crash another; records say whose they are.
BYTECODE = importlib.util.MAGIC_NUMBER.hex()

# Stored once per record that uses the class; a class that drags more than this along
# (a DataFrame in a global, say) is stored by name alone.
_MAX_DEFINITION_SIZE_BYTES = 1024 * 1024

# Live things whose identity is the point. cloudpickle would copy some of them
# silently: an open file as its content, a lock of asyncio as another lock.
_LIVE: tuple[type, ...] = (
    io.IOBase,
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.Barrier,
    asyncio.Queue,
    asyncio.Future,
    asyncio.AbstractEventLoop,
    asyncio.Runner,
    contextvars.Context,
    contextvars.ContextVar,
    weakref.ref,
    memoryview,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
)
_IN_MEMORY_FILES = (io.StringIO, io.BytesIO)

# Never shared mutable state, never a definition: not worth a look.
_ATOMIC = frozenset(
    {str, int, float, bool, type(None), bytes, complex, types.CodeType, types.CellType}
)


def is_live(cls: type) -> bool:
    """Tell whether instances of ``cls`` are live things that no copy can stand for."""
    return issubclass(cls, _LIVE) and cls not in _IN_MEMORY_FILES


class RefusedError(pickle.PicklingError):
    """A live thing (lock, file, task, generator) was met inside a value."""


class Namer(Protocol):
    """Gives source definitions their name in the record being written."""

    def claim(self, definition: Any) -> str | None:
        """Return the name to write instead of ``definition``, ``None`` to pickle it."""
        ...


class GraphPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickle values, naming source definitions and refusing live things.

    Attributes:
        current: The object met last: the culprit, when pickling fails.
        visited: Identity -> object of everything that can be shared, kept alive.
        has_bytecode: Whether code objects went into the pickle.
    """

    def __init__(
        self,
        file: io.BytesIO,
        namer: Namer,
        reduce_exception: Callable[[BaseException], Any] | None = None,
    ) -> None:
        super().__init__(file, protocol=5)
        self.namer = namer
        self.reduce_exception = reduce_exception
        self.current: Any = None
        self.visited: dict[int, Any] = {}
        self.has_bytecode = False

    def persistent_id(self, obj: Any) -> Any:
        """Name source definitions; note and check everything else on its way in."""
        cls = type(obj)
        if cls in _ATOMIC:
            return None
        self.current = obj
        if cls is types.FunctionType or is_class(obj):
            return self.namer.claim(obj)
        if is_live(cls):
            raise RefusedError(f"a live {type_name(cls)} cannot be stored")
        self.visited[id(obj)] = obj
        return None

    def reducer_override(self, obj: Any) -> Any:
        """Carry exceptions whole; leave the rest to cloudpickle."""
        cls = type(obj)
        if cls is types.CodeType:
            self.has_bytecode = True
        elif self.reduce_exception is not None and issubclass(cls, BaseException):
            reduced = self.reduce_exception(obj)
            if reduced is not None:
                return reduced
        return super().reducer_override(obj)


class GraphUnpickler(pickle.Unpickler):
    """Read what :class:`GraphPickler` wrote; only ever given signed bytes."""

    def __init__(self, data: bytes, resolve: Callable[[str], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self.resolve = resolve

    def persistent_load(self, pid: Any) -> Any:
        """Return the definition of that name."""
        return self.resolve(pid)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Find a global; put our class maker in the place of cloudpickle's."""
        if global_name == "_make_skeleton_class" and module_name == "cloudpickle.cloudpickle":
            return _make_class
        return super().find_class(module_name, global_name)


def _make_class(kind: Any, name: str, bases: tuple[type, ...], *rest: Any) -> Any:
    """Make a class stored by value on the bases that were found for it now.

    cloudpickle hands out the class it knows under the stored id, also where its bases
    are those of another run of the source in this process; the id is then made
    particular to the bases, which live as long as the class does.
    """
    kwargs, tracker_id, *extra = rest
    known = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)  # noqa: SLF001 - no public way
    if known is not None and known.__bases__ != tuple(bases):
        tracker_id = f"{tracker_id}:{','.join(str(id(base)) for base in bases)}"
    return cloudpickle.cloudpickle._make_skeleton_class(  # noqa: SLF001 - no public way
        kind, name, bases, kwargs, tracker_id, *extra
    )


class _BasesNamer:
    """Names the source-defined bases of one class; all else goes by value with it.

    Bases cannot depend on each other in a circle, methods' globals can: only bases
    can be left out of a definition and still always be found in some order.
    """

    def __init__(self, definition: Any, namer: Namer) -> None:
        self.bases = (
            {id(base) for base in definition.__mro__[1:]} if is_class(definition) else set()
        )
        self.namer = namer
        self.named = False

    def claim(self, definition: Any) -> str | None:
        if id(definition) not in self.bases:
            return None
        name = self.namer.claim(definition)
        self.named = self.named or name is not None
        return name


class _BoundedFile(io.BytesIO):
    """Stops a definition that drags a large global along, before all of it is copied."""

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > _MAX_DEFINITION_SIZE_BYTES:
            raise RefusedError("the definition is too large")
        return super().write(data)


_by_value: weakref.WeakKeyDictionary[Any, bytes | None] = weakref.WeakKeyDictionary()


def dump_definition(definition: Any, namer: Namer) -> bytes | None:
    """Return the compressed code of a source definition, ``None`` if it has no bytes.

    A definition may use what cannot be stored (a lock in a global); its values are
    then stored by name and readable wherever the source has run.
    """
    # A failure is remembered too: it can have walked far through the globals.
    with contextlib.suppress(KeyError, TypeError):
        return _by_value[definition]
    file = _BoundedFile()
    bases = _BasesNamer(definition, namer)
    data: bytes | None = None
    try:
        GraphPickler(file, bases).dump(definition)
        data = zlib.compress(file.getvalue())
    except Exception:  # noqa: BLE001 - anything may be among the globals of users' code
        data = None
    if not bases.named:
        with contextlib.suppress(TypeError):
            _by_value[definition] = data
    return data
