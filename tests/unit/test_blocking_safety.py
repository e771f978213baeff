"""Detection runs nothing of the user's, never raises, and always gives the same answer."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.blocking import find_blocking
from executor.modes import ExecutionMode
from executor.routing import analyze, route

pytestmark = pytest.mark.unit

STDLIB = Path(os.__file__).parent
STDLIB_FILES = sorted(
    path for path in STDLIB.rglob("*.py") if not {"site-packages", "test"} & set(path.parts)
)


class _Ran(BaseException):
    """Raised by hostile objects when analysis runs their code."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise _Ran


def _hostile(kind: str) -> Any:
    """An object that refuses everything; made in a function, out of the test runner's sight."""
    refused = dict.fromkeys(
        [
            f"__{name}__"
            for name in (
                *("getattribute", "getattr", "eq", "hash", "bool", "call", "len", "iter", "next"),
                *("enter", "exit", "getitem", "repr", "str", "truediv", "get", "contains"),
            )
        ],
        _refuse,
    )
    properties = {name: property(_refuse) for name in ("__class__", "__dict__", "value")}
    if kind == "instance":
        return type("Hostile", (), refused | properties)()
    if kind == "class":
        names = ("__eq__", "__hash__", "__getattribute__", "__call__", "__instancecheck__")
        meta = type("Meta", (type,), dict.fromkeys((*names, "__subclasscheck__"), _refuse))
        return type.__call__(meta, "Hostile", (), {})
    if kind == "module":
        names = ("__getattribute__", "__getattr__")
        return type("Module", (ModuleType,), dict.fromkeys(names, _refuse))("hostile")
    if kind == "dict":
        names = ("__getitem__", "__iter__", "get", "items", "values", "keys", "__len__")
        return type("Dict", (dict,), dict.fromkeys(names, _refuse))(a=1)
    if kind == "list":
        return [_hostile("instance"), _hostile("class")]
    return {"a": _hostile("instance"), "b": [_hostile("dict")]}


KINDS = ["instance", "class", "module", "dict", "list", "nested"]

USES = [
    "x", "x()", "x.value", "x.value()", "x[0]", "x['a']", "for y in x: y()", "with x as y: y.z()",
    "x / 'a'", "x == x", "x in x", "f'{x}'", "len(x)", "[y for y in x]", "if x: pass", "-x",
    "list(x)", "x.get('a')", "getattr(x, 'value')", "x.value = 1", "class B(x): pass", "x.a.b.c()",
    "isinstance(x, x)", "vars(x)", "x.__dict__", "print(x, file=x)", "del x[0]", "x += 1",
    "import functools; functools.partial(x, x)()", "y, *z = x", "match x:\n case x(): pass",
]  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_objects_are_never_run(kind: str, use: str) -> None:
    namespace = {"x": _hostile(kind)}
    found = analyze(use, namespace)
    assert found.mode is ExecutionMode.SIMPLE_SYNC
    find_blocking(ast.parse(use), namespace, every=True)


def test_a_function_of_an_earlier_cell_is_followed_but_not_run() -> None:
    ran: list[int] = []
    namespace: dict[str, Any] = {"ran": ran}
    exec("def f():\n    ran.append(1)\n    open('x')\n", namespace)
    assert analyze("f()", namespace).mode is ExecutionMode.BLOCKING_SYNC
    assert ran == []


def test_iterators_of_earlier_cells_are_not_advanced() -> None:
    namespace: dict[str, Any] = {}
    exec("def g():\n    yield 1\n    yield 2\nit = g()\nm = map(abs, [-1])", namespace)
    analyze("for x in it: pass\nlist(m)", namespace)
    assert next(namespace["it"]) == 1
    assert list(namespace["m"]) == [1]


SNIPPETS = [
    "import time", "time.sleep(1)", "f = time.sleep", "f(1)", "def f(x): return g(x)",
    "def g(x): return f(x) + f(x)", "class A(B): pass", "class B(A): pass", "x = [x, x]", "x()",
    "for x in x: f(x)", "while x: x = x.y", "with x as x: x()", "x = lambda: x()", "x.x = x",
    "x[x] = x", "del x", "global x", "try: f(1)\nexcept x as x: x", "import x.y as f", "x = f(g)",
    "f = g = x = [f, g]", "x = (x for x in x)", "next(x)", "@f\ndef g(): yield g", "x += f",
    "if x: f = x\nelse: g = x", "match x:\n case [x, *f]: f", "from os import *", "f = f or g",
    "exec('exec(\"f()\")')", "x = {**x, 'a': x}", "x = f'{x!r:{x}}'", "return x", "yield x",
    "nonlocal x", "await x", "async def f(): await x", "x = super().x", "type X[T] = T",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SNIPPETS), max_size=25))
def test_any_program_gets_the_same_answer_twice(parts: list[str]) -> None:
    source = "\n".join(parts)
    assert analyze(source, {}) == analyze(source, {})


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gets_an_answer(source: str) -> None:
    assert analyze(source, {}) == analyze(source, {})


@pytest.mark.parametrize("path", STDLIB_FILES[::4], ids=lambda path: str(path.relative_to(STDLIB)))
def test_standard_library_file_gets_an_answer(path: Path) -> None:
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        pytest.fail(f"{path} is not UTF-8")
    assert analyze(source, {}) == analyze(source, {})


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "(" * 90 + "1" + ")" * 90,
        "x = " + "-" * 5_000 + "1",
        "x = " + "+".join(["1"] * 5_000),
        "x" + ".a" * 5_000,
        "x = " + "f(" * 80 + ")" * 80,
        "if x:\n" + "".join(" " * n + "if x:\n" for n in range(1, 90)) + " " * 90 + "pass",
        "\0",
        "\ud800",
        "def f(:",
        "x = 1\n" * 20_000,
    ],
    ids=range(10),
)
def test_extreme_sources_get_an_answer(source: str) -> None:
    assert analyze(source, {}) == analyze(source, {})


def test_deep_trees_do_not_hide_what_follows_them() -> None:
    node: ast.expr = ast.Constant(1)
    for _ in range(sys.getrecursionlimit() * 2):
        node = ast.UnaryOp(ast.USub(), node)
    sleep = ast.parse("import time\ntime.sleep(1)").body
    tree = ast.fix_missing_locations(ast.Module([sleep[0], sleep[1]], []))
    deep = ast.Expr(node, lineno=1, col_offset=0)
    tree.body.insert(0, deep)
    assert route(tree, {}, is_coroutine=False).mode is ExecutionMode.BLOCKING_SYNC


def test_calls_that_grow_exponentially_end() -> None:
    lines = ["def f0(x): return x"]
    lines += [f"def f{n}(x): return f{n - 1}([x]) or f{n - 1}({{x}})" for n in range(1, 40)]
    source = "\n".join([*lines, "f39(1)"])
    assert analyze(source, {}).mode is ExecutionMode.SIMPLE_SYNC


@pytest.mark.parametrize("source", ["not a tree", 3, None])
def test_what_is_no_source_gets_an_answer(source: Any) -> None:
    assert analyze(source, {}).mode is ExecutionMode.SIMPLE_SYNC
