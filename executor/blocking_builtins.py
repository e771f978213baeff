"""Functions of Python itself that call, wrap or consume what they are given.

``map`` calls a function later, ``sorted`` consumes an iterator now,
``functools.partial`` remembers arguments: what they do depends on their
arguments, so a table of names is not enough. Each entry models one.
"""

from __future__ import annotations

from collections.abc import Callable

from executor.blocking_conditions import is_file
from executor.blocking_ops import Special
from executor.blocking_protocols import Protocols
from executor.blocking_values import (
    Args,
    BoundMethod,
    ClassDef,
    Const,
    Function,
    Instance,
    LiveClass,
    LiveInstance,
    Mapping,
    Native,
    Object,
    Property,
    Ref,
    Sequence,
    Static,
    Value,
    join,
)

__all__ = ["SPECIAL"]

SPECIAL: dict[str, Special] = {}
"""By dotted name, or by kind of value and method: ``Const.join``."""


def _models(*paths: str) -> Callable[[Special], Special]:
    def enter(special: Special) -> Special:
        SPECIAL.update(dict.fromkeys(paths, special))
        return special

    return enter


# ----------------------------------------------------- names, modules, attributes


@_models("getattr")
def _getattr(ops: Protocols, args: Args) -> Value | None:
    name = args.get(1)
    if not (isinstance(name, Const) and type(name.value) is str):
        return None
    found = ops.attribute(args.get(0), name.value)
    return join(found, args.get(2)) if args.given(2) and found is None else found


@_models("setattr")
def _setattr(ops: Protocols, args: Args) -> Value | None:
    owner, name, value = args.get(0), args.get(1), args.get(2)
    if isinstance(name, Const) and type(name.value) is str:
        if isinstance(owner, Ref):
            ops.replaced[f"{owner.path}.{name.value}"] = value
        elif isinstance(owner, Object | LiveInstance):
            owner.attributes[name.value] = value
        elif isinstance(owner, ClassDef):
            owner.bound[name.value] = value
    return None


@_models("__import__", "importlib.import_module", "importlib.__import__")
def _import(ops: Protocols, args: Args) -> Value | None:
    name = args.get(0, "name")
    if isinstance(name, Const) and type(name.value) is str and not name.value.startswith("."):
        return Ref(ops.table.canonical(name.value))
    return None


@_models("operator.attrgetter")
def _attrgetter(ops: Protocols, args: Args) -> Value | None:
    name = args.get(0)
    if not (isinstance(name, Const) and type(name.value) is str):
        return None
    path = name.value.split(".")

    def read(given: Args) -> Value | None:
        value = given.get(0)
        for part in path:
            value = ops.attribute(value, part)
        return value

    return Native(read)


@_models("operator.methodcaller")
def _methodcaller(ops: Protocols, args: Args) -> Value | None:
    name = args.get(0)
    if not (isinstance(name, Const) and type(name.value) is str):
        return None
    method = name.value
    rest = Args(args.positional[1:], args.keywords)
    return Native(lambda given: ops.call(ops.attribute(given.get(0), method), rest))


@_models("operator.itemgetter")
def _itemgetter(ops: Protocols, args: Args) -> Value | None:
    key = args.get(0)
    return Native(lambda given: ops.subscript(given.get(0), key))


@_models("type")
def _type(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0)
    if len(args.positional) == 1:
        if isinstance(value, Object):
            return value.cls
        if isinstance(value, LiveInstance):
            return LiveClass(type(value.instance))
        return Ref(value.rule.path) if isinstance(value, Instance) else None
    bases, body = args.get(1), args.get(2)
    if isinstance(bases, Sequence) and isinstance(body, Mapping):
        bound = {key: item for key, item in body.entries.items() if type(key) is str}
        return ClassDef("", bases.items, bound)
    return None


@_models("staticmethod")
def _staticmethod(ops: Protocols, args: Args) -> Value | None:
    return Static(args.get(0), gets_class=False)


@_models("classmethod")
def _classmethod(ops: Protocols, args: Args) -> Value | None:
    return Static(args.get(0), gets_class=True)


@_models("property", "functools.cached_property", "abc.abstractproperty", "cached_property")
def _property(ops: Protocols, args: Args) -> Value | None:
    return Property(args.get(0, "fget"), args.get(1, "fset"))


@_models("Property.getter", "Property.deleter")
def _property_same(ops: Protocols, args: Args) -> Value | None:
    return args.get(0)


