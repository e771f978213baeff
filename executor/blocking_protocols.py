"""What iterating, subscripting and ``with`` do on known values, and which of them can wait."""

from __future__ import annotations

from executor.blocking_ops import Operations
from executor.blocking_values import (
    Args,
    Attributes,
    Const,
    Coroutine,
    Instance,
    Iterable,
    Lazy,
    LiveInstance,
    LiveIterator,
    Manager,
    Mapping,
    Object,
    Ref,
    Sequence,
    Union,
    Value,
    join,
)

__all__ = ["Protocols"]

_NO_ARGS = Args([])
_FORMATTED = ("__format__", "__str__", "__repr__")
"""Where text is looked for, the first first; objects' own default asks the next."""


class Protocols(Operations):
    """Operations on values, with the protocols of iteration, items and ``with``."""

    # ------------------------------------------------- iteration, items, with

    def iterate(self, value: Value | None) -> Value | None:
        """Consume an iterable; the value of its items."""
        if value is None or isinstance(value, Const):
            return None
        if isinstance(value, Sequence):
            return self.item_of(value)
        if isinstance(value, Iterable):
            return value.item
        if isinstance(value, Lazy):
            return value.run()
        if isinstance(value, LiveIterator):
            return self.consume_live(value)
        if isinstance(value, Mapping):
            return value.keys
        if isinstance(value, Instance):
            rule = value.rule.iteration
            return self.apply(f"iterating {value.rule.path}", rule, _NO_ARGS, value)
        if isinstance(value, Union):
            return self._each(value, self.iterate)
        if isinstance(value, Object | LiveInstance):
            iterator = self.call_dunder(value, "__iter__")
            if iterator is not None and iterator is not value:
                return self.iterate(iterator)
            if value.rule_instance is not None and iterator is None:
                return self.iterate(value.rule_instance)
            return self.call_dunder(value, "__next__")
        return None

    def item_of(self, sequence: Sequence) -> Value | None:
        """Any one item."""
        result: Value | None = None
        for index, item in enumerate(sequence.items):
            result = item if index == 0 else join(result, item)
        return result

    def show(self, value: Value | None, conversion: str = "") -> None:
        """Do what turning a value into text does: ``repr`` with "r" or "a", ``str`` with "s"."""
        wanted = {"": _FORMATTED, "s": _FORMATTED[1:]}.get(conversion, _FORMATTED[2:])
        if isinstance(value, Union):
            for choice in value.choices:
                self.show(choice, conversion)
        elif isinstance(value, Object | LiveInstance):
            own = next((name for name in wanted if self._has_own(value, name)), None)
            if own is not None:
                self.call_dunder(value, own, Args([None]) if own == "__format__" else _NO_ARGS)

    def subscript(self, owner: Value | None, key: Value | None) -> Value | None:
        """Read ``owner[key]``."""
        if owner is None:
            return None
        if isinstance(owner, Mapping):
            if owner.factory is not None:
                made = self.call(owner.factory, _NO_ARGS)
                owner.others = made if owner.others is None else join(owner.others, made)
            if isinstance(key, Const) and type(key.value) in (str, int, bool):
                return owner.entries.get(key.value, owner.others)
            result = owner.others
            for item in owner.entries.values():
                result = item if result is None else join(result, item)
            return result
        if isinstance(owner, Sequence):
            if isinstance(key, Const) and type(key.value) is int:
                index = key.value
                if -len(owner.items) <= index < len(owner.items):
                    return owner.items[index]
            return self.item_of(owner)
        if isinstance(owner, Iterable):
            return owner.item
        if isinstance(owner, Instance):
            rule = owner.rule.item
            return self.apply(f"{owner.rule.path}[...]", rule, Args([key]), owner)
        if isinstance(owner, Union):
            return self._each(owner, lambda choice: self.subscript(choice, key))
        if isinstance(owner, Attributes):
            if isinstance(key, Const) and type(key.value) is str:
                return self.attribute(owner.owner, key.value)
            return None
        if isinstance(owner, Ref):  # list[int], Queue[str]: the class itself
            if owner.path == "sys.modules" and isinstance(key, Const) and type(key.value) is str:
                return Ref(self.table.canonical(key.value))
            return owner if owner.path in self.table.types else None
        return self.call_dunder(owner, "__getitem__", Args([key]))

    def enter(self, manager: Value | None) -> Value | None:
        """Do what ``with manager`` does on entry; the value bound by ``as``."""
        if isinstance(manager, Manager):
            return manager.enter()
        if isinstance(manager, Instance):
            rule = manager.rule
            return self.apply(f"with {rule.path}", rule.enter, _NO_ARGS, manager)
        if isinstance(manager, Union):
            return self._each(manager, self.enter)
        if isinstance(manager, Object | LiveInstance):
            has_own = self._has_own(manager, "__enter__")
            if not has_own and manager.rule_instance is not None:
                entered = self.enter(manager.rule_instance)
                return manager if entered is manager.rule_instance else entered
            return self.call_dunder(manager, "__enter__")
        return None

    def leave(self, manager: Value | None) -> None:
        """Do what ``with manager`` does at its end."""
        if isinstance(manager, Manager):
            manager.leave()
        elif isinstance(manager, Instance):
            rule = manager.rule
            self.apply(f"leaving with {rule.path}", rule.leave, _NO_ARGS, manager)
        elif isinstance(manager, Union):
            for choice in manager.choices:
                self.leave(choice)
        elif isinstance(manager, Object | LiveInstance):
            if not self._has_own(manager, "__exit__") and manager.rule_instance is not None:
                self.leave(manager.rule_instance)
            else:
                self.call_dunder(manager, "__exit__", Args([None, None, None]))

    def run_coroutine(self, value: Value | None) -> Value | None:
        """Do what awaiting a value does."""
        return value.run() if isinstance(value, Coroutine) else None
