"""What to do with a cell that awaits inside a plain ``def`` or ``lambda``.

CPython rejects such a cell. Here its tree is changed in place, with no wrapper around the cell and
every line and column kept:

- a ``def`` that awaits in its own scope becomes an ``async def``, wherever it stands;
- a ``lambda`` without parameters that awaits becomes a nested ``async def``, placed before the
  statement it stands in, in the same scope, so that every name in it means what it meant.

Left alone, so that CPython's own SyntaxError is what the user sees:

- special methods, which CPython calls synchronously (``__init__``, ``__len__``, ...), other than
  those of the asynchronous protocols and ``__call__``;
- functions under a decorator that must have a synchronous one (``property``, ``lru_cache``,
  ``contextmanager``, ...): they would hand a coroutine to code that never awaits it, or cache it;
- lambdas with parameters, and lambdas inside a comprehension, another lambda or an annotation:
  moved before the statement they would lose the names they close over;
- whatever does not compile as ``async``: ``yield from``, or ``return`` with a value in what would
  become an asynchronous generator.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Rewrite", "awaits_in_own_scope", "is_missing_async", "rewrite"]

_ASYNC_SPECIAL_METHODS = frozenset(
    {"__aenter__", "__aexit__", "__anext__", "__aiter__", "__call__"}
)

# By last name, as written: `functools.cache` and `from functools import cache` are alike.
_SYNCHRONOUS_DECORATORS = frozenset(
    {
        "property", "cached_property", "getter", "setter", "deleter",
        "cache", "lru_cache", "contextmanager", "total_ordering",
    }
)  # fmt: skip

_MISSING_ASYNC_MESSAGES = ("outside async function", "outside of an asynchronous function")

type _Function = ast.FunctionDef | ast.AsyncFunctionDef
type _Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Rewrite(NamedTuple):
    """One change that was made to a cell.

    Attributes:
        line: Line of the function in the user's source, from 1.
        column: Column of the function, from 0.
        change: What was changed into what, for people.
    """

    line: int
    column: int
    change: str


def is_missing_async(error: SyntaxError) -> bool:
    """Whether CPython rejects an ``await`` (or ``async for`` ...) for where it stands."""
    return any(message in (error.msg or "") for message in _MISSING_ASYNC_MESSAGES)


def rewrite(tree: ast.Module) -> tuple[list[Rewrite], list[str]]:
    """Make the awaiting functions of ``tree`` asynchronous, in place.

    Returns:
        The changes in source order, and the module-level names that helper functions took; these
        contain characters that no identifier has, and are to be removed after the cell.
    """
    rewriter = _Rewriter()
    tree.body = rewriter.block(tree.body, in_class=False, at_module=True)
    return sorted(rewriter.rewrites), rewriter.module_helpers


def awaits_in_own_scope(function: _Function | ast.Lambda) -> bool:
    """Whether the body of ``function`` itself awaits, functions nested in it aside."""
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    return any(_is_asynchronous(node) for part in body for node in _own_scope(part))


def _is_asynchronous(node: ast.AST) -> bool:
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        return True
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp):
        return _is_asynchronous_comprehension(node)
    return False


def _is_asynchronous_comprehension(node: _Comprehension) -> bool:
    """A comprehension that awaits makes its function one that must be asynchronous."""
    if any(generator.is_async for generator in node.generators):
        return True
    return any(_is_asynchronous(inner) for part in _inner(node) for inner in _own_scope(part))


def _inner(node: _Comprehension) -> Iterator[ast.AST]:
    """The parts of a comprehension that run in its own scope: all but the first iterable."""
    if isinstance(node, ast.DictComp):
        yield node.key
        yield node.value
    else:
        yield node.elt
    for position, generator in enumerate(node.generators):
        yield generator.target
        if position:
            yield generator.iter
        yield from generator.ifs


def _own_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Walk ``node``, entering only what runs in the scope it stands in."""
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(_same_scope_children(node))


def _same_scope_children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from node.decorator_list
        yield from _defaults(node.args)
    elif isinstance(node, ast.Lambda):
        yield from _defaults(node.args)
    elif isinstance(node, ast.ClassDef):
        yield from node.decorator_list
        yield from node.bases
        yield from node.keywords
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        yield node.generators[0].iter
    elif isinstance(node, ast.AnnAssign):
        yield node.target
        if node.value is not None:
            yield node.value
    elif not isinstance(node, ast.TypeAlias):
        yield from ast.iter_child_nodes(node)


def _defaults(arguments: ast.arguments) -> Iterator[ast.expr]:
    yield from arguments.defaults
    yield from (default for default in arguments.kw_defaults if default is not None)


def _last_name(decorator: ast.expr) -> str:
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    if isinstance(decorator, ast.Attribute):
        return decorator.attr
    return decorator.id if isinstance(decorator, ast.Name) else ""


def _may_become_async(function: ast.FunctionDef) -> bool:
    name = function.name
    special = name.startswith("__") and name.endswith("__")
    if special and name not in _ASYNC_SPECIAL_METHODS:
        return False
    if name == "__aiter__" and not any(
        isinstance(node, ast.Yield) for part in function.body for node in _own_scope(part)
    ):
        # `async for` wants an asynchronous iterator at once: a generator is one, a coroutine not.
        return False
    return not any(_last_name(each) in _SYNCHRONOUS_DECORATORS for each in function.decorator_list)


