"""What the blocking analysis knows about a value: a few kinds, and None for nothing.

A value stands for what an expression could be when the cell runs. ``None``
means that nothing is known, which is also the answer for everything that can
never wait, such as numbers from arithmetic.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import FunctionType
from typing import Any

from executor.blocking_table import MethodRule, TypeRule

__all__ = [
    "NEVER",
    "UNBOUND",
    "Args",
    "Attributes",
    "BoundMethod",
    "ClassDef",
    "Const",
    "Coroutine",
    "Function",
    "Instance",
    "Iterable",
    "Lazy",
    "LiveClass",
    "LiveFunction",
    "LiveInstance",
    "LiveIterator",
    "Manager",
    "Mapping",
    "Native",
    "Object",
    "Property",
    "Ref",
    "RuleMethod",
    "Scope",
    "Sequence",
    "Static",
    "Union",
    "Value",
    "join",
]


class Value:
    """A known value; unknown ones are None."""

    __slots__ = ()


type Maybe = Value | None


class Args:
    """The arguments of one call: values by position and by keyword."""

    __slots__ = ("keywords", "open_ended", "positional")

    def __init__(
        self,
        positional: list[Maybe],
        keywords: dict[str, Maybe] | None = None,
        *,
        open_ended: bool = False,
    ) -> None:
        self.positional = positional
        self.keywords = keywords or {}
        self.open_ended = open_ended
        """True after ``*args`` or ``**kwargs``: there may be more than is listed."""

    def get(self, position: int, keyword: str = "") -> Maybe:
        """The argument at a position or under a keyword; None where not given or unknown."""
        if len(self.positional) > position >= 0:
            return self.positional[position]
        return self.keywords.get(keyword)

    def given(self, position: int, keyword: str = "") -> bool:
        """Whether the argument is written in the call at all."""
        return len(self.positional) > position >= 0 or keyword in self.keywords

    def shifted(self, first: Maybe) -> Args:
        """The same call with one more argument in front, as binding does."""
        return Args([first, *self.positional], self.keywords, open_ended=self.open_ended)

    def every(self) -> list[Maybe]:
        """All argument values, in order."""
        return [*self.positional, *self.keywords.values()]


class Ref(Value):
    """A module, function or class known by its dotted name, such as ``time.sleep``."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Const(Value):
    """A literal str, bytes, number, bool or None."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Instance(Value):
    """An instance of a class in the table; its state is shared by all its names."""

    __slots__ = ("never_waits", "rule", "target", "unbounded")

    def __init__(self, rule: TypeRule) -> None:
        self.rule = rule
        self.never_waits = False
        """A socket set to non-blocking: its calls fail rather than wait."""
        self.target: Maybe = None
        """What a thread runs, where that is known: its own ``run()`` calls it here."""
        self.unbounded = False
        """A queue without a size limit: put never waits."""


class RuleMethod(Value):
    """A method of a table class, bound to its instance."""

    __slots__ = ("instance", "name", "rule")

    def __init__(self, instance: Instance, name: str, rule: MethodRule) -> None:
        self.instance = instance
        self.name = name
        self.rule = rule


class Scope:
    """Names bound in a module, a class body, a function or a comprehension."""

    __slots__ = (
        "bound",
        "globals",
        "is_class",
        "live",
        "nonlocals",
        "parent",
        "returned",
        "yielded",
    )

    def __init__(
        self,
        parent: Scope | None,
        bound: dict[str, Maybe] | None = None,
        *,
        is_class: bool = False,
        live: Any = None,
    ) -> None:
        self.parent = parent
        self.bound: dict[str, Maybe] = {} if bound is None else bound
        self.is_class = is_class
        self.live = live
        """The live globals behind a module scope; None for every other scope."""
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.returned: list[Maybe] = []
        self.yielded: list[Maybe] = []


class Function(Value):
    """A function or lambda whose syntax tree is at hand."""

    __slots__ = ("attributes", "defaults", "keyword_defaults", "node", "owner", "scope")

    def __init__(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        scope: Scope,
        defaults: list[Maybe],
        keyword_defaults: dict[str, Maybe],
    ) -> None:
        self.node = node
        self.scope = scope
        self.defaults = defaults
        self.keyword_defaults = keyword_defaults
        self.owner: Value | None = None
        """The class it was found in, for ``super()``."""
        self.attributes: dict[str, Maybe] = {}


class ClassDef(Value):
    """A class defined in the cell."""

    __slots__ = ("bases", "bound", "fields", "metaclass", "name")

    def __init__(self, name: str, bases: list[Maybe], bound: dict[str, Maybe]) -> None:
        self.name = name
        self.bases = bases
        self.bound = bound
        self.fields: list[tuple[str, Maybe]] = []
        """Annotated names in order with their types, for dataclasses."""
        self.metaclass: Value | None = None


class Object(Value):
    """An instance of a class defined in the cell."""

    __slots__ = ("attributes", "cls", "rule_instance")

    def __init__(self, cls: ClassDef | LiveClass, rule_instance: Instance | None) -> None:
        self.cls = cls
        self.attributes: dict[str, Maybe] = {}
        self.rule_instance = rule_instance
        """What it is by inheritance from a class in the table."""


class LiveFunction(Value):
    """A function defined by an earlier cell."""

    __slots__ = ("function",)

    def __init__(self, function: FunctionType) -> None:
        self.function = function


class LiveClass(Value):
    """A class defined by an earlier cell."""

    __slots__ = ("cls",)

    def __init__(self, cls: type) -> None:
        self.cls = cls


class LiveInstance(Value):
    """An instance of a class defined by an earlier cell."""

    __slots__ = ("attributes", "instance", "rule_instance")

    def __init__(self, instance: object, rule_instance: Instance | None) -> None:
        self.instance = instance
        self.attributes: dict[str, Maybe] = {}
        self.rule_instance = rule_instance


class BoundMethod(Value):
    """A followed function bound to its instance or class."""

    __slots__ = ("function", "instance")

    def __init__(self, function: Value, instance: Value) -> None:
        self.function = function
        self.instance = instance


class Static(Value):
    """A staticmethod or classmethod as stored in a class."""

    __slots__ = ("function", "gets_class")

    def __init__(self, function: Maybe, *, gets_class: bool) -> None:
        self.function = function
        self.gets_class = gets_class


class Property(Value):
    """A property: reading it calls its function."""

    __slots__ = ("function", "setter")

    def __init__(self, function: Maybe, setter: Maybe = None) -> None:
        self.function = function
        self.setter = setter


class Native(Value):
    """A callable that the analysis itself models, such as a partial."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[Args], Maybe]) -> None:
        self.call = call


