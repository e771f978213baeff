"""Functions of Python that consume or make iterators, and the methods of containers."""

from __future__ import annotations

from collections.abc import Callable

from executor.blocking_ops import Special
from executor.blocking_protocols import Protocols
from executor.blocking_values import (
    Args,
    BoundMethod,
    ClassDef,
    Const,
    Coroutine,
    Function,
    Iterable,
    Lazy,
    Mapping,
    Object,
    RuleMethod,
    Sequence,
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


# --------------------------------------------------------------------- iterators


@_models(
    "list", "tuple", "set", "frozenset", "sum", "any", "all", "collections.deque",
    "collections.Counter", "collections.OrderedDict", "bytes",
    "bytearray", "statistics.mean", "math.fsum", "math.prod", "random.sample", "heapq.merge", "dict", "array.array",
    "itertools.product",
)  # fmt: skip
def _consume(ops: Protocols, args: Args) -> Value | None:
    items: Value | None = None
    for index, value in enumerate(args.positional):
        item = ops.iterate(value)
        items = item if index == 0 else join(items, item)
        if isinstance(value, Sequence) and len(args.positional) == 1 and not args.keywords:
            return Sequence(list(value.items), complete=value.complete)
    _call_key(ops, args, items)
    return Iterable(items)


def _call_key(ops: Protocols, args: Args, item: Value | None) -> Value | None:
    """Call the ``key`` of a call that has one; what it makes of an item, else the item."""
    key = args.keywords.get("key")
    return item if key is None else ops.call(key, Args([item]))


def _compare(ops: Protocols, args: Args, item: Value | None, method: str = "__lt__") -> None:
    compared = _call_key(ops, args, item)
    ops.call_dunder(compared, method, Args([compared]))


@_models("sorted", "heapq.nlargest", "heapq.nsmallest")
def _sorted(ops: Protocols, args: Args) -> Value | None:
    values = args.get(len(args.positional) - 1)
    item = ops.iterate(values)
    _compare(ops, args, item)
    if isinstance(values, Sequence) and len(args.positional) == 1 and not args.keywords:
        return Sequence(list(values.items), complete=values.complete)
    return Iterable(item)


@_models("dict")
def _dict(ops: Protocols, args: Args) -> Value | None:
    first = args.get(0)
    entries: dict[object, Value | None] = {}
    if isinstance(first, Mapping):
        entries.update(first.entries)
    elif first is not None:
        ops.iterate(first)
    return Mapping(entries | args.keywords)


def _pick(method: str) -> Special:
    def special(ops: Protocols, args: Args) -> Value | None:
        item = ops.iterate(args.get(0)) if len(args.positional) == 1 else args.get(0)
        _compare(ops, args, item, method)
        return None if isinstance(item, Const) or len(args.positional) > 1 else item

    return special


SPECIAL["min"], SPECIAL["max"] = _pick("__lt__"), _pick("__gt__")


_DUNDERS = {"len": "__len__", "bool": "__bool__", "abs": "__abs__", "hash": "__hash__"}
_DUNDERS |= {"int": "__int__", "float": "__float__"}
_TEXTS = {"str": "s", "repr": "r", "ascii": "a", "format": ""}


def _dunder(name: str) -> Special:
    def special(ops: Protocols, args: Args) -> Value | None:
        ops.call_dunder(args.get(0), name)
        return None

    return special


def _text(conversion: str) -> Special:
    def special(ops: Protocols, args: Args) -> Value | None:
        ops.show(args.get(0), conversion)
        return None

    return special


SPECIAL.update({function: _dunder(name) for function, name in _DUNDERS.items()})
SPECIAL.update({function: _text(conversion) for function, conversion in _TEXTS.items()})


@_models("next", "random.choice", "anext")
def _next(ops: Protocols, args: Args) -> Value | None:
    return ops.iterate(args.get(0))


@_models(
    "iter", "reversed", "itertools.islice", "itertools.cycle", "itertools.tee", "itertools.chain",
    "itertools.pairwise", "itertools.batched", "tqdm.tqdm",
    "tqdm.auto.tqdm", "tqdm.notebook.tqdm", "more_itertools.chunked", "itertools.accumulate",
)  # fmt: skip
def _pass_through(ops: Protocols, args: Args) -> Value | None:
    if len(args.positional) == 2 and isinstance(args.get(0), Function | BoundMethod | RuleMethod):
        function = args.get(0)  # iter(callable, sentinel)
        return Lazy(lambda: ops.call(function, Args([])))
    values = list(args.positional)

    def run() -> Value | None:
        result: Value | None = None
        for value in values:
            result = join(result, ops.iterate(value))
        return result

    return Lazy(run)


@_models("itertools.chain.from_iterable")
def _flatten(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0)
    return Lazy(lambda: ops.iterate(ops.iterate(value)))


@_models("itertools.repeat")
def _repeat(ops: Protocols, args: Args) -> Value | None:
    return Iterable(args.get(0))


@_models("enumerate")
def _enumerate(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0, "iterable")
    return Lazy(lambda: Sequence([None, ops.iterate(value)]))


@_models("zip", "itertools.zip_longest")
def _zip(ops: Protocols, args: Args) -> Value | None:
    values = list(args.positional)
    return Lazy(lambda: Sequence([ops.iterate(value) for value in values]))


@_models("map", "itertools.starmap")
def _map(ops: Protocols, args: Args) -> Value | None:
    function, values = args.get(0), args.positional[1:]
    return Lazy(lambda: ops.call(function, Args([ops.iterate(value) for value in values])))


@_models("filter", "itertools.takewhile", "itertools.dropwhile", "itertools.filterfalse")
def _filter(ops: Protocols, args: Args) -> Value | None:
    function, value = args.get(0), args.get(1)

    def run() -> Value | None:
        item = ops.iterate(value)
        ops.call(function, Args([item]))
        return item

    return Lazy(run)


@_models("functools.reduce")
def _reduce(ops: Protocols, args: Args) -> Value | None:
    item = ops.iterate(args.get(1))
    return ops.call(args.get(0), Args([args.get(2) or item, item]))


@_models("Const.join", "Const.writelines")
def _join(ops: Protocols, args: Args) -> Value | None:
    ops.iterate(args.get(1))
    return None


@_models("Lazy.__next__", "Lazy.send", "Lazy.throw", "LiveIterator.__next__", "LiveIterator.send")
def _lazy_next(ops: Protocols, args: Args) -> Value | None:
    return ops.iterate(args.get(0))


@_models("Coroutine.send")
def _coroutine_send(ops: Protocols, args: Args) -> Value | None:
    value = args.get(0)
    return ops.run_coroutine(value) if isinstance(value, Coroutine) else None


# -------------------------------------------------------------------- containers


@_models("Sequence.append", "Sequence.add", "Sequence.appendleft")
def _append(ops: Protocols, args: Args) -> Value | None:
    owner, value = args.get(0), args.get(1)
    if isinstance(owner, Sequence):
        owner.items.append(value)  # grows with the source alone: a loop is read twice at most
    return None


@_models("Sequence.extend", "Sequence.update")
def _extend(ops: Protocols, args: Args) -> Value | None:
    owner = args.get(0)
    if isinstance(owner, Sequence):
        owner.items.append(ops.iterate(args.get(1)))
    return None


@_models("Sequence.pop", "Sequence.popleft")
def _pop(ops: Protocols, args: Args) -> Value | None:
    owner = args.get(0)
    return ops.item_of(owner) if isinstance(owner, Sequence) else None


@_models("Sequence.sort")
def _sort(ops: Protocols, args: Args) -> Value | None:
    _compare(ops, args, ops.iterate(args.get(0)))
    return None


@_models("Sequence.copy", "Mapping.copy")
def _copy(ops: Protocols, args: Args) -> Value | None:
    return args.get(0)


@_models("Mapping.get", "Mapping.pop", "Mapping.setdefault")
def _mapping_get(ops: Protocols, args: Args) -> Value | None:
    found = ops.subscript(args.get(0), args.get(1))
    return args.get(2) if found is None else found


@_models("Mapping.values")
def _values(ops: Protocols, args: Args) -> Value | None:
    return Iterable(ops.subscript(args.get(0), None))


@_models("Mapping.items")
def _items(ops: Protocols, args: Args) -> Value | None:
    return Iterable(Sequence([None, ops.subscript(args.get(0), None)]))


@_models("Mapping.update")
def _update(ops: Protocols, args: Args) -> Value | None:
    owner, other = args.get(0), args.get(1)
    if isinstance(owner, Mapping):
        if isinstance(other, Mapping):
            owner.entries.update(other.entries)
        owner.entries.update(args.keywords)
    return None


@_models("Iterable.pop", "Iterable.popleft", "Iterable.__next__")
def _iterable_pop(ops: Protocols, args: Args) -> Value | None:
    return ops.iterate(args.get(0))


@_models("Iterable.append", "Iterable.add")
def _iterable_append(ops: Protocols, args: Args) -> Value | None:
    owner = args.get(0)
    if isinstance(owner, Iterable):
        owner.item = join(owner.item, args.get(1))
    return None


@_models("types.SimpleNamespace", "argparse.Namespace")
def _simple_namespace(ops: Protocols, args: Args) -> Value | None:
    made = Object(ClassDef("SimpleNamespace", [], {}), None)
    made.attributes.update(args.keywords)
    return made


@_models("collections.namedtuple")
def _namedtuple(ops: Protocols, args: Args) -> Value | None:
    cls = ClassDef("namedtuple", [], {})
    fields = args.get(1, "field_names")
    if isinstance(fields, Const) and type(fields.value) is str:
        cls.fields = [(name, None) for name in fields.value.replace(",", " ").split()]
    elif isinstance(fields, Sequence):
        cls.fields = [(f.value, None) for f in fields.items if isinstance(f, Const)]
    return cls