class _Rewriter:
    """Walks statements block by block, so that a helper can be placed before its statement."""

    def __init__(self) -> None:
        self.rewrites: list[Rewrite] = []
        self.module_helpers: list[str] = []
        self._helper_count = 0

    def block(
        self, statements: list[ast.stmt], *, in_class: bool, at_module: bool
    ) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in statements:
            helpers = self._take_lambdas(statement)
            if at_module:
                self.module_helpers.extend(helper.name for helper in helpers)
            result.extend(helpers)
            result.append(self._statement(statement, in_class=in_class, at_module=at_module))
            if in_class and helpers:
                result.append(_delete(helpers, statement))
        return result

    def _statement(self, statement: ast.stmt, *, in_class: bool, at_module: bool) -> ast.stmt:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            return self._function(statement)
        if isinstance(statement, ast.ClassDef):
            statement.body = self.block(statement.body, in_class=True, at_module=False)
            return statement
        self._blocks_of(statement, in_class=in_class, at_module=at_module)
        return statement

    def _blocks_of(self, node: ast.AST, *, in_class: bool, at_module: bool) -> None:
        for field in ("body", "orelse", "finalbody"):
            nested = getattr(node, field, None)
            if isinstance(nested, list) and nested:
                setattr(node, field, self.block(nested, in_class=in_class, at_module=at_module))
        for clause in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            self._blocks_of(clause, in_class=in_class, at_module=at_module)

    def _function(self, function: _Function) -> ast.stmt:
        function.body = self.block(function.body, in_class=False, at_module=False)
        if (
            isinstance(function, ast.AsyncFunctionDef)
            or not awaits_in_own_scope(function)
            or not _may_become_async(function)
        ):
            return function
        self.rewrites.append(
            Rewrite(
                function.lineno,
                function.col_offset,
                f"def {function.name} was made async def {function.name}: it awaits",
            )
        )
        replacement = ast.AsyncFunctionDef(
            **{field: getattr(function, field) for field in function._fields}
        )
        return ast.copy_location(replacement, function)

    def _take_lambdas(self, statement: ast.stmt) -> list[ast.AsyncFunctionDef]:
        replacer = _LambdaReplacer(self, statement)
        replacer.replace_in_header()
        return replacer.helpers

    def helper(self, function: ast.Lambda, *, reusable: bool) -> ast.AsyncFunctionDef:
        """Turn an awaiting lambda into a function under a name that no user can write.

        Args:
            function: The lambda.
            reusable: Whether the name is read before any other statement can bind it again;
                then it is the name that a real lambda has.
        """
        self._helper_count += 1
        answer = ast.copy_location(ast.Return(value=function.body), function.body)
        helper = ast.AsyncFunctionDef(
            name="<lambda>" if reusable else f"<lambda {self._helper_count}>",
            args=function.args,
            body=self.block([answer], in_class=False, at_module=False),
            decorator_list=[],
            returns=None,
            type_params=[],
        )
        change = "a lambda was made an async function: it awaits"
        self.rewrites.append(Rewrite(function.lineno, function.col_offset, change))
        return ast.copy_location(helper, function)


class _LambdaReplacer(ast.NodeTransformer):
    """Replaces the awaiting lambdas in the expressions of one statement by names of helpers."""

    def __init__(self, rewriter: _Rewriter, statement: ast.stmt) -> None:
        self.helpers: list[ast.AsyncFunctionDef] = []
        self._rewriter = rewriter
        self._statement = statement
        self._is_compound = hasattr(statement, "body") or isinstance(statement, ast.Match)

    def replace_in_header(self) -> None:
        """Replace in what the statement evaluates in its own scope: no blocks, no annotations."""
        statement = self._statement
        if isinstance(statement, ast.TypeAlias):
            return
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            self._replace_each(statement.decorator_list)
            self.visit(statement.args)
        elif isinstance(statement, ast.ClassDef) and statement.type_params:
            # The bases of a generic class are evaluated in a scope of their own.
            self._replace_each(statement.decorator_list)
        elif isinstance(statement, ast.AnnAssign):
            if statement.value is not None:
                statement.value = self.visit(statement.value)
        else:
            super().generic_visit(statement)

    def _replace_each(self, expressions: list[ast.expr]) -> None:
        expressions[:] = [self.visit(each) for each in expressions]

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:  # named by ast
        self.visit(node.args)
        arguments = node.args
        if arguments.posonlyargs or arguments.args or arguments.kwonlyargs:
            return node
        if arguments.vararg or arguments.kwarg or not awaits_in_own_scope(node):
            return node
        reusable = not self._is_compound and not self.helpers
        helper = self._rewriter.helper(node, reusable=reusable)
        self.helpers.append(helper)
        return ast.copy_location(ast.Name(id=helper.name, ctx=ast.Load()), node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.stmt):
            return node
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            node.generators[0].iter = self.visit(node.generators[0].iter)
            return node
        return super().generic_visit(node)


def _delete(helpers: list[ast.AsyncFunctionDef], statement: ast.stmt) -> ast.stmt:
    targets: list[ast.expr] = [
        ast.copy_location(ast.Name(id=helper.name, ctx=ast.Del()), statement) for helper in helpers
    ]
    return ast.copy_location(ast.Delete(targets=targets), statement)
