"""A cell's mode comes with the reason and the line that decided it."""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError

import pytest

from executor.blocking import (
    BlockingCall,
    default_table,
    find_blocking,
    register_blocking,
    register_type,
)
from executor.modes import ExecutionMode
from executor.routing import Route, analyze, blocking_calls, route

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ("await x", ExecutionMode.TOP_LEVEL_AWAIT),
        ("async for x in y: pass", ExecutionMode.TOP_LEVEL_AWAIT),
        ("async with x: pass", ExecutionMode.TOP_LEVEL_AWAIT),
        ("[x async for x in y]", ExecutionMode.TOP_LEVEL_AWAIT),
        ("import time\ntime.sleep(1)\nawait x", ExecutionMode.TOP_LEVEL_AWAIT),
        ("async def f(): await x", ExecutionMode.ASYNC_DEF),
        ("def f(): await x", ExecutionMode.ASYNC_DEF),
        ("f = lambda: (await x)", ExecutionMode.ASYNC_DEF),
        ("if a:\n  async def f(): pass", ExecutionMode.ASYNC_DEF),
        ("input()", ExecutionMode.BLOCKING_SYNC),
        ("x = 'await y'", ExecutionMode.SIMPLE_SYNC),
        ("", ExecutionMode.SIMPLE_SYNC),
        ("x = (", ExecutionMode.SIMPLE_SYNC),
    ],
)
def test_every_kind_of_cell_has_its_mode(source: str, mode: ExecutionMode) -> None:
    assert analyze(source, {}).mode is mode


def test_the_reason_names_the_call_and_its_line() -> None:
    found = analyze("x = 1\nimport time as t\n\nt.sleep(1)", {})
    assert found == Route(ExecutionMode.BLOCKING_SYNC, "time.sleep can wait (line 4)", 4)


def test_a_wait_in_an_earlier_function_is_reported_at_the_line_that_calls_it() -> None:
    namespace: dict[str, object] = {}
    exec("\n\n\nimport time\ndef nap():\n    time.sleep(1)\n", namespace)
    assert analyze("x = 1\nnap()", namespace).line == 2


def test_a_route_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        analyze("1", {}).line = 3  # type: ignore[misc]


def test_all_blocking_calls_of_an_awaiting_cell_are_listed_with_their_lines() -> None:
    source = (
        "import time\n"
        "async def f():\n"
        "    open('x')\n"
        "    await g\n"
        "await f()\n"
        "time.sleep(1)\n"
        "import asyncio\n"
        "await asyncio.sleep(1)\n"
    )
    assert blocking_calls(ast.parse(source), {}) == (
        BlockingCall("open", 3),
        BlockingCall("time.sleep", 6),
    )


def test_a_cell_that_awaits_is_not_searched_for_its_mode() -> None:
    tree = ast.parse("import time\ntime.sleep(1)")
    assert route(tree, {}, is_coroutine=True).mode is ExecutionMode.TOP_LEVEL_AWAIT


def test_users_can_register_functions_and_types_of_their_own() -> None:
    table = default_table()
    register_blocking("mymodule.fetch", "mymodule.connect=mymodule.Client", table=table)
    register_type("mymodule.Client", {"ask"}, table=table, iteration="!")

    def found(source: str) -> list[str]:
        return [call.name for call in find_blocking(ast.parse(source), {}, every=True, table=table)]

    assert found("import mymodule as m\nm.fetch()") == ["mymodule.fetch"]
    assert found("from mymodule import Client\nClient().ask()") == ["mymodule.Client.ask"]
    assert found("from mymodule import connect\nfor x in connect(): pass") == [
        "mymodule.connect",
        "iterating mymodule.Client",
    ]
    assert found("from mymodule import Client\nClient().name()") == []


def test_registering_in_one_table_leaves_the_others_alone() -> None:
    register_blocking("mymodule.only_here", table=default_table())
    assert analyze("import mymodule\nmymodule.only_here()", {}).mode is ExecutionMode.SIMPLE_SYNC


@pytest.mark.parametrize("name", ["fetch", "", "mymodule.fetch=(a"])
def test_a_name_that_cannot_be_registered_says_why(name: str) -> None:
    with pytest.raises(ValueError, match=r"names no module|bracket"):
        register_blocking(name, table=default_table())


def test_a_type_without_a_module_says_why() -> None:
    with pytest.raises(ValueError, match="names no module"):
        register_type("Client", {"ask"}, table=default_table())
