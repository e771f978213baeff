"""Reads a syntax tree in the order it would run, keeping track of what names are.

One pass: expressions are evaluated to the values of
:mod:`executor.blocking_values`, statements bind names, branches meet again,
and functions are followed when they are called - not where they are defined.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from executor.blocking_functions import Functions
from executor.blocking_scopes import Names
from executor.blocking_values import (
    Args,
    Attributes,
    ClassDef,
    Const,
    Function,
    Instance,
    Iterable,
    Lazy,
    LiveClass,
    LiveInstance,
    Mapping,
    Native,
    Object,
    Property,
    Ref,
    Scope,
    Sequence,
    Union,
    Value,
    join,
)

__all__ = ["Expressions"]

_MOST_ITEMS = 256  # of a list put together from others


class Expressions(Functions):
    """Evaluates expressions; statements are read by the subclass."""

    def value(self, node: ast.expr) -> Value | None:
        """What an expression could be; blocking calls in it are noted on the way."""
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is not None:
            return evaluate(self, node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return None

    # ------------------------------------------------------------------- leaves

    def _constant(self, node: ast.Constant) -> Value | None:
        return Const(node.value)

    def _name(self, node: ast.Name) -> Value | None:
        return self.look_up(node.id)

    def _attribute(self, node: ast.Attribute) -> Value | None:
        owner = self.value(node.value)
        if owner is None:
            return None
        if not self.line_is_fixed:
            self.line = node.lineno
        return self.attribute(owner, node.attr)

    def _call(self, node: ast.Call) -> Value | None:
        function = self.value(node.func)
        positional: list[Value | None] = []
        open_ended = False
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                given = self.value(argument.value)
                if isinstance(given, Sequence) and given.complete:
                    positional.extend(given.items)
                else:
                    item = self.iterate(given)
                    open_ended = True
                    positional.extend([item] if item is not None else [])
            else:
                positional.append(self.value(argument))
        keywords: dict[str, Value | None] = {}
        for keyword in node.keywords:
            given = self.value(keyword.value)
            if keyword.arg is not None:
                keywords[keyword.arg] = given
            elif isinstance(given, Mapping):
                keywords.update({k: v for k, v in given.entries.items() if type(k) is str})
            else:
                open_ended = True
        if function is None:
            return None
        if not self.line_is_fixed:
            self.line = node.lineno
        if isinstance(function, Ref) and function.path in _SCOPE_CALLS:
            return self._scope_call(function.path, positional)
        return self.call(function, Args(positional, keywords, open_ended=open_ended))

    def _scope_call(self, path: str, positional: list[Value | None]) -> Value | None:
        """``globals()``, ``locals()``, ``vars()`` and ``super()`` depend on where they stand."""
        if path == "super":
            return self._super()
        if path == "vars" and positional:
            owner = positional[0]
            return None if owner is None else Attributes(owner)
        scope = self.scope if path != "globals" else self.module_of(self.scope)
        return _Globals(scope)

    def _super(self) -> Value | None:
        scope: Scope | None = self.scope
        while scope is not None and "__class__" not in scope.bound:
            scope = scope.parent
        if scope is None:
            return None
        cls, instance = scope.bound["__class__"], next(iter(self.scope.bound.values()), None)
        if not isinstance(instance, Object | LiveInstance):
            return None
        view = Object(ClassDef("super", [], {}), instance.rule_instance)
        bases = cls.bases if isinstance(cls, ClassDef) else []
        if isinstance(cls, LiveClass):
            bases = [LiveClass(base) for base in cls.cls.__mro__[1:-1]]
        for base in reversed(bases):
            if isinstance(base, ClassDef | LiveClass):
                return _Super(base, instance)
        return view

    # ---------------------------------------------------------------- operators

    def _bin_op(self, node: ast.BinOp) -> Value | None:
        left = self._left_operand(node)
        right = self.value(node.right)
        return self.operator(node.op, left, right)

    def _left_operand(self, node: ast.BinOp) -> Value | None:
        """The left side, unrolled: long sums nest deeper than Python's stack."""
        spine = []
        left = node.left
        while isinstance(left, ast.BinOp):
            spine.append(left)
            left = left.left
        value = self.value(left)
        for inner in reversed(spine):
            value = self.operator(inner.op, value, self.value(inner.right))
        return value

    def operator(self, op: ast.operator, left: Value | None, right: Value | None) -> Value | None:
        """A binary operator: ``/`` joins paths, ``+`` and ``|`` join containers."""
        if isinstance(op, ast.Div):
            for side in (left, right):
                if isinstance(side, Instance) and "joinpath" in side.rule.methods:
                    return Instance(side.rule)
        if isinstance(op, ast.Add) and isinstance(left, Sequence) and isinstance(right, Sequence):
            items = left.items + right.items
            return Sequence(items[:_MOST_ITEMS], complete=len(items) <= _MOST_ITEMS)
        if isinstance(op, ast.BitOr) and isinstance(left, Ref | Union) and isinstance(right, Ref):
            return join(left, right)  # flags: LOCK_EX | LOCK_NB
        if isinstance(op, ast.BitOr) and isinstance(left, Mapping) and isinstance(right, Mapping):
            return Mapping(left.entries | right.entries)
        if isinstance(op, ast.Mult) and isinstance(left, Sequence):
            return Sequence(left.items, complete=False)
        name = _OPERATORS.get(type(op))
        if name is not None and isinstance(left, Object | LiveInstance):
            result = self.call_dunder(left, f"__{name}__", Args([right]))
            if result is None and isinstance(left.rule_instance, Instance):
                return self.operator(op, left.rule_instance, right)
            return result
        if name is not None and isinstance(right, Object | LiveInstance):
            return self.call_dunder(right, f"__r{name}__", Args([left]))
        return None

    def _bool_op(self, node: ast.BoolOp) -> Value | None:
        result: Value | None = None
        is_and = isinstance(node.op, ast.And)
        for index, operand in enumerate(node.values):
            value = self.value(operand)
            truth = self.truth(value)
            if truth is (not is_and):  # the rest is never evaluated
                return value if index == 0 else join(result, value)
            if truth is None or index == len(node.values) - 1:
                result = value if result is None else join(result, value)
        return result

    def _unary_op(self, node: ast.UnaryOp) -> Value | None:
        if isinstance(node.op, ast.Not):
            truth = self.test(node.operand)
            return None if truth is None else Const(not truth)
        value = self.value(node.operand)
        if isinstance(node.op, ast.USub) and isinstance(value, Const):
            if type(value.value) in (int, float):
                return Const(-value.value)
        return None

    def test(self, node: ast.expr) -> bool | None:
        """Whether a condition certainly holds; None where it may or may not.

        What a call answers is never certain: it is read here for what it does,
        and a stand-in such as ``lambda: True`` says nothing of the next turn.
        """
        truth = self.truth(self.value(node))
        return None if isinstance(node, ast.Call) else truth

    def truth(self, value: Value | None) -> bool | None:
        """Whether a value is certainly true or false; None where it may be either."""
        if isinstance(value, Const):
            return bool(value.value)
        if isinstance(value, Ref) and value.path == "typing.TYPE_CHECKING":
            return False
        if isinstance(value, Object | LiveInstance):
            self.call_dunder(value, "__bool__")
        return None

    def _compare(self, node: ast.Compare) -> Value | None:
        left = self.value(node.left)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator)
            if isinstance(op, ast.In | ast.NotIn):
                if isinstance(right, Object | LiveInstance):
                    self.call_dunder(right, "__contains__", Args([left]))
                elif not isinstance(right, Sequence | Mapping):
                    self.iterate(right)
            elif isinstance(left, Object | LiveInstance):
                self.call_dunder(left, _COMPARISONS.get(type(op), "__eq__"), Args([right]))
            left = right
        return None

    def _if_exp(self, node: ast.IfExp) -> Value | None:
        truth = self.test(node.test)
        if truth is not None:
            return self.value(node.body if truth else node.orelse)
        return join(self.value(node.body), self.value(node.orelse))

    def _named_expr(self, node: ast.NamedExpr) -> Value | None:
        value = self.value(node.value)
        scope = self.scope
        while scope.returned is _COMPREHENSION and scope.parent is not None:
            scope = scope.parent
        here, self.scope = self.scope, scope
        self.bind(node.target.id, value)
        self.scope = here
        return value

    # --------------------------------------------------------------- containers

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Value | None:
        items: list[Value | None] = []
        complete = True
        for element in node.elts:
            if isinstance(element, ast.Starred):
                given = self.value(element.value)
                if isinstance(given, Sequence):
                    items.extend(given.items)
                else:
                    items.append(self.iterate(given))
                    complete = False
            else:
                items.append(self.value(element))
        for item in items if isinstance(node, ast.Set) else ():
            self.call_dunder(item, "__hash__")
        return Sequence(items, complete=complete)

    def _dict(self, node: ast.Dict) -> Value | None:
        result = Mapping({})
        for key, item in zip(node.keys, node.values, strict=True):
            known = None if key is None else self.value(key)
            value = self.value(item)
            if key is None:
                if isinstance(value, Mapping):
                    result.entries.update(value.entries)
            elif isinstance(known, Const) and type(known.value) in (str, int, bool):
                result.entries[known.value] = value
            else:
                self.call_dunder(known, "__hash__")
                result.others = value if result.others is None else join(result.others, value)
                result.keys = known if result.keys is None else join(result.keys, known)
        return result

    def _subscript(self, node: ast.Subscript) -> Value | None:
        owner = self.value(node.value)
        key = self.value(node.slice)
        if isinstance(owner, _Globals):
            return owner.read(self, key)
        return self.subscript(owner, key)

    def _starred(self, node: ast.Starred) -> Value | None:
        return self.iterate(self.value(node.value))

    def _joined_str(self, node: ast.JoinedStr) -> Value | None:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.value(part.value)
                if part.format_spec is not None:
                    self.value(part.format_spec)
                self.show(value, chr(part.conversion) if part.conversion > 0 else "")
        return None

    # ----------------------------------------------------------- comprehensions

    def _comprehension(self, node: ast.ListComp | ast.SetComp) -> Value | None:
        return Iterable(self._run_comprehension(node))

    def _dict_comprehension(self, node: ast.DictComp) -> Value | None:
        result = Mapping({})
        pair = self._run_comprehension(node)
        if isinstance(pair, Sequence):
            result.keys, result.others = pair.items
        return result

    def _generator_expression(self, node: ast.GeneratorExp) -> Value | None:
        first = self.value(node.generators[0].iter)
        scope = self.scope

        def run() -> Value | None:
            here, self.scope = self.scope, scope
            try:
                return self._run_comprehension(node, first=(first,))
            finally:
                self.scope = here

        return Lazy(run)

    def _run_comprehension(
        self, node: Any, first: tuple[Value | None] | None = None
    ) -> Value | None:
        here = self.scope
        inner = Scope(here)
        inner.returned = _COMPREHENSION
        try:
            for index, generator in enumerate(node.generators):
                if index:
                    self.scope = inner
                    source = self.value(generator.iter)
                else:
                    source = self.value(generator.iter) if first is None else first[0]
                self.scope = inner
                if isinstance(source, Sequence) and source.complete and not source.items:
                    return None
                self.assign(generator.target, self.iterate(source))
                for condition in generator.ifs:
                    if self.test(condition) is False:
                        return None
            if isinstance(node, ast.DictComp):
                return Sequence([self.value(node.key), self.value(node.value)])
            return self.value(node.elt)
        finally:
            self.scope = here

    def assign(self, target: ast.expr, value: Value | None) -> None:
        """Assign to a name, attribute, item or to several at once."""
        if isinstance(target, ast.Name):
            self.bind(target.id, value)
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, value)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, Iterable(value))
        elif isinstance(target, ast.Attribute):
            self._assign_attribute(self.value(target.value), target.attr, value)
        elif isinstance(target, ast.Subscript):
            self._assign_item(self.value(target.value), self.value(target.slice), value)

    def _unpack(self, targets: list[ast.expr], value: Value | None) -> None:
        starred = any(isinstance(target, ast.Starred) for target in targets)
        if isinstance(value, Sequence) and not starred and len(value.items) == len(targets):
            for target, item in zip(targets, value.items, strict=True):
                self.assign(target, item)
            return
        item = self.iterate(value)
        for target in targets:
            self.assign(target, item)

    def _assign_attribute(self, owner: Value | None, name: str, value: Value | None) -> None:
        if isinstance(owner, Ref):
            self.replaced[f"{owner.path}.{name}"] = value
        elif isinstance(owner, Object | LiveInstance):
            cls: Value = owner.cls if isinstance(owner, Object) else LiveClass(type(owner.instance))
            member = self.class_member(cls, name)
            self.call_dunder(owner, "__setattr__", Args([Const(name), value]))
            if isinstance(member, Property) and member.setter is not None:
                self.call(member.setter, Args([owner, value]))
            else:
                owner.attributes[name] = value
        elif isinstance(owner, ClassDef):
            owner.bound[name] = value
        elif isinstance(owner, Function):
            owner.attributes[name] = value

    def _assign_item(self, owner: Value | None, key: Value | None, value: Value | None) -> None:
        if isinstance(owner, Mapping):
            if isinstance(key, Const) and type(key.value) in (str, int, bool):
                owner.entries[key.value] = value
            else:
                owner.others = value if owner.others is None else join(owner.others, value)
                owner.keys = key if owner.keys is None else join(owner.keys, key)
        elif isinstance(owner, Sequence):
            owner.items.append(value)
        elif isinstance(owner, _Globals):
            if isinstance(key, Const) and type(key.value) is str:
                owner.scope.bound[key.value] = value
        elif isinstance(owner, Instance):
            self.subscript(owner, key)
        else:
            self.call_dunder(owner, "__setitem__", Args([key, value]))

    # ---------------------------------------------------------------- functions

    def _lambda(self, node: ast.Lambda) -> Value | None:
        return self.function(node)

    def _yield(self, node: ast.Yield) -> Value | None:
        self.scope.yielded.append(None if node.value is None else self.value(node.value))
        return None

    def _yield_from(self, node: ast.YieldFrom) -> Value | None:
        self.scope.yielded.append(self.iterate(self.value(node.value)))
        return None

    def _await(self, node: ast.Await) -> Value | None:
        return self.run_coroutine(self.value(node.value))


