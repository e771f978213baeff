"""Reads statements: binds names, takes every branch that could run, stops where the cell does."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from collections.abc import Mapping as AbstractMapping
from types import ModuleType
from typing import Any

from executor import names
from executor.blocking_flow import Expressions
from executor.blocking_values import (
    NEVER,
    UNBOUND,
    Args,
    ClassDef,
    Const,
    Function,
    Iterable,
    Mapping,
    Object,
    Property,
    Ref,
    Scope,
    Sequence,
    Static,
    Value,
)

__all__ = ["Statements"]

_DEEPEST_SECOND_PASS = 3  # nested loops read twice: 2**3 passes at most


class Statements(Expressions):
    """Runs statements over the values of expressions."""

    def __init__(self, *args: Any, namespace: AbstractMapping[str, Any], **options: Any) -> None:
        super().__init__(*args, **options)
        self.scope = self.main = Scope(None, live=namespace)
        self._globals: dict[int, Scope] = {}
        self._exits: list[list[dict[str, Value | None]]] = []
        self._loops = 0

    def global_scope(self, live_globals: Any) -> Scope:
        """The module scope over a dictionary of globals."""
        if live_globals is self.main.live:
            return self.main
        return self._globals.setdefault(id(live_globals), Scope(None, live=live_globals))

    def cell(self, body: list[ast.stmt]) -> None:
        """Read a whole cell; a statement nested too deep to follow is passed over."""
        for statement in body:
            try:
                if self.statement(statement):
                    return
            except RecursionError:
                self.scope = self.main

    def statements(self, body: list[ast.stmt]) -> bool:
        """Run a block; whether it certainly ends early (return, raise, break, exit)."""
        return any(self.statement(statement) for statement in body)

    def statement(self, node: ast.stmt) -> bool:
        """Run one statement; whether nothing after it in its block can run."""
        if not self.line_is_fixed:
            self.line = node.lineno
        run = _STATEMENTS.get(type(node))
        return False if run is None else bool(run(self, node))

    # ------------------------------------------------------------------ simple

    def _expr(self, node: ast.Expr) -> bool:
        return self.value(node.value) is NEVER

    def _assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value)

    def _ann_assign(self, node: ast.AnnAssign) -> None:
        value = None if node.value is None else self.value(node.value)
        if node.value is None and not self.scope.is_class:
            return
        if value is None:
            value = self.annotated(node.annotation, self.scope)
        if node.value is not None:
            self.assign(node.target, value)
        if self.scope.is_class and isinstance(node.target, ast.Name):
            fields = self.scope.yielded
            fields.append(Sequence([Const(node.target.id), value]))

    def _aug_assign(self, node: ast.AugAssign) -> None:
        read = ast.copy_location(_as_load(node.target), node.target)
        left, right = self.value(read), self.value(node.value)
        value = self.operator(node.op, left, right)
        if isinstance(left, Sequence) and isinstance(node.op, ast.Add):
            if not isinstance(right, Sequence):
                left.items.append(self.iterate(right))
                value = left
        self.assign(node.target, value)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                if isinstance(part, ast.Name):
                    self.call_dunder(self.look_up(part.id), "__del__")  # if it was the last name
                    self._home(part.id).bound[part.id] = UNBOUND
                elif isinstance(part, ast.Attribute):
                    self.call_dunder(self.value(part.value), "__delattr__", Args([None]))
                elif isinstance(part, ast.Subscript):
                    owner = self.value(part.value)
                    self.call_dunder(owner, "__delitem__", Args([self.value(part.slice)]))

    def _return(self, node: ast.Return) -> bool:
        self.scope.returned.append(None if node.value is None else self.value(node.value))
        return True

    def _raise(self, node: ast.Raise) -> bool:
        for part in (node.exc, node.cause):
            if part is not None:
                self.value(part)
        return True

    def _assert(self, node: ast.Assert) -> bool:
        truth = self.test(node.test)
        if node.msg is not None and truth is not True:
            before = dict(self.scope.bound)
            self.value(node.msg)
            self.scope.bound = before
        return truth is False and isinstance(node.test, ast.Constant)

    def _leave_loop(self, node: ast.stmt) -> bool:
        if self._exits:
            self._exits[-1].append(dict(self.scope.bound))
        return True

    def _global(self, node: ast.Global) -> None:
        self.scope.globals.update(node.names)

    def _nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocals.update(node.names)

    def _type_alias(self, node: Any) -> None:
        self.assign(node.name, None)

    # ------------------------------------------------------- import statements

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname is not None:
                self.bind(alias.asname, Ref(self.table.canonical(alias.name)))
            else:
                top = alias.name.partition(".")[0]
                self.bind(top, Ref(self.table.canonical(top)))

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            for alias in node.names:
                self.bind(alias.asname or alias.name, None)
            return
        module = Ref(self.table.canonical(node.module))
        for alias in node.names:
            if alias.name == "*":
                self._import_star(module)
            else:
                self.bind(alias.asname or alias.name, self.attribute(module, alias.name))

    def _import_star(self, module: Ref) -> None:
        for name in self.table.members.get(module.path, ()):
            if not name.startswith("_"):
                self.bind(name, self.attribute(module, name))
        live = sys.modules.get(module.path)
        if type(live) is ModuleType:
            public = names.module_attribute(live, "__all__")
            for name in public if type(public) is list else ():
                if type(name) is str and name not in self.scope.bound:
                    self.bind(name, self.attribute(module, name))

    # ---------------------------------------------------------------- branches

    def _if(self, node: ast.If) -> bool:
        truth = self.test(node.test)
        if truth is not None:
            return self.statements(node.body if truth else node.orelse)
        before = dict(self.scope.bound)
        body_ends = self.statements(node.body)
        after = self.scope.bound
        self.scope.bound = before
        else_ends = self.statements(node.orelse)
        if else_ends:
            self.scope.bound = after
        elif not body_ends:
            self.meet(self.scope.bound, after)
        return body_ends and else_ends

    def _match(self, node: ast.Match) -> bool:
        subject = self.value(node.subject)
        before = dict(self.scope.bound)
        outcomes = []
        for case in node.cases:
            self.scope.bound = dict(before)
            self._capture(case.pattern, subject)
            if case.guard is not None:
                self.value(case.guard)
            if not self.statements(case.body):
                outcomes.append(self.scope.bound)
        last = node.cases[-1]
        exhausted = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
        exhausted = exhausted and last.guard is None
        if not exhausted:
            outcomes.append(before)
        return self._resume(outcomes)

    def _resume(self, outcomes: list[dict[str, Value | None]]) -> bool:
        """Go on from any of the outcomes; whether there is none."""
        if not outcomes:
            return True
        self.scope.bound = outcomes[0]
        for outcome in outcomes[1:]:
            self.meet(self.scope.bound, outcome)
        return False

    def _capture(self, pattern: ast.pattern, subject: Value | None) -> None:
        if isinstance(pattern, ast.MatchAs):
            if pattern.pattern is not None:
                self._capture(pattern.pattern, subject)
            if pattern.name is not None:
                self.bind(pattern.name, subject)
        elif isinstance(pattern, ast.MatchClass):
            cls = self.value(pattern.cls)
            for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                self._capture(inner, self.attribute(subject, name))
            for inner in pattern.patterns:
                rule = self.rule_of(cls)
                self._capture(inner, subject if rule is not None else None)
        elif isinstance(pattern, ast.MatchSequence):
            item = self.iterate(subject)
            known = isinstance(subject, Sequence) and len(subject.items) == len(pattern.patterns)
            for index, inner in enumerate(pattern.patterns):
                known_item = (
                    subject.items[index] if isinstance(subject, Sequence) and known else item
                )
                self._capture(inner, known_item)
        elif isinstance(pattern, ast.MatchOr):
            for inner in pattern.patterns:
                self._capture(inner, subject)
        elif isinstance(pattern, ast.MatchMapping):
            for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
                self._capture(inner, self.subscript(subject, self.value(key)))
        elif isinstance(pattern, ast.MatchStar) and pattern.name is not None:
            self.bind(pattern.name, Iterable(None))

    # ------------------------------------------------------------------- loops

    def _for(self, node: ast.For | ast.AsyncFor) -> bool:
        source = self.value(node.iter)
        item = self.iterate(source)
        if isinstance(source, Sequence) and source.complete and not source.items:
            return self.statements(node.orelse)

        def turn() -> bool:
            self.assign(node.target, item)
            return self.statements(node.body)

        self._loop(turn, may_skip=not (isinstance(source, Sequence) and source.items))
        return self.statements(node.orelse)

    def _while(self, node: ast.While) -> bool:
        truth = self.test(node.test)
        if truth is False:
            return self.statements(node.orelse)

        def turn() -> bool:
            ends = self.statements(node.body)
            if not ends:
                self.value(node.test)
            return ends

        left = self._loop(turn, may_skip=truth is None)
        if isinstance(node.test, ast.Constant):  # while True: left by break alone
            return not left
        return self.statements(node.orelse)

    def _loop(self, turn: Callable[[], bool], *, may_skip: bool) -> bool:
        """Run a loop's body, twice where the first turn changes what names are.

        Returns:
            Whether the loop can be left from inside.
        """
        before = dict(self.scope.bound)
        self._exits.append([])
        self._loops += 1
        try:
            ends = turn()
            after = self.scope.bound
            changed = any(after.get(name) is not value for name, value in before.items())
            if changed and not ends and self._loops <= _DEEPEST_SECOND_PASS:
                self.meet(dict(before), after)
                ends = turn()
        finally:
            self._loops -= 1
            exits = self._exits.pop()
        outcomes = list(exits)
        if not ends:
            outcomes.append(self.scope.bound)
        if may_skip or not outcomes:
            outcomes.append(before)
        self._resume(outcomes)
        return bool(exits)

    # ----------------------------------------------------- with, try, functions

    def _with(self, node: ast.With) -> bool:
        managers = []
        for item in node.items:
            manager = self.value(item.context_expr)
            entered = self.enter(manager)
            managers.append(manager)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, entered)
        ends = self.statements(node.body)
        if not self.line_is_fixed:
            self.line = node.lineno
        for manager in reversed(managers):
            self.leave(manager)
        return ends and not self._suppresses(managers)

    def _suppresses(self, managers: list[Value | None]) -> bool:
        """Whether a manager may swallow the exception that ends the block."""
        return any(manager is None or isinstance(manager, Ref) for manager in managers)

    def _async_with(self, node: ast.AsyncWith) -> bool:
        for item in node.items:
            manager = self.value(item.context_expr)
            entered = self.run_coroutine(self.call_dunder(manager, "__aenter__"))
            if item.optional_vars is not None:
                self.assign(item.optional_vars, entered)
        return self.statements(node.body)

    def _try(self, node: ast.Try) -> bool:
        before = dict(self.scope.bound)
        body_ends = self.statements(node.body)
        raised_from = self.scope.bound
        outcomes = []
        if not body_ends:
            self.scope.bound = dict(raised_from)
            if not self.statements(node.orelse):
                outcomes.append(self.scope.bound)
        for handler in node.handlers:
            self.scope.bound = dict(before)
            self.meet(self.scope.bound, raised_from)
            if handler.type is not None:
                self.value(handler.type)
            if handler.name is not None:
                self.bind(handler.name, None)
            if not self.statements(handler.body):
                outcomes.append(self.scope.bound)
        ends = self._resume(outcomes)
        return self.statements(node.finalbody) or ends

    def _function_def(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        decorators = [self.value(decorator) for decorator in node.decorator_list]
        function: Value | None = self.function(node)
        for decorator in reversed(decorators):
            decorated = None
            if isinstance(decorator, Ref) and decorator.path in self.table.functions:
                continue
            if decorator is not None:
                decorated = self.call(decorator, Args([function]))
            if decorated is not None:
                function = decorated
        self.bind(node.name, function)

    def _class_def(self, node: ast.ClassDef) -> None:
        decorators = [self.value(decorator) for decorator in node.decorator_list]
        bases = [self.value(base) for base in node.bases if not isinstance(base, ast.Starred)]
        keywords = {keyword.arg: self.value(keyword.value) for keyword in node.keywords}
        here = self.scope
        inner = self.scope = Scope(here, is_class=True)
        try:
            self.statements(node.body)
        finally:
            self.scope = here
        made = ClassDef(node.name, bases, inner.bound)
        made.fields = self._fields(bases, inner)
        made.metaclass = keywords.get("metaclass")
        for base in bases:
            if made.metaclass is None and isinstance(base, ClassDef):
                made.metaclass = base.metaclass
        for member in inner.bound.values():
            function = member.function if isinstance(member, Static | Property) else member
            if isinstance(function, Function) and function.owner is None:
                function.owner = made
        self._made_class(made)
        result: Value | None = made
        for decorator in reversed(decorators):
            result = self.call(decorator, Args([result])) or result
        for base in bases:
            hook = self.class_member(base, "__init_subclass__")
            if hook is not names.MISSING and hook is not None:
                self.call(hook, Args([made]))
        self.bind(node.name, result)

    def _made_class(self, made: ClassDef) -> None:
        """Do what making a class runs: its metaclass, ``__set_name__``, an enum's members."""
        for name in ("__new__", "__init__"):
            maker = self.class_member(made.metaclass, name)
            if isinstance(maker, Function):
                self.call(maker, Args([made.metaclass, Const(made.name), None, Mapping({})]))
        is_enum = any(isinstance(base, Ref) and base.path in _ENUMS for base in made.bases)
        for name, member in list(made.bound.items()):
            self.call_dunder(member, "__set_name__", Args([made, Const(name)]))
            if is_enum and isinstance(member, Const):
                made.bound[name] = Object(made, None)

    def _fields(self, bases: list[Value | None], inner: Scope) -> list[tuple[str, Value | None]]:
        fields = [field for base in bases if isinstance(base, ClassDef) for field in base.fields]
        fields.extend(
            (field.items[0].value, field.items[1])
            for field in inner.yielded
            if isinstance(field, Sequence) and isinstance(field.items[0], Const)
        )
        inner.yielded.clear()
        return fields

    # ------------------------------------------------------------------- texts

    def run_text(self, source: str) -> Value | None:
        """Follow ``exec`` or ``eval`` of a literal text."""
        try:
            tree = ast.parse(source.strip())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        self.budget -= len(tree.body)
        if self.budget < 0 or len(self._following) > 8:
            return None
        fixed, self.line_is_fixed = self.line_is_fixed, True
        self._following.append(("text", source))
        try:
            if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
                return self.value(tree.body[0].value)
            self.statements(tree.body)
        finally:
            self.line_is_fixed = fixed
            self._following.pop()
        return None


