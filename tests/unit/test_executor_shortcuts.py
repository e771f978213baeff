"""The two shortcuts answer what the thorough ways answer, or leave the answer to them."""

from __future__ import annotations

import ast
import importlib
import sysconfig
from pathlib import Path

import pytest
from blocking_cases import Case, namespace_after, read_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.blocking import default_table, register_blocking, register_type
from executor.compiler import compile_cell, rewritten_tree
from executor.innocence import is_innocent
from executor.modes import ExecutionMode
from executor.namespace import NamespaceManager
from executor.reach import COMPUTING_MODULES
from executor.routing import route
from executor.tails import split_last
from tests.unit.executor_cases import load
from tests.unit.executor_modules import modules

pytestmark = pytest.mark.unit

CASES = read_cases()
PIECES = [
    "x",
    "1",
    "'",
    '"',
    "(",
    ")",
    "[",
    "]",
    "#",
    "=",
    ",",
    ":",
    "+",
    " for ",
    " in ",
    "if ",
    "\n",
]
SCRAMBLED = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
CELLS = sorted({cell.source for case in load() for cell in case.cells})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_cell_that_waits_is_innocent(case: Case) -> None:
    namespace = namespace_after(case.setup, with_source=False)
    manager = NamespaceManager(namespace)
    cell = compile_cell(case.source, "<case>", 1, 0)
    if not cell.is_coroutine and is_innocent(cell, manager.namespace):
        found = route(rewritten_tree(cell), manager.namespace, is_coroutine=False)
        assert found.mode is ExecutionMode.SIMPLE_SYNC


@pytest.mark.parametrize(
    "source",
    [
        "x = 1 + 1",
        "sum(n * n for n in range(10))",
        "import math\nmath.sqrt(2)",
        "from collections import Counter\nCounter('abc')",
        "class A:\n    def __init__(self, x): self.x = x\nA(1).x",
        "def f(n): return max(n, 2)\n[f(n) for n in range(3)]",
    ],
)
def test_a_cell_that_only_computes_is_innocent(source: str) -> None:
    assert is_innocent(compile_cell(source, "<cell>", 1, 0), NamespaceManager().namespace)


OF_THE_SESSION = """\
import math
class Point:
    scale = 2
    __slots__ = ("x", "_y", "__dict__")
    def __init__(self, x): self.x = x; self._y = [x, {"k": (x,)}]
    @property
    def double(self): return self.x * self.scale
    @classmethod
    def origin(cls): return cls(0)
    @staticmethod
    def plus(a, b): return math.fsum((a, b))
    def __repr__(self): return f"Point({self.x})"
class Sub(Point):
    def more(self): return super().double + 1
point, sub = Point(1), Sub(2)
method = sub.more
def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
count = counter()
many = list(range(100_000))
table = {str(n): point for n in range(1000)}
from collections import Counter, defaultdict
groups = defaultdict(list, a=[point])
from math import sqrt
"""


@pytest.mark.parametrize(
    "source",
    [
        "point", "point.double", "Point(3)", "sub.more()", "method()", "Point.origin()",
        "count()", "many[3]", "sum(many)", "table['1'].x", "groups['a'].append(sub)", "sqrt(2)",
        "Counter('aab').most_common(1)", "str(point)", "[each.x for each in (point, sub)]",
    ],
)  # fmt: skip
def test_what_a_session_made_of_computing_parts_is_innocent(source: str) -> None:
    namespace = NamespaceManager().namespace
    exec(OF_THE_SESSION, namespace)
    assert is_innocent(compile_cell(source, "<cell>", 1, 0), namespace)


WAITING = """\
import socket, random
from collections import defaultdict
sock = socket.socket()
class Holder:
    def __init__(self): self.inner = sock
class Slotted:
    __slots__ = ("inner",)
    def __init__(self): self.inner = sock
class Inherits(Holder): pass
class Class:
    inner = sock
    @property
    def prop(self): return sock
    @staticmethod
    def call(): return sock
class ByProperty:
    @property
    def prop(self): return opened()
def opened(): return sock
class Meta(type):
    def __call__(cls): return sock.recv(1)
class Made(metaclass=Meta): pass
class Listed(list): pass
holder, slotted, inherits, by_property = Holder(), Slotted(), Inherits(), ByProperty()
bound = holder.__init__
listed = Listed([sock])
nested = [1, [2, {"k": (sock,)}]]
made_by = defaultdict(sock.recv)
def outer():
    s = sock
    return lambda: s
closed = outer()
class Super:
    def get(self): return sock
class Subclass(Super):
    def get(self): return super().get()
subclass = Subclass()
def tagged(): return 1
tagged.client = sock
receive = sock.recv
class Client: pass
client = Client()
"""


@pytest.mark.parametrize(
    "name",
    [
        "sock", "holder", "slotted", "inherits", "Class", "by_property", "Made", "bound", "listed",
        "nested", "made_by", "closed", "subclass", "tagged", "receive", "random._os",
    ],
)  # fmt: skip
def test_nothing_is_innocent_through_which_something_that_waits_is_reached(name: str) -> None:
    namespace = NamespaceManager().namespace
    exec(WAITING, namespace)
    namespace["sock"].close()
    cell = compile_cell(name, "<cell>", 1, 0)
    assert not is_innocent(cell, namespace)