class _Globals(Native):
    """The result of ``globals()``: reading an item reads a name."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        super().__init__(lambda _: None)
        self.scope = scope

    def read(self, names: Names, key: Value | None) -> Value | None:
        if not (isinstance(key, Const) and type(key.value) is str):
            return None
        here, names.scope = names.scope, self.scope
        try:
            return names.look_up(key.value)
        finally:
            names.scope = here


class _Super(Object):
    """``super()``: methods come from the base, attributes from the instance."""

    __slots__ = ()

    def __init__(self, base: ClassDef | LiveClass, instance: Object | LiveInstance) -> None:
        super().__init__(base, instance.rule_instance)
        self.attributes = instance.attributes


_COMPREHENSION: list[Value | None] = []  # marks the scopes that ``:=`` passes through
_SCOPE_CALLS = frozenset({"globals", "locals", "vars", "super"})
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.Mod: "mod",
    ast.FloorDiv: "floordiv", ast.RShift: "rshift", ast.LShift: "lshift", ast.BitOr: "or",
    ast.BitAnd: "and", ast.BitXor: "xor", ast.Pow: "pow", ast.MatMult: "matmul",
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "__lt__", ast.Gt: "__gt__", ast.LtE: "__le__", ast.GtE: "__ge__", ast.NotEq: "__ne__",
}  # fmt: skip
_EXPRESSIONS: dict[type[ast.expr], Callable[[Expressions, Any], Value | None]] = {
    ast.Constant: Expressions._constant,
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.Call: Expressions._call,
    ast.BinOp: Expressions._bin_op,
    ast.BoolOp: Expressions._bool_op,
    ast.UnaryOp: Expressions._unary_op,
    ast.Compare: Expressions._compare,
    ast.IfExp: Expressions._if_exp,
    ast.NamedExpr: Expressions._named_expr,
    ast.List: Expressions._sequence,
    ast.Tuple: Expressions._sequence,
    ast.Set: Expressions._sequence,
    ast.Dict: Expressions._dict,
    ast.Subscript: Expressions._subscript,
    ast.Starred: Expressions._starred,
    ast.JoinedStr: Expressions._joined_str,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.DictComp: Expressions._dict_comprehension,
    ast.GeneratorExp: Expressions._generator_expression,
    ast.Lambda: Expressions._lambda,
    ast.Yield: Expressions._yield,
    ast.YieldFrom: Expressions._yield_from,
    ast.Await: Expressions._await,
}
