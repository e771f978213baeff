"""The table of calls that can wait: its shape, its notation and how to extend it.

One entry says of one function or class what its calls do. Entries are written
in a small notation, one word per name::

    sleep                  a call that waits
    accept=(socket.socket,_)   ... and what it returns: a tuple whose first is a socket
    acquire?lock           ... unless the condition "lock" shows that it cannot wait

Results: a dotted class name is an instance of it, ``@x.y`` the module, function
or class itself, ``(A,B)`` a tuple, ``[A]`` an iterable of A, ``self`` the
instance the method was called on, ``_`` nothing known.

The conditions are in :mod:`executor.blocking_conditions`. Names are canonical:
what users import (``requests.Session``), not where a version of a library
happens to define it (``requests.sessions.Session``); :meth:`BlockingTable.canonical`
turns the one into the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = [
    "Aliases",
    "BlockingTable",
    "Class",
    "Functions",
    "MethodRule",
    "Shape",
    "TypeRule",
    "parse_shape",
]


class Shape(NamedTuple):
    """The form of a result: `kind` is instance, ref, tuple, iterable, self or nothing."""

    kind: str
    path: str = ""
    parts: tuple[Shape, ...] = ()


NOTHING = Shape("nothing")


class MethodRule(NamedTuple):
    """What a call does: whether it waits, unless which condition, and its result."""

    waits: bool
    condition: str = ""
    result: Shape = NOTHING


class TypeRule:
    """What the instances of one class do.

    Attributes:
        path: Canonical dotted name.
        methods: Calls by method name.
        attributes: The form of attributes that are no methods.
        new: What constructing an instance does.
        iteration: What iterating does; its result is the form of an item.
        enter, leave: What ``with`` does at its start and end.
        item: What ``x[key]`` does.
        other: What a method does that is not listed; None for nothing known.
        chains: Whether any other attribute is again such an object, as in the
            generated API clients (``client.chat.completions.create()``).
        in_memory: Whether it is a file that lives in memory.
        is_file: Whether it is an open file.
    """

    __slots__ = (
        "attributes",
        "chains",
        "enter",
        "in_memory",
        "is_file",
        "item",
        "iteration",
        "leave",
        "methods",
        "new",
        "other",
        "path",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.methods: dict[str, MethodRule] = {}
        self.attributes: dict[str, Shape] = {}
        self.new = MethodRule(waits=False)
        self.iteration = MethodRule(waits=False)
        self.enter = MethodRule(waits=False, result=Shape("self"))
        self.leave = MethodRule(waits=False)
        self.item = MethodRule(waits=False)
        self.other: MethodRule | None = None
        self.chains = False
        self.in_memory = False
        self.is_file = False

    def inherit(self, base: TypeRule) -> None:
        """Take over everything a base class does."""
        self.methods.update(base.methods)
        self.attributes.update(base.attributes)
        for name in ("new", "iteration", "enter", "leave", "item", "other"):
            setattr(self, name, getattr(base, name))
        self.chains, self.in_memory, self.is_file = base.chains, base.in_memory, base.is_file


def _split(text: str) -> list[str]:
    """Split at the commas that are outside brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def parse_shape(text: str) -> Shape:
    """Read the notation of a result.

    Raises:
        ValueError: The brackets do not match.
    """
    if text in ("", "_"):
        return NOTHING
    if text == "self":
        return Shape("self")
    if text[0] == "@":
        return Shape("ref", text[1:])
    if text[0] in "([":
        if text[-1] != {"(": ")", "[": "]"}[text[0]]:
            raise ValueError(f"the result {text!r} has an opening bracket that is not closed")
        kind = "tuple" if text[0] == "(" else "iterable"
        return Shape(kind, parts=tuple(parse_shape(part) for part in _split(text[1:-1])))
    return Shape("instance", text)


def _parse_rule(text: str, *, waits: bool) -> tuple[str, MethodRule]:
    head, _, result = text.partition("=")
    name, _, condition = head.partition("?")
    return name, MethodRule(waits, condition, parse_shape(result))


def _parse_own(text: str) -> MethodRule:
    """Read a rule without a name: ``!`` waits, ``!?condition=result`` in full."""
    _, rule = _parse_rule(text.removeprefix("!"), waits=text.startswith("!"))
    return rule


class Functions(NamedTuple):
    """Arguments of :meth:`BlockingTable.add_functions`, as data."""

    module: str
    waits: str = ""
    plain: str = ""


class Aliases(NamedTuple):
    """Arguments of :meth:`BlockingTable.add_aliases`, as data."""

    path: str
    names: str


class Class:
    """Arguments of :meth:`BlockingTable.add_type`, as data."""

    def __init__(self, path: str, **columns: Any) -> None:
        self.path = path
        self.columns = columns