@_models("Property.setter")
def _property_setter(ops: Protocols, args: Args) -> Value | None:
    owner = args.get(0)
    return Property(owner.function, args.get(1)) if isinstance(owner, Property) else None


# ----------------------------------------------------------- calling and wrapping


@_models("functools.partial", "functools.partialmethod")
def _partial(ops: Protocols, args: Args) -> Value | None:
    function = args.get(0)
    bound = args.positional[1:]

    def call(given: Args) -> Value | None:
        positional = [*bound, *given.positional]
        return ops.call(function, Args(positional, args.keywords | given.keywords))

    return Native(call) if function is not None else None


@_models("functools.partial.helper")
def _live_partial(ops: Protocols, args: Args) -> Value | None:
    remembered = args.get(0)
    if not isinstance(remembered, Sequence):
        return None
    given, named = remembered.items
    if not (isinstance(given, Sequence) and isinstance(named, Mapping)):
        return None
    positional = [*given.items[1:], *args.positional[1:]]
    return ops.call(given.items[0], Args(positional, named.entries | args.keywords))


_SAME = (
    "functools.lru_cache functools.cache functools.total_ordering"
    " functools.singledispatch functools.update_wrapper dataclasses.dataclass typing.final"
    " typing.override typing.runtime_checkable typing.no_type_check typing.overload"
    " abc.abstractmethod copy.copy copy.deepcopy weakref.proxy"
    " contextlib.ContextDecorator atexit.register types.coroutine enum.unique"
)


@_models(*_SAME.split())
def _same(ops: Protocols, args: Args) -> Value | None:
    """Decorators that leave a function what it is, with or without arguments."""
    first = args.get(0)
    if isinstance(first, Function | ClassDef | Object | Instance | BoundMethod | Static):
        return first
    return Native(lambda given: given.get(0))


@_models("functools.wraps")
def _wraps(ops: Protocols, args: Args) -> Value | None:
    return Native(lambda given: given.get(0))


@_models("operator.call")
def _operator_call(ops: Protocols, args: Args) -> Value | None:
    return ops.call(args.get(0), Args(args.positional[1:], args.keywords))


@_models("timeit.timeit", "timeit.repeat", "cProfile.run", "profile.run")
def _timeit(ops: Protocols, args: Args) -> Value | None:
    statement, setup = args.get(0, "stmt"), args.get(1, "setup")
    if isinstance(setup, Const):
        _exec(ops, Args([setup]))
    if isinstance(statement, Const):
        return _exec(ops, Args([statement]))
    ops.call(statement, Args([]))
    return None


@_models("re.sub", "re.subn")
def _substitute(ops: Protocols, args: Args) -> Value | None:
    ops.call(args.get(1, "repl"), Args([None]))
    return None


@_models("types.MethodType")
def _method_type(ops: Protocols, args: Args) -> Value | None:
    function, owner = args.get(0), args.get(1)
    return function if function is None or owner is None else BoundMethod(function, owner)


@_models("weakref.ref")
def _weak_reference(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0)
    return Native(lambda _: value)


@_models("contextvars.copy_context")
def _copy_context(ops: Protocols, args: Args) -> Value | None:
    made = Object(ClassDef("Context", [], {}), None)
    made.attributes["run"] = Native(
        lambda given: ops.call(given.get(0), Args(given.positional[1:], given.keywords))
    )
    return made


@_models("collections.defaultdict")
def _defaultdict(ops: Protocols, args: Args) -> Value | None:
    made = Mapping({})
    made.factory = args.get(0)
    return made


@_models("typing.cast")
def _cast(ops: Protocols, args: Args) -> Value | None:
    rule = ops.rule_of(args.get(0))
    return args.get(1) if rule is None else Instance(rule)


@_models("print")
def _print(ops: Protocols, args: Args) -> Value | None:
    if is_file(args.keywords.get("file")):
        ops.waits("print to a file")
    for value in args.positional:
        ops.show(value, "s")
    return None


@_models("exec", "eval")
def _exec(ops: Protocols, args: Args) -> Value | None:
    source = args.get(0)
    if isinstance(source, Const) and type(source.value) is str:
        return ops.run_text(source.value)
    return None


@_models("compile")
def _compile(ops: Protocols, args: Args) -> Value | None:
    return args.get(0, "source")


@_models("asyncio.run", "asyncio.runners.run")
def _run_loop(ops: Protocols, args: Args) -> Value | None:
    ops.waits("asyncio.run")
    return ops.run_coroutine(args.get(0))
