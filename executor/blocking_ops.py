"""What operations on known values give, and which of them can wait.

The operations are those of the language - read an attribute, call, iterate,
subscript, enter a ``with`` - on the values of :mod:`executor.blocking_values`.
Following a function into its body is left to the subclass that reads syntax
trees, :class:`executor.blocking_flow.Flow`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Mapping as AbstractMapping
from types import ModuleType
from typing import Any, NamedTuple

from executor import names
from executor.blocking_conditions import CONDITIONS, result_applies
from executor.blocking_live import LiveReader
from executor.blocking_table import BlockingTable, MethodRule, Shape, TypeRule
from executor.blocking_values import (
    NEVER,
    Args,
    Attributes,
    BoundMethod,
    ClassDef,
    Const,
    Function,
    Instance,
    Iterable,
    LiveClass,
    LiveFunction,
    LiveInstance,
    LiveIterator,
    Native,
    Object,
    Property,
    Ref,
    RuleMethod,
    Sequence,
    Static,
    Union,
    Value,
    join,
)

__all__ = ["BlockingCall", "Found", "Operations", "Special"]

type Special = Callable[[Any, Args], Value | None]
"""A function of Python that the analysis models: given the operations and the arguments."""

_NO_ARGS = Args([])
_EXITS = frozenset({"sys.exit", "exit", "quit", "os._exit", "os.abort"})


class BlockingCall(NamedTuple):
    """A place where the cell could wait.

    Attributes:
        name: What it calls there, as users know it: ``time.sleep``.
        line: 1-based line in the cell; where a function from an earlier cell
            waits, the line that calls it.
    """

    name: str
    line: int


class Found(Exception):  # noqa: N818 - not an error: it ends the search at the first find
    """Raised at the first blocking call when one is enough."""


class Operations:
    """The operations of the language on known values.

    Args:
        table: Which calls can wait.
        special: Functions of Python that the analysis models itself, by name.
        every: Collect all blocking calls rather than stop at the first.
    """

    def __init__(
        self, table: BlockingTable, special: AbstractMapping[str, Special], *, every: bool
    ) -> None:
        self.table = table
        self.special = special
        self.every = every
        self.live = LiveReader(table)
        self.line = 0
        self.found: list[BlockingCall] = []
        self.replaced: dict[str, Value | None] = {}
        """Attributes of modules and classes that the cell assigned itself."""

    def waits(self, name: str) -> None:
        """Note that the current line can wait.

        Raises:
            Found: One find is enough.
        """
        call = BlockingCall(name, self.line)
        if call not in self.found:
            self.found.append(call)
        if not self.every:
            raise Found

    # ------------------------------------------- left to the syntax tree's reader

    def call_function(self, function: Function, args: Args) -> Value | None:
        """Follow a call into the body of a function of the cell."""
        raise NotImplementedError  # pragma: no cover - abstract

    def call_live(self, function: LiveFunction, args: Args) -> Value | None:
        """Follow a call into the body of a function of an earlier cell."""
        raise NotImplementedError  # pragma: no cover - abstract

    def consume_live(self, iterator: LiveIterator) -> Value | None:
        """Follow what consuming an iterator of an earlier cell does."""
        raise NotImplementedError  # pragma: no cover - abstract

    def run_text(self, source: str) -> Value | None:
        """Follow ``exec`` or ``eval`` of a literal text."""
        raise NotImplementedError  # pragma: no cover - abstract

    # ---------------------------------------------------------------- results

    def shape(self, shape: Shape, owner: Instance | None = None) -> Value | None:
        """A fresh value of a form in the table."""
        kind = shape.kind
        if kind == "nothing":
            return None
        if kind == "instance":
            rule = self.table.types.get(shape.path)
            return None if rule is None else Instance(rule)
        if kind == "self":
            return owner
        if kind == "ref":
            return Ref(shape.path)
        parts = [self.shape(part, owner) for part in shape.parts]
        return Sequence(parts) if kind == "tuple" else Iterable(parts[0])

    def apply(
        self, name: str, rule: MethodRule, args: Args, owner: Instance | None = None
    ) -> Value | None:
        """Do what a rule of the table says of one call."""
        may_wait = rule.waits and (not rule.condition or CONDITIONS[rule.condition](args, owner))
        if may_wait:
            self.waits(name)
        if rule.result.kind == "nothing" or not result_applies(rule.condition, args):
            return None
        if rule.waits and not may_wait and rule.condition == "memory":
            return Instance(self.table.types["io.BytesIO"])
        return self.shape(rule.result, owner)

    def construct(self, rule: TypeRule, args: Args) -> Value | None:
        """Make an instance of a class in the table."""
        instance = Instance(rule)
        new = rule.new
        if new.waits:
            if not new.condition or CONDITIONS[new.condition](args, None):
                self.waits(rule.path)
            elif new.result.kind == "instance":
                return self.shape(new.result)
        if rule.path == "threading.Thread":
            target, given = args.keywords.get("target"), args.keywords.get("args")
            if target is not None:
                items = list(given.items) if isinstance(given, Sequence) else []
                instance.target = Native(lambda _: self.call(target, Args(items)))
        elif rule.path == "queue.Queue":
            size = args.get(0, "maxsize")
            instance.unbounded = (
                isinstance(size, Const) and type(size.value) is int and size.value <= 0
            ) or not (args.given(0, "maxsize") or args.open_ended)
        return instance

    # ------------------------------------------------------------- attributes

    def attribute(self, owner: Value | None, name: str) -> Value | None:
        """Read ``owner.name``."""
        if owner is None:
            return None
        if name == "__dict__":
            return Attributes(owner)
        if isinstance(owner, Ref):
            return self._ref_attribute(owner, name)
        if isinstance(owner, Instance):
            return self.rule_attribute(owner, name)
        if isinstance(owner, Object):
            return self._object_attribute(owner, name)
        if isinstance(owner, LiveInstance):
            return self._live_attribute(owner, name)
        if isinstance(owner, ClassDef | LiveClass):
            member = self.class_member(owner, name)
            return self._bind(member, None, owner)
        if isinstance(owner, Union):
            return self._each(owner, lambda choice: self.attribute(choice, name))
        if isinstance(owner, Function) and name in owner.attributes:
            return owner.attributes[name]
        if isinstance(owner, LiveFunction) and name in owner.function.__dict__:
            return self.live.read(owner.function.__dict__[name])
        if isinstance(owner, _Chain):
            return self.rule_attribute(owner.instance, name)
        method = self.special.get(f"{type(owner).__name__}.{name}")
        if method is not None:
            return Native(lambda args: method(self, args.shifted(owner)))
        return None

    def _each(self, union: Union, read: Callable[[Value], Value | None]) -> Value | None:
        result: Value | None = None
        for index, choice in enumerate(union.choices):
            value = read(choice)
            result = value if index == 0 else join(result, value)
        return result

    def _ref_attribute(self, owner: Ref, name: str) -> Value | None:
        path = f"{owner.path}.{name}"
        if path in self.replaced:
            return self.replaced[path]
        table = self.table
        path = table.canonical(path)
        if path == "typing.TYPE_CHECKING":
            return Const(value=False)
        shape = table.values.get(path)
        if shape is not None:
            return self.shape(shape)
        if path in table.prefixes or path in self.special:
            return Ref(path)
        module = sys.modules.get(owner.path)
        if type(module) is ModuleType:
            live = names.module_attribute(module, name)
            if live is not names.MISSING:
                value = self.live.read(live)
                return Ref(path) if isinstance(value, Const) else value
        return Ref(path)

    def rule_attribute(self, owner: Instance, name: str) -> Value | None:
        """Read an attribute of an instance of a class in the table."""
        rule = owner.rule
        method = rule.methods.get(name)
        if method is not None:
            return RuleMethod(owner, name, method)
        shape = rule.attributes.get(name)
        if shape is not None:
            return self.shape(shape, owner)
        if name.startswith("__"):
            return None
        shape = rule.attributes.get("*")
        if shape is not None:
            return self.shape(shape, owner)
        if rule.chains:
            return Instance(rule) if rule.other is None else _Chain.of(owner, name)
        return None if rule.other is None else RuleMethod(owner, name, rule.other)

    def _object_attribute(self, owner: Object, name: str) -> Value | None:
        if name in owner.attributes:
            return owner.attributes[name]
        member = self.class_member(owner.cls, name)
        if member is not names.MISSING:
            return self._bind(member, owner, owner.cls)
        if owner.rule_instance is not None:
            return self.rule_attribute(owner.rule_instance, name)
        if not name.startswith("__"):
            fallback = self.class_member(owner.cls, "__getattr__")
            if fallback is not names.MISSING:
                return self.call(self._bind(fallback, owner, owner.cls), Args([Const(name)]))
        return None

    def class_member(self, cls: Value | None, name: str) -> Value | None:
        """A class attribute as stored, or MISSING where no class of the user's has it."""
        if isinstance(cls, ClassDef):
            if name in cls.bound:
                return cls.bound[name]
            for base in cls.bases:
                found = self.class_member(base, name)
                if found is not names.MISSING:
                    return found
        elif isinstance(cls, LiveClass):
            _, found = self.live.class_member(cls.cls, name)
            if found is not names.MISSING:
                return self.live.stored(found)
        return names.MISSING  # type: ignore[no-any-return]

    def _live_attribute(self, owner: LiveInstance, name: str) -> Value | None:
        if name in owner.attributes:
            return owner.attributes[name]
        cls = LiveClass(type(owner.instance))
        own = names.instance_attribute(owner.instance, name)
        if own is not names.MISSING:
            value = owner.attributes[name] = self.live.read(own)
            return value
        member = self.class_member(cls, name)
        if member is not names.MISSING:
            return self._bind(member, owner, cls)
        if owner.rule_instance is not None:
            return self.rule_attribute(owner.rule_instance, name)
        return None

    def _bind(self, member: Value | None, owner: Value | None, cls: Value) -> Value | None:
        if member is names.MISSING:
            return None
        if isinstance(member, Static):
            if member.gets_class and member.function is not None:
                return BoundMethod(member.function, cls)
            return member.function
        if owner is None:
            return member
        if isinstance(member, Property):
            return self.call(member.function, Args([owner]))
        if isinstance(member, Function | LiveFunction):
            return BoundMethod(member, owner)
        if isinstance(member, Object | LiveInstance) and self._has_own(member, "__get__"):
            return self.call_dunder(member, "__get__", Args([owner, cls]))
        return member

    # ------------------------------------------------------------------ calls

    def call(self, function: Value | None, args: Args) -> Value | None:
        """Call a value."""
        if function is None:
            return None
        handler = _CALLS.get(type(function))
        return None if handler is None else handler(self, function, args)

    def _call_ref(self, function: Ref, args: Args) -> Value | None:
        path = function.path
        special = self.special.get(path)
        if special is not None:
            return special(self, args)
        rule = self.table.functions.get(path)
        if rule is not None:
            return self.apply(path, rule, args)
        cls = self.table.types.get(path)
        if cls is not None:
            return self.construct(cls, args)
        if path in _EXITS:
            return NEVER
        unbound = self.table.method_of(path)
        if unbound is not None:
            owner_rule, name, method = unbound
            owner = args.get(0)
            if isinstance(owner, Instance):
                rest = Args(args.positional[1:], args.keywords, open_ended=args.open_ended)
                return self._call_method(RuleMethod(owner, name, method), rest)
            return self.apply(f"{owner_rule.path}.{name}", method, args)
        return None

    def _call_method(self, method: RuleMethod, args: Args) -> Value | None:
        owner, name = method.instance, method.name
        if name == "setblocking" and owner.rule.path == "socket.socket":
            flag = args.get(0, "flag")
            owner.never_waits = isinstance(flag, Const) and not flag.value
        elif name == "settimeout" and owner.rule.path == "socket.socket":
            value = args.get(0, "value")
            owner.never_waits = isinstance(value, Const) and value.value == 0
        elif name == "run" and owner.target is not None:
            return self.call(owner.target, args)
        elif name == "submit" and owner.rule.path == "concurrent.futures.Executor":
            return self.apply("Executor.submit", method.rule, args, owner)
        return self.apply(f"{owner.rule.path}.{name}", method.rule, args, owner)

    def _call_bound(self, method: BoundMethod, args: Args) -> Value | None:
        return self.call(method.function, args.shifted(method.instance))

    def _call_native(self, function: Native, args: Args) -> Value | None:
        return function.call(args)

    def _call_union(self, function: Union, args: Args) -> Value | None:
        return self._each(function, lambda choice: self.call(choice, args))

    def _call_static(self, function: Static, args: Args) -> Value | None:
        return self.call(function.function, args)

    def _call_class(self, cls: ClassDef | LiveClass, args: Args) -> Value | None:
        maker = self._metaclass_call(cls)
        if maker is not names.MISSING:
            return self.call(maker, args.shifted(cls))
        rule = self.rule_of(cls)
        new = self.class_member(cls, "__new__")
        if isinstance(new, Static | Function | LiveFunction):
            made = self.call(new, args.shifted(cls))
            if made is not None and not isinstance(made, Object):
                return made
        inherited = None
        if rule is not None:
            made = self.construct(rule, args) if self._inherits_init(cls) else Instance(rule)
            inherited = made if isinstance(made, Instance) else None
        instance = Object(cls, inherited)
        init = self.class_member(cls, "__init__")
        if init is not names.MISSING:
            self.call(self._bind(init, instance, cls), args)
        elif isinstance(cls, ClassDef):
            self._fill_fields(cls, instance, args)
        after = self.class_member(cls, "__post_init__")
        if after is not names.MISSING:
            self.call(self._bind(after, instance, cls), _NO_ARGS)
        return instance

    def _metaclass_call(self, cls: ClassDef | LiveClass) -> Value | None:
        """A metaclass's own ``__call__``, which replaces construction, or MISSING."""
        if isinstance(cls, LiveClass):
            kind = type(cls.cls)
            meta: Value | None = None if kind is type else LiveClass(kind)
        else:
            meta = cls.metaclass
        if meta is None:
            return names.MISSING  # type: ignore[no-any-return]
        found = self.class_member(meta, "__call__")
        return found if isinstance(found, Function | LiveFunction) else names.MISSING

    def _inherits_init(self, cls: Value) -> bool:
        return self.class_member(cls, "__init__") is names.MISSING

    def _fill_fields(self, cls: ClassDef, instance: Object, args: Args) -> None:
        """Assign a dataclass's fields from its arguments, by position or keyword."""
        for position, (name, annotated) in enumerate(cls.fields):
            value = args.get(position, name)
            if value is None and name in cls.bound and not args.given(position, name):
                value = cls.bound[name]
            instance.attributes[name] = annotated if value is None else value

    def rule_of(self, cls: Value | None) -> TypeRule | None:
        """The table's class that a class of the user's inherits from."""
        if isinstance(cls, Ref):
            return self.table.types.get(cls.path)
        if isinstance(cls, LiveClass):
            return self.live.rule_of(cls.cls)
        if isinstance(cls, ClassDef):
            for base in cls.bases:
                rule = self.rule_of(base)
                if rule is not None:
                    return rule
        return None

    def _call_object(self, instance: Value, args: Args) -> Value | None:
        return self.call_dunder(instance, "__call__", args)

    def call_dunder(self, owner: Value | None, name: str, args: Args = _NO_ARGS) -> Value | None:
        """Call a special method of the user's own class, where it has one."""
        if isinstance(owner, Object):
            cls: Value = owner.cls
        elif isinstance(owner, LiveInstance):
            cls = LiveClass(type(owner.instance))
        elif isinstance(owner, Union):
            return self._each(owner, lambda choice: self.call_dunder(choice, name, args))
        else:
            return None
        member = self.class_member(cls, name)
        return self.call(self._bind(member, owner, cls), args)

    def _has_own(self, instance: Object | LiveInstance, name: str) -> bool:
        cls: Value = (
            instance.cls if isinstance(instance, Object) else LiveClass(type(instance.instance))
        )
        return self.class_member(cls, name) is not names.MISSING


class _Chain(RuleMethod):
    """An attribute of a chaining client: callable, and again such an object."""

    __slots__ = ()

    @classmethod
    def of(cls, owner: Instance, name: str) -> Value:
        rule = owner.rule.other or MethodRule(waits=False)
        return cls(owner, name, rule)


_CALLS: dict[type, Callable[[Operations, Any, Args], Value | None]] = {
    Ref: Operations._call_ref,
    RuleMethod: Operations._call_method,
    _Chain: Operations._call_method,
    BoundMethod: Operations._call_bound,
    Function: lambda self, function, args: self.call_function(function, args),
    LiveFunction: lambda self, function, args: self.call_live(function, args),
    ClassDef: Operations._call_class,
    LiveClass: Operations._call_class,
    Native: Operations._call_native,
    Union: Operations._call_union,
    Static: Operations._call_static,
    Object: Operations._call_object,
    LiveInstance: Operations._call_object,
    Instance: lambda self, instance, args: None,
}