class BlockingTable:
    """Which functions and methods can wait, by canonical dotted name."""

    def __init__(self) -> None:
        self.functions: dict[str, MethodRule] = {}
        self.types: dict[str, TypeRule] = {}
        self.values: dict[str, Shape] = {}
        self.aliases: dict[str, str] = {}
        self.prefixes: set[str] = set()
        self.members: dict[str, set[str]] = {}
        """The names listed directly under a module or class."""
        self._canonical: dict[str, str] = {}

    # ---------------------------------------------------------------- building

    def add_functions(self, module: str, waits: str = "", plain: str = "") -> None:
        """List a module's functions.

        Args:
            module: Dotted name of the module; empty for builtins.
            waits: Functions whose calls can wait, in the notation above.
            plain: Functions that never wait, listed for what they return.
        """
        start = f"{module}." if module else ""
        for words, waiting in ((plain, False), (waits, True)):
            for word in words.split():
                name, rule = _parse_rule(word, waits=waiting)
                self.functions[start + name] = rule
                self._know(start + name)

    def add_values(self, module: str, words: str) -> None:
        """List a module's attributes that are instances: ``stdin=io.IOBase``."""
        for word in words.split():
            name, _, result = word.partition("=")
            self.values[f"{module}.{name}"] = parse_shape(result)
            self._know(f"{module}.{name}")

    def add_type(
        self,
        path: str,
        *,
        base: str = "",
        waits: str = "",
        plain: str = "",
        attributes: str = "",
        new: str | None = None,
        iteration: str | None = None,
        enter: str | None = None,
        leave: str | None = None,
        item: str | None = None,
        other: str | None = None,
        chains: bool | None = None,
        also: str = "",
    ) -> TypeRule:
        """List a class.

        Args:
            path: Canonical dotted name.
            base: Classes to inherit from, by name; later ones win.
            waits: Methods whose calls can wait.
            plain: Methods that never wait, listed for what they return or
                because `other` says that unlisted ones do.
            attributes: Attributes that are no methods: ``stdout=io.IOBase``.
            new: Constructing an instance, a rule without a name: ``!`` waits,
                ``!?memory=x.Y`` in full, an empty text never waits.
            iteration: Iterating over an instance, such a rule.
            enter: What ``with`` does at its start, such a rule.
            leave: What ``with`` does at its end, such a rule.
            item: ``x[key]``, such a rule.
            other: Methods that are not listed, such a rule.
            chains: Unlisted attributes are again such an object.
            also: Other names of the same class.
        """
        rule = TypeRule(path)
        for name in base.split():
            rule.inherit(self.types[name])
        for words, waiting in ((plain, False), (waits, True)):
            for word in words.split():
                name, method = _parse_rule(word, waits=waiting)
                rule.methods[name] = method
        for word in attributes.split():
            name, _, result = word.partition("=")
            rule.attributes[name] = parse_shape(result)
        own = {"new": new, "iteration": iteration, "enter": enter, "leave": leave}
        for name, text in (own | {"item": item, "other": other}).items():
            if text is not None:
                setattr(rule, name, _parse_own(text))
        if chains is not None:
            rule.chains = chains
        self.types[path] = rule
        self._know(path)
        self.add_aliases(path, also)
        return rule

    def enter(self, rows: Iterable[Functions | Class | Aliases]) -> None:
        """List what rows of data say, in their order."""
        for row in rows:
            if isinstance(row, Functions):
                self.add_functions(*row)
            elif isinstance(row, Aliases):
                self.add_aliases(*row)
            else:
                self.add_type(row.path, **row.columns)

    def add_aliases(self, path: str, names: str | Iterable[str]) -> None:
        """Let other dotted names stand for a canonical one."""
        for name in names.split() if isinstance(names, str) else names:
            self.aliases[name] = path
            self._know(name)

    def _know(self, path: str) -> None:
        self._canonical.clear()
        while path:
            self.prefixes.add(path)
            path, _, name = path.rpartition(".")
            self.members.setdefault(path, set()).add(name)

    # ---------------------------------------------------------------- look-ups

    def canonical(self, path: str) -> str:
        """The name users import for a dotted name that may be an internal one.

        Libraries define their public classes in inner modules and move them
        between versions; the class keeps its top-level package and its name,
        so ``redis.client.Redis`` is looked for as ``redis.Redis`` too. A module
        with ``async`` or ``aio`` in its name is an asynchronous twin and never
        stands for the synchronous one.
        """
        found = self._canonical.get(path)
        if found is None:
            found = self._canonical[path] = self._find(path)
            if len(self._canonical) > 4096:  # names come from users' code: keep memory flat
                self._canonical.clear()
        return found

    def _find(self, path: str) -> str:
        parts = path.split(".")
        name = parts.pop()
        whole = True
        while parts:
            candidate = ".".join([*parts, name])
            candidate = self.aliases.get(candidate, candidate)
            if candidate in self.types or (whole and candidate in self.prefixes):
                return candidate
            whole = False
            inner = parts.pop()
            if inner.startswith(("async", "_async", "aio")) or inner.endswith("asyncio"):
                return path
        return self.aliases.get(path, path)

    def is_known(self, path: str) -> bool:
        """Whether a name is in the table or leads to one that is."""
        return path in self.prefixes

    def method_of(self, path: str) -> tuple[TypeRule, str, MethodRule] | None:
        """The rule of ``module.Class.method`` read as an unbound method."""
        owner, _, name = path.rpartition(".")
        rule = self.types.get(owner)
        if rule is None:
            return None
        method = rule.methods.get(name)
        if method is None:
            method = rule.other
        return None if method is None else (rule, name, method)
