"""The two shortcuts answer what the thorough ways answer, or leave the answer to them."""

from __future__ import annotations

import ast
import importlib
import sysconfig
import textwrap
from pathlib import Path

import pytest
from blocking_cases import Case, namespace_after, read_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.blocking import default_table, register_blocking, register_type
from executor.compiler import compile_cell, rewritten_tree
from executor.innocence import is_innocent, only_defines
from executor.modes import ExecutionMode
from executor.namespace import NamespaceManager
from executor.reach import COMPUTING_MODULES, LIMITED_MODULES
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
QUOTES = [
    "f'",
    'f"',
    "'",
    '"',
    "'''",
    '"""',
    "{",
    "}",
    "(",
    ")",
    "\\",
    "\n",
    "a",
    "#",
    " + ",
    ";",
    "; a",
]
QUOTED = st.lists(st.sampled_from(QUOTES), max_size=14).map("".join)
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
        "import socket\nx = 1",
        "import math, socket\nx = 1",
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
        "d = {'k': 1}\nf'{d['k']}'",
        "d = {'k': 1}\nf\"{d['k']} and {1}\"",
        "x = f'{'('}'\n(\nx\n)",
        'f"{\n1}" + ["a",\ny][0]',
        "f'{1}' f'{{}}'\n'a'",
        "x = 1\nf'{{{x}'",
        "rf'{x}'\nRF\"{x}\"",
        "'''a\nb'''\nx",
        "x\n'''a\nb\n'''",
        'x\n"""a\n\'b\n""" + \'(\' ',
        "f'''{\n1\n}'''\nx",
        "x = 'a\\'('\n\ny",
        "x = 'a\\\nb'\ny",
        "x = 1 + \\\n2\ny",
        "print('a;b')\n';'",
        "r'\\'\nx",
        "r'a\\'b'\nx",
        "'''\n\"\n'''\n\"\"\"\n'\n\"\"\"",
        "elif_ = 1\nelif_",
        "x = 1; y = 2; x + y",
        "x = 1; x  # it's",
        "x = 1; x;",
        "x = 1\ny = 2;\tf(x, y)\n\n",
        "if x: y; z",
        "x; y = 1",
        "x = 'a;b'; x",
        "x = 1; f(\n2)",
        "f(\n1); y",
        "é = 1; é",
        "x=1;del x;y",
        "@f; x",
        "lambda: 0; x",
        "x = [1\n]; x",
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


@settings(max_examples=1000, deadline=None)
@given(QUOTED)
def test_quotes_in_any_order_are_split_as_a_parser_splits_them(source: str) -> None:
    _check_split(source)


@pytest.mark.parametrize("last", ["f'{x} and {x:>{x}}'", "x", "'a;b'", "x  # it's", "'\\n'"])
@pytest.mark.parametrize("first", ["x = 'a\\n'", 'x = """a\nb"""', "x = '#'", "f'{x}; {y!r}'"])
def test_cells_with_strings_of_all_kinds_are_split_without_a_parser(first: str, last: str) -> None:
    body = first + "\n"
    assert split_last(body + last) == (body, "\n" * body.count("\n") + last)


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


@pytest.mark.parametrize("name", sorted(LIMITED_MODULES))
def test_what_a_limited_module_lends_a_cell_is_not_known_to_wait(name: str) -> None:
    module = importlib.import_module(name)
    lent = [each for each in dir(module) if each not in LIMITED_MODULES[name]]
    assert lent
    for function in lent:
        source = f"import {name} as m\nm.{function}(1)"
        if is_innocent(compile_cell(source, "<cell>", 1, 0), {}):
            found = route(ast.parse(source), {}, is_coroutine=False)
            assert found.mode is ExecutionMode.SIMPLE_SYNC, found.reason


