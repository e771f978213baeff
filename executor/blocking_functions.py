"""Follows calls into the bodies of functions, those of the cell and those of earlier ones."""

from __future__ import annotations

import ast
from typing import Any

from executor.blocking_scopes import Names
from executor.blocking_source import FunctionSources
from executor.blocking_values import (
    Args,
    Const,
    Coroutine,
    Function,
    Instance,
    Lazy,
    LiveClass,
    LiveFunction,
    Ref,
    Scope,
    Value,
    join,
)

__all__ = ["Functions"]

_DEEPEST_CALLS = 24  # followed calls inside one another; deeper ones are taken as unknown
_MOST_STATEMENTS = 20_000  # in followed bodies, so that analysis ends on any program


class Functions(Names):
    """Calls of functions whose definition is at hand."""

    def __init__(self, *args: Any, sources: FunctionSources, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sources = sources
        self._following: list[tuple[object, ...]] = []
        self._results: dict[tuple[object, ...], Value | None] = {}
        self._kept: list[object] = []
        self._generators: dict[int, bool] = {}
        self.budget = _MOST_STATEMENTS
        self.line_is_fixed = False

    def value(self, node: ast.expr) -> Value | None:
        """What an expression could be; blocking calls in it are noted on the way."""
        raise NotImplementedError  # pragma: no cover - abstract

    def statements(self, body: list[ast.stmt]) -> bool:
        """Run a block; whether it certainly ends early (return, raise, break, exit)."""
        raise NotImplementedError  # pragma: no cover - abstract

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Function:
        """A function value; its defaults are evaluated here and now."""
        defaults = [self.value(default) for default in node.args.defaults]
        keyword_defaults = {
            parameter.arg: self.value(default)
            for parameter, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if default is not None
        }
        return Function(node, self.scope, defaults, keyword_defaults)

    def call_function(self, function: Function, args: Args) -> Value | None:
        """Call a function of the cell; coroutines and generators run later."""
        node = function.node
        if isinstance(node, ast.AsyncFunctionDef):
            return Coroutine(lambda: self._run_body(function, args))
        if not isinstance(node, ast.Lambda) and self._is_generator(node):
            return Lazy(lambda: self._run_body(function, args))
        return self._run_body(function, args)

    def _is_generator(self, node: ast.FunctionDef) -> bool:
        known = self._generators.get(id(node))
        if known is None:
            known = self._generators[id(node)] = has_yield(node)
            self._kept.append(node)
        return known

    def _run_body(self, function: Function, args: Args) -> Value | None:
        key = self._call_key(function, args)
        if key in self._results:
            return self._results[key]
        if (
            len(self._following) >= _DEEPEST_CALLS
            or self.budget <= 0
            or key in self._following
            or sum(entry[0] == id(function.node) for entry in self._following) > 2
        ):
            return None
        scope = Scope(function.scope)
        if function.owner is not None:
            scope.parent = Scope(function.scope, {"__class__": function.owner}, is_class=False)
        self.bind_arguments(function, args, scope)
        here, self.scope = self.scope, scope
        line, fixed = self.line, self.line_is_fixed
        self._following.append(key)
        try:
            node = function.node
            if isinstance(node, ast.Lambda):
                self.budget -= 1
                scope.returned.append(self.value(node.body))
            else:
                self.budget -= len(node.body)
                self.statements(node.body)
        finally:
            self._following.pop()
            self.scope = here
            self.line, self.line_is_fixed = line, fixed
        results = scope.yielded or scope.returned
        result: Value | None = None
        for index, returned in enumerate(results):
            result = returned if index == 0 else join(result, returned)
        self._results[key] = result
        self._kept.append((function, args))
        return result

    def _call_key(self, function: Function, args: Args) -> tuple[object, ...]:
        keys: list[object] = [id(function.node), id(function.scope)]
        keys.extend(map(_identity, args.positional))
        keys.extend((name, _identity(value)) for name, value in args.keywords.items())
        return tuple(keys)

    def call_live(self, function: LiveFunction, args: Args) -> Value | None:
        """Call a function of an earlier cell: from its source, else from its code."""
        live = function.function
        found = self.sources.find(live)
        if found is None:
            return self.run_code(live, args)
        scope = self._live_scope(live)
        if isinstance(found, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [self.live.read(value) for value in live.__defaults__ or ()]
            keyword_defaults = {
                name: self.live.read(value) for name, value in (live.__kwdefaults__ or {}).items()
            }
            followed = Function(found, scope, defaults, keyword_defaults)
            fixed, self.line_is_fixed = self.line_is_fixed, True
            try:
                result = self.call_function(followed, args)
            finally:
                self.line_is_fixed = fixed
            return result
        return None

    def _live_scope(self, live: Any) -> Scope:
        """The scope a live function was defined in: its closure over its globals."""
        key = ("scope", id(live))
        kept = self._results.get(key)
        if isinstance(kept, _KeptScope):
            return kept.scope
        module = self.module_of(self.scope)
        while module.live is not None and module.live is not live.__globals__:
            module = self.global_scope(live.__globals__)
        bound: dict[str, Value | None] = {}
        for name, cell in zip(live.__code__.co_freevars, live.__closure__ or (), strict=False):
            try:
                content = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            bound[name] = (
                LiveClass(content)
                if name == "__class__" and type(content) is type
                else self.live.read(content)
            )
        scope = Scope(module, bound) if bound else module
        self._results[key] = _KeptScope(scope)
        self._kept.append(live)
        return scope

    def global_scope(self, live_globals: Any) -> Scope:
        """The module scope over a dictionary of globals."""
        raise NotImplementedError  # pragma: no cover - abstract

    def run_code(self, function: Any, args: Args) -> Value | None:
        """Follow a function whose source is not at hand."""
        raise NotImplementedError  # pragma: no cover - abstract


class _KeptScope(Value):
    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


def has_yield(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function's own body yields, nested functions left out."""
    pending: list[ast.AST] = list(node.body)
    while pending:
        current = pending.pop()
        if isinstance(current, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(
            current, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
        ):
            pending.extend(ast.iter_child_nodes(current))
    return False


def _identity(value: Value | None) -> object:
    """What tells two arguments apart when a call is followed once for both."""
    if value is None:
        return None
    if isinstance(value, Const) and type(value.value) in (str, int, bool, type(None)):
        return (type(value.value).__name__, value.value)
    if isinstance(value, Ref):
        return value.path
    if isinstance(value, Instance):
        return (value.rule.path, value.never_waits, value.unbounded)
    return id(value)