def _as_load(target: ast.expr) -> ast.expr:
    """The target of ``x += 1`` read as an expression."""
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    return target


_ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag", "enum.IntFlag"})
_STATEMENTS: dict[type[ast.stmt], Callable[[Statements, Any], Any]] = {
    ast.Expr: Statements._expr,
    ast.Assign: Statements._assign,
    ast.AnnAssign: Statements._ann_assign,
    ast.AugAssign: Statements._aug_assign,
    ast.Delete: Statements._delete,
    ast.Return: Statements._return,
    ast.Raise: Statements._raise,
    ast.Assert: Statements._assert,
    ast.Break: Statements._leave_loop,
    ast.Continue: Statements._leave_loop,
    ast.Global: Statements._global,
    ast.Nonlocal: Statements._nonlocal,
    ast.TypeAlias: Statements._type_alias,
    ast.Import: Statements._import,
    ast.ImportFrom: Statements._import_from,
    ast.If: Statements._if,
    ast.Match: Statements._match,
    ast.For: Statements._for,
    ast.AsyncFor: Statements._for,
    ast.While: Statements._while,
    ast.With: Statements._with,
    ast.AsyncWith: Statements._async_with,
    ast.Try: Statements._try,
    ast.TryStar: Statements._try,
    ast.FunctionDef: Statements._function_def,
    ast.AsyncFunctionDef: Statements._function_def,
    ast.ClassDef: Statements._class_def,
}
