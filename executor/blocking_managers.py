"""Context managers of the standard library, and files that wrap other files."""

from __future__ import annotations

from collections.abc import Callable

from executor.blocking_conditions import is_in_memory
from executor.blocking_ops import Special
from executor.blocking_protocols import Protocols
from executor.blocking_values import (
    Args,
    ClassDef,
    Const,
    Instance,
    Manager,
    Native,
    Object,
    Ref,
    Static,
    Value,
)

__all__ = ["SPECIAL"]

SPECIAL: dict[str, Special] = {}
"""By dotted name, or by kind of value and method: ``Const.join``."""


def _models(*paths: str) -> Callable[[Special], Special]:
    def enter(special: Special) -> Special:
        SPECIAL.update(dict.fromkeys(paths, special))
        return special

    return enter


# --------------------------------------------------------------- context managers


@_models("contextlib.closing", "contextlib.aclosing")
def _closing(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0)
    return Manager(lambda: value, lambda: ops.call(ops.attribute(value, "close"), Args([])))


@_models("contextlib.nullcontext")
def _nullcontext(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0, "enter_result")
    return Manager(lambda: value, lambda: None)


@_models("contextlib.contextmanager")
def _contextmanager(ops: Protocols, args: Args) -> Value | None:
    function = args.get(0)
    return Native(lambda given: _entered_generator(ops, ops.call(function, given)))


@_models("contextlib.contextmanager.helper")
def _live_contextmanager(ops: Protocols, args: Args) -> Value | None:
    given = Args(args.positional[1:], args.keywords)
    return _entered_generator(ops, ops.call(args.get(0), given))


def _entered_generator(ops: Protocols, generator: Value | None) -> Value | None:
    return Manager(lambda: ops.iterate(generator), lambda: None)


@_models("contextlib.ExitStack")
def _exit_stack(ops: Protocols, args: Args) -> Value | None:
    entered: list[Value | None] = []
    later: list[Callable[[], object]] = []

    def enter_context(given: Args) -> Value | None:
        entered.append(given.get(0))
        return ops.enter(given.get(0))

    def callback(given: Args) -> Value | None:
        rest = Args(given.positional[1:], given.keywords)
        later.append(lambda: ops.call(given.get(0), rest))
        return given.get(0)

    def leave(_: Args) -> Value | None:
        for manager in reversed(entered):
            ops.leave(manager)
        for call in later:
            call()
        return None

    stack = Object(ClassDef("ExitStack", [], {}), None)
    stack.attributes["enter_context"] = Native(enter_context)
    stack.attributes["callback"] = Native(callback)
    stack.attributes["close"] = Native(leave)
    cls = stack.cls
    if isinstance(cls, ClassDef):
        cls.bound["__enter__"] = Static(Native(lambda _: stack), gets_class=False)
        cls.bound["__exit__"] = Static(Native(leave), gets_class=False)
    return stack


@_models("unittest.mock.patch", "mock.patch")
def _patch(ops: Protocols, args: Args) -> Value | None:
    target = args.get(0, "target")
    if not (isinstance(target, Const) and type(target.value) is str):
        return None
    return _replacing(ops, ops.table.canonical(target.value), args.get(1, "new"))


@_models("unittest.mock.patch.object", "mock.patch.object")
def _patch_object(ops: Protocols, args: Args) -> Value | None:
    owner, name = args.get(0), args.get(1)
    if isinstance(owner, Ref) and isinstance(name, Const):
        return _replacing(ops, f"{owner.path}.{name.value}", args.get(2, "new"))
    return None


def _replacing(ops: Protocols, path: str, value: Value | None) -> Value:
    return Manager(
        lambda: ops.replaced.__setitem__(path, value), lambda: ops.replaced.pop(path, None)
    )


# --------------------------------------------------------------- files in memory


@_models("io.TextIOWrapper", "io.BufferedReader", "io.BufferedWriter", "io.BufferedRandom")
def _wrapped_file(ops: Protocols, args: Args) -> Value | None:
    kind = "io.BytesIO" if is_in_memory(args.get(0)) else "io.IOBase"
    return Instance(ops.table.types[kind])


@_models("tempfile.SpooledTemporaryFile")
def _memory_file(ops: Protocols, args: Args) -> Value | None:
    return Instance(ops.table.types["io.BytesIO"])


@_models("pickle.Unpickler", "pickle.Pickler", "_pickle.Unpickler", "_pickle.Pickler")
def _pickler(ops: Protocols, args: Args) -> Value | None:
    if is_in_memory(args.get(0)):
        return None
    return Instance(ops.table.types["pickle.Unpickler"])
