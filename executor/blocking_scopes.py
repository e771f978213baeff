"""Names: scopes in the order of the source, and binding a function's arguments."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from executor.blocking_protocols import Protocols
from executor.blocking_values import (
    UNBOUND,
    Args,
    ClassDef,
    Function,
    Instance,
    LiveClass,
    Mapping,
    Object,
    Ref,
    Scope,
    Sequence,
    Value,
    join,
)

__all__ = ["Names"]

_BUILTINS = frozenset(vars(builtins))


class Names(Protocols):
    """Operations on names: look up, bind, forget, and meet again after a branch."""

    scope: Scope

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._live_values: dict[tuple[int, str], Value | None] = {}

    def look_up(self, name: str) -> Value | None:
        """What a name is here and now; None where nothing is known of it."""
        scope: Scope | None = self.scope
        innermost = True
        while scope is not None:
            if name in scope.bound and (innermost or not scope.is_class):
                value = scope.bound[name]
                return None if value is UNBOUND else value
            if name in scope.globals and scope.parent is not None:
                scope = self.module_of(scope)
                innermost = True
                continue
            if scope.live is not None:
                return self._look_outside(scope, name)
            scope = scope.parent
            innermost = False
        return None

    def module_of(self, scope: Scope) -> Scope:
        """The module scope that a scope belongs to."""
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def _look_outside(self, scope: Scope, name: str) -> Value | None:
        """The live namespace, then the builtins."""
        key = (id(scope.live), name)
        if key in self._live_values:
            return self._live_values[key]
        try:
            live = scope.live[name]
        except KeyError:
            value: Value | None = Ref(name) if name in _BUILTINS else None
        else:
            value = self.live.read(live)
        self._live_values[key] = value
        return value

    def _home(self, name: str) -> Scope:
        """The scope in which assigning to a name takes effect."""
        scope = self.scope
        if name in scope.globals:
            return self.module_of(scope)
        if name in scope.nonlocals:
            outer = scope.parent
            while outer is not None and (outer.is_class or name not in outer.bound):
                outer = outer.parent
            return outer or scope
        return scope

    def bind(self, name: str, value: Value | None) -> None:
        """Assign to a name."""
        self._home(name).bound[name] = value

    def meet(self, before: dict[str, Value | None], after: dict[str, Value | None]) -> None:
        """Let the current scope be what it may be after either of two paths."""
        if before is after:
            return
        merged: dict[str, Value | None] = {}
        for name in before.keys() | after.keys():
            if name in before and name in after:
                left, right = before[name], after[name]
                if left is UNBOUND or right is UNBOUND:
                    merged[name] = right if left is UNBOUND else left
                else:
                    merged[name] = join(left, right)
            else:
                bound = before if name in before else after
                value = bound[name]
                outer = self._outer(name)
                merged[name] = outer if value is UNBOUND else value
                if outer is not None and value is not None and value is not UNBOUND:
                    merged[name] = join(value, outer)
        self.scope.bound = merged

    def _outer(self, name: str) -> Value | None:
        """What a name is outside the current scope, or in the live namespace."""
        scope = self.scope
        if scope.live is not None:
            return self._look_outside(scope, name)
        return None

    # ----------------------------------------------------------------- arguments

    def bind_arguments(self, function: Function, args: Args, scope: Scope) -> None:
        """Bind a call's arguments to the parameters in the function's new scope."""
        spec = function.node.args
        parameters = [*spec.posonlyargs, *spec.args]
        keywords = dict(args.keywords)
        first_default = len(parameters) - len(function.defaults)
        for index, parameter in enumerate(parameters):
            name = parameter.arg
            if index < len(args.positional):
                value = args.positional[index]
            elif name in keywords:
                value = keywords.pop(name)
            elif index >= first_default and not args.open_ended:
                value = function.defaults[index - first_default]
            else:
                value = None
            scope.bound[name] = self._typed(parameter, value, function)
        for parameter in spec.kwonlyargs:
            name = parameter.arg
            value = keywords.pop(name, function.keyword_defaults.get(name))
            scope.bound[name] = self._typed(parameter, value, function)
        if spec.vararg is not None:
            rest = args.positional[len(parameters) :]
            scope.bound[spec.vararg.arg] = Sequence(rest, complete=not args.open_ended)
        if spec.kwarg is not None:
            scope.bound[spec.kwarg.arg] = Mapping(dict(keywords))

    def _typed(self, parameter: ast.arg, value: Value | None, function: Function) -> Value | None:
        """An argument, or what its annotation says where nothing else is known."""
        if value is not None or parameter.annotation is None:
            return value
        return self.annotated(parameter.annotation, function.scope)

    def annotated(self, annotation: ast.expr, scope: Scope) -> Value | None:
        """An instance of the class that an annotation names; None where it names another."""
        if isinstance(annotation, ast.Constant) and type(annotation.value) is str:
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
        while isinstance(annotation, ast.BinOp):  # Path | None
            right = annotation.right
            is_none = isinstance(annotation.left, ast.Constant)
            annotation = right if is_none else annotation.left
        if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
            if annotation.value.id == "Optional":
                annotation = annotation.slice
        return self._annotated_class(annotation, scope)

    def _annotated_class(self, annotation: ast.expr, scope: Scope) -> Value | None:
        parts: list[str] = []
        node = annotation
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        here, self.scope = self.scope, scope
        try:
            value = self.look_up(node.id)
        finally:
            self.scope = here
        for part in reversed(parts):
            value = self.attribute(value, part)
        if isinstance(value, Ref):
            rule = self.table.types.get(value.path)
            return None if rule is None else Instance(rule)
        if isinstance(value, ClassDef | LiveClass):
            rule = self.rule_of(value)
            return Object(value, None if rule is None else Instance(rule))
        return None