def test_what_users_say_waits_is_not_innocent(monkeypatch: pytest.MonkeyPatch) -> None:
    table = default_table()
    monkeypatch.setattr("executor.reach.DEFAULT_TABLE", table)
    register_type("__main__.Client", "fetch", table=table)
    register_blocking("__main__.opened", table=table)
    namespace = NamespaceManager().namespace
    exec("class Client: pass\nclient = Client()\ndef opened(): return 1", namespace)
    for source in ("client", "opened()"):
        assert not is_innocent(compile_cell(source, "<cell>", 1, 0), namespace)


@pytest.mark.parametrize("name", sorted(COMPUTING_MODULES))
def test_no_function_of_a_computing_module_is_known_to_wait(name: str) -> None:
    module = importlib.import_module(name)
    for function in dir(module):
        source = f"import {name}\n{name}.{function}(1)"
        cell = compile_cell(source, "<cell>", 1, 0)
        # These two wait as their argument does, which here is no file.
        if source[-12:-3] in ("json.load", "json.dump") or not is_innocent(cell, {}):
            continue
        found = route(ast.parse(source), {}, is_coroutine=False)
        assert found.mode is ExecutionMode.SIMPLE_SYNC, found.reason


@pytest.mark.parametrize(
    "source",
    [
        "import random\nrandom._os.system('x')",
        "import json\njson.codecs.getencoder('x')",
        "import random as r\nr._os.system('x')",
        "def f(): return random._os\nf().system('x')",
    ],
)
def test_a_module_of_a_computing_module_is_not_reached_unseen(source: str) -> None:
    namespace = NamespaceManager().namespace
    if "import" not in source:
        exec("import random", namespace)
    assert not is_innocent(compile_cell(source, "<cell>", 1, 0), namespace)


@pytest.mark.parametrize(
    "source",
    [
        "open('f')",
        "import time\nx = 1",
        "import math, time\nx = 1",
        "from os import *",
        "async def f(): pass",
        "x.__globals__",
        "taken()",
        "sock",
        "[s for s in socks]",
        "deep()",
        "with_default()",
        "closed_over()",
    ],
)
def test_a_cell_that_is_not_plain_is_left_to_routing(source: str) -> None:
    namespace = NamespaceManager().namespace
    setup = (
        "import socket\n"
        "sock = socket.socket(); socks = [sock]\n"
        "from time import sleep as taken\n"
        "def deep(): return deeper()\n"
        "def deeper(): return sock\n"
        "def with_default(s=sock): return s\n"
        "def outer():\n    s = sock\n    return lambda: s\n"
        "closed_over = outer()\n"
    )
    exec(setup, namespace)
    namespace["sock"].close()
    assert not is_innocent(compile_cell(source, "<cell>", 1, 0), namespace)


def _check_split(source: str) -> None:
    """What was split without a parser is what a parser splits."""
    parts = split_last(source)
    if parts is None:
        return
    body_text, last_text = parts
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        tree = compile(source, "<cell>", "exec", flags, True)
    except SyntaxError:
        return
    last = tree.body[-1] if tree.body else None
    expression = None
    if last_text:
        try:
            expression = compile(last_text, "<cell>", "eval", flags, True).body
        except SyntaxError:
            expression = None
    if not isinstance(last, ast.Expr):
        assert expression is None
        return
    if expression is None and "*" in last_text:
        return  # `*values,` is left to the tree when "eval" refuses it
    assert expression is not None
    assert ast.dump(expression, include_attributes=True) == ast.dump(
        last.value, include_attributes=True
    )
    body = compile(body_text, "<cell>", "exec", flags, True).body if body_text else []
    assert [ast.dump(each, include_attributes=True) for each in body] == [
        ast.dump(each, include_attributes=True) for each in tree.body[:-1]
    ]


@pytest.mark.parametrize("source", CELLS)
def test_cells_are_split_as_a_parser_splits_them(source: str) -> None:
    _check_split(source)


@pytest.mark.parametrize(
    "source",
    [
        "['a]'\n, 2]",
        "f(\nx = 1\n)",
        "[\nfor_\n]",
        "[i\nfor i in range(3)]",
        "(1\nif x else\n2)",
        "x = 1 # it's\n[x]",
        "# only 'this\nx",
        "x\n# the end",
        "x\n\n   \n",
        "'#'\n'a' # \"b\n",
        "lambda: 0",
        "lambda x=1: x",
        "x: int",
        "x, y = 1, 2",
        "x == 1",
        "x.y = 1",
        "x[0] = 1",
        "type X = int",
        "match x:\n  case 1: 2\nx",
        "if x: 1\nelse: 2",
        "@f\ndef g(): pass\ng",
        "x = 'a' 'b'\n'c'",
        "f'{d[\"(\"]}'",
        "x = (f'{d[')']}'\n, 2)",
        "print(1,\n2)\nx",
        "{\n'a': 1\n}",
        "not x",
        "x = yield_",
        "é = 1\né",
    ],
)
def test_awkward_cells_are_split_as_a_parser_splits_them(source: str) -> None:
    _check_split(source)


@settings(max_examples=300, deadline=None)
@given(modules())
def test_generated_cells_are_split_as_a_parser_splits_them(module) -> None:
    _check_split("\n".join(module[0]))


@settings(max_examples=500, deadline=None)
@given(SCRAMBLED)
def test_scrambled_text_is_split_as_a_parser_splits_it(source: str) -> None:
    _check_split(source)


def test_the_standard_library_is_split_as_a_parser_splits_it() -> None:
    """Prefixes of real files end in every kind of statement."""
    checked = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]:
        source = path.read_text("utf-8", "replace")
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        lines = source.split("\n")
        for node in tree.body[:40]:
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            _check_split(text)
            checked += 1
    assert checked > 500