class Sequence(Value):
    """A list, tuple or set whose items are known one by one."""

    __slots__ = ("complete", "items")

    def __init__(self, items: list[Maybe], *, complete: bool = True) -> None:
        self.items = items
        self.complete = complete
        """False where more items of the same kinds may follow."""


class Mapping(Value):
    """A dict by its constant keys; `others` is what any other key may hold."""

    __slots__ = ("entries", "factory", "keys", "others")

    def __init__(self, entries: dict[Any, Maybe], others: Maybe = None) -> None:
        self.entries = entries
        self.keys: Maybe = None
        """What its keys may be, beyond constants."""
        self.factory: Maybe = None
        """What makes a missing entry, in a defaultdict."""
        self.others = others


class Iterable(Value):
    """Something that holds any number of values of one kind; iterating never waits."""

    __slots__ = ("item",)

    def __init__(self, item: Maybe) -> None:
        self.item = item


class LiveIterator(Value):
    """A generator or ``map`` object made by an earlier cell."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator


class Attributes(Value):
    """``vars(owner)`` and ``owner.__dict__``: its items are the owner's attributes."""

    __slots__ = ("owner",)

    def __init__(self, owner: Value) -> None:
        self.owner = owner


class Lazy(Value):
    """An iterator that does its work when it is consumed; `run` gives an item's value."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[], Maybe]) -> None:
        self.run = run


class Coroutine(Value):
    """A coroutine object: its body runs when it is awaited."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[], Maybe]) -> None:
        self.run = run


class Manager(Value):
    """A context manager modelled by what entering and leaving it do."""

    __slots__ = ("enter", "leave")

    def __init__(self, enter: Callable[[], Maybe], leave: Callable[[], object]) -> None:
        self.enter = enter
        self.leave = leave


class Union(Value):
    """One of several values, at most :data:`_MOST_CHOICES`."""

    __slots__ = ("choices",)

    def __init__(self, choices: tuple[Value, ...]) -> None:
        self.choices = choices


UNBOUND = Value()
"""A name after ``del``: reading it raises NameError."""

NEVER = Value()
"""The result of a call that does not return, such as ``sys.exit()``."""

_MOST_CHOICES = 8  # beyond this the later choices of a long if-chain are dropped


def _same(left: Value, right: Value) -> bool:
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, Ref) and isinstance(right, Ref):
        return left.path == right.path
    if isinstance(left, Const) and isinstance(right, Const):
        return type(left.value) is type(right.value) and bool(left.value == right.value)
    return False


def join(left: Maybe, right: Maybe) -> Maybe:
    """What a name may be after two paths of a program meet.

    A constant that meets something unknown becomes unknown: it can no longer
    decide a branch. Other values are kept: the name *could* still be one.
    """
    if left is right:
        return left
    if left is None or right is None:
        known = right if left is None else left
        return None if isinstance(known, Const) else known
    choices = list(left.choices) if isinstance(left, Union) else [left]
    for value in right.choices if isinstance(right, Union) else (right,):
        if not any(_same(value, other) for other in choices):
            choices.append(value)
    if len(choices) == 1:
        return choices[0]
    return Union(tuple(choices[:_MOST_CHOICES]))
