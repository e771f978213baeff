"""Functions of Python itself that call, wrap or consume what they are given.

``map`` calls a function later, ``sorted`` consumes an iterator now,
``functools.partial`` remembers arguments: what they do depends on their
arguments, so a table of names is not enough. Each entry models one.
"""

from __future__ import annotations

from collections.abc import Callable

from executor.blocking_conditions import is_file, is_in_memory
from executor.blocking_ops import Operations, Special
from executor.blocking_values import (
    Args,
    BoundMethod,
    ClassDef,
    Const,
    Coroutine,
    Function,
    Instance,
    Iterable,
    Lazy,
    LiveClass,
    LiveInstance,
    Manager,
    Mapping,
    Native,
    Object,
    Property,
    Ref,
    RuleMethod,
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
def _getattr(ops: Operations, args: Args) -> Value | None:
    name = args.get(1)
    if not (isinstance(name, Const) and type(name.value) is str):
        return None
    found = ops.attribute(args.get(0), name.value)
    return join(found, args.get(2)) if args.given(2) and found is None else found


@_models("setattr")
def _setattr(ops: Operations, args: Args) -> Value | None:
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
def _import(ops: Operations, args: Args) -> Value | None:
    name = args.get(0, "name")
    if isinstance(name, Const) and type(name.value) is str and not name.value.startswith("."):
        return Ref(ops.table.canonical(name.value))
    return None


@_models("operator.attrgetter")
def _attrgetter(ops: Operations, args: Args) -> Value | None:
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
def _methodcaller(ops: Operations, args: Args) -> Value | None:
    name = args.get(0)
    if not (isinstance(name, Const) and type(name.value) is str):
        return None
    method = name.value
    rest = Args(args.positional[1:], args.keywords)
    return Native(lambda given: ops.call(ops.attribute(given.get(0), method), rest))


@_models("operator.itemgetter")
def _itemgetter(ops: Operations, args: Args) -> Value | None:
    key = args.get(0)
    return Native(lambda given: ops.subscript(given.get(0), key))


@_models("type")
def _type(ops: Operations, args: Args) -> Value | None:
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
def _staticmethod(ops: Operations, args: Args) -> Value | None:
    return Static(args.get(0), gets_class=False)


@_models("classmethod")
def _classmethod(ops: Operations, args: Args) -> Value | None:
    return Static(args.get(0), gets_class=True)


@_models("property", "functools.cached_property", "abc.abstractproperty", "cached_property")
def _property(ops: Operations, args: Args) -> Value | None:
    return Property(args.get(0, "fget"), args.get(1, "fset"))


@_models("Property.getter", "Property.deleter")
def _property_same(ops: Operations, args: Args) -> Value | None:
    return args.get(0)


@_models("Property.setter")
def _property_setter(ops: Operations, args: Args) -> Value | None:
    owner = args.get(0)
    return Property(owner.function, args.get(1)) if isinstance(owner, Property) else None


# ----------------------------------------------------------- calling and wrapping


@_models("functools.partial", "functools.partialmethod")
def _partial(ops: Operations, args: Args) -> Value | None:
    function = args.get(0)
    bound = args.positional[1:]

    def call(given: Args) -> Value | None:
        positional = [*bound, *given.positional]
        return ops.call(function, Args(positional, args.keywords | given.keywords))

    return Native(call) if function is not None else None


@_models("functools.partial.helper")
def _live_partial(ops: Operations, args: Args) -> Value | None:
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
def _same(ops: Operations, args: Args) -> Value | None:
    """Decorators that leave a function what it is, with or without arguments."""
    first = args.get(0)
    if isinstance(first, Function | ClassDef | Object | Instance | BoundMethod | Static):
        return first
    return Native(lambda given: given.get(0))


@_models("functools.wraps")
def _wraps(ops: Operations, args: Args) -> Value | None:
    return Native(lambda given: given.get(0))


@_models("operator.call")
def _operator_call(ops: Operations, args: Args) -> Value | None:
    return ops.call(args.get(0), Args(args.positional[1:], args.keywords))


@_models("timeit.timeit", "timeit.repeat", "cProfile.run", "profile.run")
def _timeit(ops: Operations, args: Args) -> Value | None:
    statement, setup = args.get(0, "stmt"), args.get(1, "setup")
    if isinstance(setup, Const):
        _exec(ops, Args([setup]))
    if isinstance(statement, Const):
        return _exec(ops, Args([statement]))
    ops.call(statement, Args([]))
    return None


@_models("re.sub", "re.subn")
def _substitute(ops: Operations, args: Args) -> Value | None:
    ops.call(args.get(1, "repl"), Args([None]))
    return None


@_models("types.MethodType")
def _method_type(ops: Operations, args: Args) -> Value | None:
    function, owner = args.get(0), args.get(1)
    return function if function is None or owner is None else BoundMethod(function, owner)


@_models("weakref.ref")
def _weak_reference(ops: Operations, args: Args) -> Value | None:
    value = args.get(0)
    return Native(lambda _: value)


@_models("contextvars.copy_context")
def _copy_context(ops: Operations, args: Args) -> Value | None:
    made = Object(ClassDef("Context", [], {}), None)
    made.attributes["run"] = Native(
        lambda given: ops.call(given.get(0), Args(given.positional[1:], given.keywords))
    )
    return made


@_models("collections.defaultdict")
def _defaultdict(ops: Operations, args: Args) -> Value | None:
    made = Mapping({})
    made.factory = args.get(0)
    return made


@_models("typing.cast")
def _cast(ops: Operations, args: Args) -> Value | None:
    rule = ops.rule_of(args.get(0))
    return args.get(1) if rule is None else Instance(rule)


@_models("print")
def _print(ops: Operations, args: Args) -> Value | None:
    if is_file(args.keywords.get("file")):
        ops.waits("print to a file")
    return None


@_models("exec", "eval")
def _exec(ops: Operations, args: Args) -> Value | None:
    source = args.get(0)
    if isinstance(source, Const) and type(source.value) is str:
        return ops.run_text(source.value)
    return None


@_models("compile")
def _compile(ops: Operations, args: Args) -> Value | None:
    return args.get(0, "source")


@_models("asyncio.run", "asyncio.runners.run")
def _run_loop(ops: Operations, args: Args) -> Value | None:
    ops.waits("asyncio.run")
    return ops.run_coroutine(args.get(0))


# --------------------------------------------------------------------- iterators


@_models(
    "list", "tuple", "set", "frozenset", "sorted", "sum", "any", "all", "collections.deque",
    "collections.Counter", "collections.OrderedDict", "bytes",
    "bytearray", "statistics.mean", "math.fsum", "math.prod", "random.sample", "heapq.nlargest",
    "heapq.nsmallest", "heapq.merge", "dict", "array.array",
    "itertools.product",
)  # fmt: skip
def _consume(ops: Operations, args: Args) -> Value | None:
    items: Value | None = None
    for index, value in enumerate(args.positional):
        item = ops.iterate(value)
        items = item if index == 0 else join(items, item)
        if isinstance(value, Sequence) and len(args.positional) == 1 and not args.keywords:
            return Sequence(list(value.items), complete=value.complete)
    _call_key(ops, args, items)
    return Iterable(items)


def _call_key(ops: Operations, args: Args, item: Value | None) -> None:
    key = args.keywords.get("key")
    if key is not None:
        ops.call(key, Args([item]))


@_models("dict")
def _dict(ops: Operations, args: Args) -> Value | None:
    first = args.get(0)
    entries: dict[object, Value | None] = {}
    if isinstance(first, Mapping):
        entries.update(first.entries)
    elif first is not None:
        ops.iterate(first)
    return Mapping(entries | args.keywords)


@_models("min", "max")
def _pick(ops: Operations, args: Args) -> Value | None:
    item = ops.iterate(args.get(0)) if len(args.positional) == 1 else None
    _call_key(ops, args, item)
    return None if isinstance(item, Const) else item


_DUNDERS = {"len": "__len__", "str": "__str__", "repr": "__repr__", "bool": "__bool__"}
_DUNDERS |= {"int": "__int__", "float": "__float__", "abs": "__abs__", "hash": "__hash__"}


def _dunder(name: str) -> Special:
    def special(ops: Operations, args: Args) -> Value | None:
        ops.call_dunder(args.get(0), name)
        return None

    return special


SPECIAL.update({function: _dunder(name) for function, name in _DUNDERS.items()})


@_models("next", "random.choice", "anext")
def _next(ops: Operations, args: Args) -> Value | None:
    return ops.iterate(args.get(0))


@_models(
    "iter", "reversed", "itertools.islice", "itertools.cycle", "itertools.tee", "itertools.chain",
    "itertools.pairwise", "itertools.batched", "tqdm.tqdm",
    "tqdm.auto.tqdm", "tqdm.notebook.tqdm", "more_itertools.chunked", "itertools.accumulate",
)  # fmt: skip
def _pass_through(ops: Operations, args: Args) -> Value | None:
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
def _flatten(ops: Operations, args: Args) -> Value | None:
    value = args.get(0)
    return Lazy(lambda: ops.iterate(ops.iterate(value)))


@_models("itertools.repeat")
def _repeat(ops: Operations, args: Args) -> Value | None:
    return Iterable(args.get(0))


@_models("enumerate")
def _enumerate(ops: Operations, args: Args) -> Value | None:
    value = args.get(0, "iterable")
    return Lazy(lambda: Sequence([None, ops.iterate(value)]))


@_models("zip", "itertools.zip_longest")
def _zip(ops: Operations, args: Args) -> Value | None:
    values = list(args.positional)
    return Lazy(lambda: Sequence([ops.iterate(value) for value in values]))


@_models("map", "itertools.starmap")
def _map(ops: Operations, args: Args) -> Value | None:
    function, values = args.get(0), args.positional[1:]
    return Lazy(lambda: ops.call(function, Args([ops.iterate(value) for value in values])))


@_models("filter", "itertools.takewhile", "itertools.dropwhile", "itertools.filterfalse")
def _filter(ops: Operations, args: Args) -> Value | None:
    function, value = args.get(0), args.get(1)

    def run() -> Value | None:
        item = ops.iterate(value)
        ops.call(function, Args([item]))
        return item

    return Lazy(run)


@_models("functools.reduce")
def _reduce(ops: Operations, args: Args) -> Value | None:
    item = ops.iterate(args.get(1))
    return ops.call(args.get(0), Args([args.get(2) or item, item]))


@_models("Const.join", "Const.writelines")
def _join(ops: Operations, args: Args) -> Value | None:
    ops.iterate(args.get(1))
    return None


@_models("Lazy.__next__", "Lazy.send", "Lazy.throw", "LiveIterator.__next__", "LiveIterator.send")
def _lazy_next(ops: Operations, args: Args) -> Value | None:
    return ops.iterate(args.get(0))


@_models("Coroutine.send")
def _coroutine_send(ops: Operations, args: Args) -> Value | None:
    value = args.get(0)
    return ops.run_coroutine(value) if isinstance(value, Coroutine) else None


# -------------------------------------------------------------------- containers


@_models("Sequence.append", "Sequence.add", "Sequence.appendleft")
def _append(ops: Operations, args: Args) -> Value | None:
    owner, value = args.get(0), args.get(1)
    if isinstance(owner, Sequence):
        owner.items.append(value)  # grows with the source alone: a loop is read twice at most
    return None


@_models("Sequence.extend", "Sequence.update")
def _extend(ops: Operations, args: Args) -> Value | None:
    owner = args.get(0)
    if isinstance(owner, Sequence):
        owner.items.append(ops.iterate(args.get(1)))
    return None


@_models("Sequence.pop", "Sequence.popleft")
def _pop(ops: Operations, args: Args) -> Value | None:
    owner = args.get(0)
    return ops.item_of(owner) if isinstance(owner, Sequence) else None


@_models("Sequence.sort")
def _sort(ops: Operations, args: Args) -> Value | None:
    owner = args.get(0)
    if isinstance(owner, Sequence):
        _call_key(ops, args, ops.item_of(owner))
    return None


@_models("Sequence.copy", "Mapping.copy")
def _copy(ops: Operations, args: Args) -> Value | None:
    return args.get(0)


@_models("Mapping.get", "Mapping.pop", "Mapping.setdefault")
def _mapping_get(ops: Operations, args: Args) -> Value | None:
    found = ops.subscript(args.get(0), args.get(1))
    return args.get(2) if found is None else found


@_models("Mapping.values")
def _values(ops: Operations, args: Args) -> Value | None:
    return Iterable(ops.subscript(args.get(0), None))


@_models("Mapping.items")
def _items(ops: Operations, args: Args) -> Value | None:
    return Iterable(Sequence([None, ops.subscript(args.get(0), None)]))


@_models("Mapping.update")
def _update(ops: Operations, args: Args) -> Value | None:
    owner, other = args.get(0), args.get(1)
    if isinstance(owner, Mapping):
        if isinstance(other, Mapping):
            owner.entries.update(other.entries)
        owner.entries.update(args.keywords)
    return None


@_models("Iterable.pop", "Iterable.popleft", "Iterable.__next__")
def _iterable_pop(ops: Operations, args: Args) -> Value | None:
    return ops.iterate(args.get(0))


@_models("Iterable.append", "Iterable.add")
def _iterable_append(ops: Operations, args: Args) -> Value | None:
    owner = args.get(0)
    if isinstance(owner, Iterable):
        owner.item = join(owner.item, args.get(1))
    return None


@_models("types.SimpleNamespace", "argparse.Namespace")
def _simple_namespace(ops: Operations, args: Args) -> Value | None:
    made = Object(ClassDef("SimpleNamespace", [], {}), None)
    made.attributes.update(args.keywords)
    return made


@_models("collections.namedtuple")
def _namedtuple(ops: Operations, args: Args) -> Value | None:
    cls = ClassDef("namedtuple", [], {})
    fields = args.get(1, "field_names")
    if isinstance(fields, Const) and type(fields.value) is str:
        cls.fields = [(name, None) for name in fields.value.replace(",", " ").split()]
    elif isinstance(fields, Sequence):
        cls.fields = [(f.value, None) for f in fields.items if isinstance(f, Const)]
    return cls


# --------------------------------------------------------------- context managers


@_models("contextlib.closing", "contextlib.aclosing")
def _closing(ops: Operations, args: Args) -> Value | None:
    value = args.get(0)
    return Manager(lambda: value, lambda: ops.call(ops.attribute(value, "close"), Args([])))


@_models("contextlib.nullcontext")
def _nullcontext(ops: Operations, args: Args) -> Value | None:
    value = args.get(0, "enter_result")
    return Manager(lambda: value, lambda: None)


@_models("contextlib.contextmanager")
def _contextmanager(ops: Operations, args: Args) -> Value | None:
    function = args.get(0)
    return Native(lambda given: _entered_generator(ops, ops.call(function, given)))


@_models("contextlib.contextmanager.helper")
def _live_contextmanager(ops: Operations, args: Args) -> Value | None:
    given = Args(args.positional[1:], args.keywords)
    return _entered_generator(ops, ops.call(args.get(0), given))


def _entered_generator(ops: Operations, generator: Value | None) -> Value | None:
    return Manager(lambda: ops.iterate(generator), lambda: None)


@_models("contextlib.ExitStack")
def _exit_stack(ops: Operations, args: Args) -> Value | None:
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
def _patch(ops: Operations, args: Args) -> Value | None:
    target = args.get(0, "target")
    if not (isinstance(target, Const) and type(target.value) is str):
        return None
    return _replacing(ops, ops.table.canonical(target.value), args.get(1, "new"))


@_models("unittest.mock.patch.object", "mock.patch.object")
def _patch_object(ops: Operations, args: Args) -> Value | None:
    owner, name = args.get(0), args.get(1)
    if isinstance(owner, Ref) and isinstance(name, Const):
        return _replacing(ops, f"{owner.path}.{name.value}", args.get(2, "new"))
    return None


def _replacing(ops: Operations, path: str, value: Value | None) -> Value:
    return Manager(
        lambda: ops.replaced.__setitem__(path, value), lambda: ops.replaced.pop(path, None)
    )


# --------------------------------------------------------------- files in memory


@_models("io.TextIOWrapper", "io.BufferedReader", "io.BufferedWriter", "io.BufferedRandom")
def _wrapped_file(ops: Operations, args: Args) -> Value | None:
    kind = "io.BytesIO" if is_in_memory(args.get(0)) else "io.IOBase"
    return Instance(ops.table.types[kind])


@_models("tempfile.SpooledTemporaryFile")
def _memory_file(ops: Operations, args: Args) -> Value | None:
    return Instance(ops.table.types["io.BytesIO"])


@_models("pickle.Unpickler", "pickle.Pickler", "_pickle.Unpickler", "_pickle.Pickler")
def _pickler(ops: Operations, args: Args) -> Value | None:
    if is_in_memory(args.get(0)):
        return None
    return Instance(ops.table.types["pickle.Unpickler"])