@pytest.mark.parametrize(
    "source",
    [
        "os.path.join('a', str(root / 'b'))",
        "import time\ntime.monotonic()",
        "from pathlib import Path\nPath('a').with_suffix('.b').name",
        "import json\njson.dumps([os.sep, path.stem])",
        "now() - 1",
        "joined('a', 'b')",
        "def f():\n    from os import path\n    return path.basename('a')\nf()",
    ],
)
def test_what_only_computes_of_modules_that_also_wait_is_innocent(source: str) -> None:
    namespace = NamespaceManager().namespace
    exec(LIVE, namespace)
    assert is_innocent(compile_cell(source, "<cell>", 1, 0), namespace)


LIVE = """\
import os, time, sys
from pathlib import Path
from time import sleep, time as now
from os.path import join as joined, exists
path = root = Path("a")
class Holder:
    def __init__(self): self.path = path
    def name(self): return self.path.name
    def read(self): return self.path.read_text()
holder = Holder()
"""


@pytest.mark.parametrize(
    "source",
    [
        "time.sleep(1)", "import time as t\nt.sleep(1)", "from time import sleep as s\ns(1)",
        "os.path.exists('a')", "exists('a')", "path.read_text()", "root.parent.iterdir()",
        "holder.read()", "os.system('x')", "sleep(1)", "from os import *", "from .time import x",
        "import operator\noperator.attrgetter('sleep')(time)(1)",
        "match time:\n    case object(sleep=f): f(1)",
        "def f():\n    import time\n    time.sleep(1)\nf()",
        "Path('a').exists()", "os.path.os.system('x')", "sys.modules['time']", "open(path)",
    ],
)  # fmt: skip
def test_what_waits_of_modules_that_also_compute_is_left_to_routing(source: str) -> None:
    namespace = NamespaceManager().namespace
    exec(LIVE, namespace)
    assert not is_innocent(compile_cell(source, "<cell>", 1, 0), namespace)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import os", 0),
        ("from os import path as p, sep", 0),
        ("def f(x=1): return open(x)", 0),
        ("y = x", 0),
        ("x", 0),
        ("async def f(): open('x')", 1),
        ("import asyncio\n\nasync def f(x: int) -> str: yield x", 3),
        ("def f():\n    async def g(): pass\n    return g", 2),
        ("def f(): return (x async for x in y)", 0),
    ],
)
def test_a_cell_that_only_defines_and_imports_is_told_by_its_code(source: str, line: int) -> None:
    cell = compile_cell(source, "<cell>", 1, 0)
    assert only_defines(cell) == line
    found = route(rewritten_tree(cell), {}, is_coroutine=False)
    assert found.mode is (ExecutionMode.ASYNC_DEF if line else ExecutionMode.SIMPLE_SYNC)


@pytest.mark.parametrize(
    "source",
    ["def f(x=g()): pass", "@g\ndef f(): pass", "class A: pass", "x.y", "x = y[0]", "del x"],
)
def test_a_cell_that_may_call_something_is_not_told_by_its_code(source: str) -> None:
    assert only_defines(compile_cell(source, "<cell>", 1, 0)) is None


def test_the_standard_library_is_routed_at_a_glance_as_it_is_routed() -> None:
    """Statements of real files, in a namespace where some of their names mean something."""
    namespace = NamespaceManager().namespace
    exec(LIVE, namespace)
    glances = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[40:70]:
        source = path.read_text("utf-8", "replace")
        lines = source.split("\n")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.stmt):
                continue
            text = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            try:
                cell = compile_cell(text, "<cell>", 1, 0)
            except SyntaxError:
                continue
            if cell.is_coroutine:
                continue
            line = only_defines(cell)
            if line is None and not is_innocent(cell, namespace):
                continue
            glances += 1
            found = route(rewritten_tree(cell), namespace, is_coroutine=False)
            expected = ExecutionMode.ASYNC_DEF if line else ExecutionMode.SIMPLE_SYNC
            assert found.mode is expected, text
    assert glances > 3_000
