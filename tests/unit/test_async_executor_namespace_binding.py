"""One live dictionary: globals and locals of every cell, on every path."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from executor import ENGINE_INTERNALS, AsyncExecutor, NamespaceManager
from tests.unit.executor_modules import modules, run_with_exec, run_with_executor

pytestmark = pytest.mark.unit

PATHS = {
    "direct": "def f(): return later\nasync def g(): return later",
    "awaiting": "await asyncio.sleep(0)\ndef f(): return later\nasync def g(): return later",
    "fallback": "def f(): return later\ndef g():\n    await asyncio.sleep(0)\n    return later",
    "threaded": "import time; time.sleep(0)\ndef f(): return later\nasync def g(): return later",
}


@pytest.fixture
async def executor():
    async with AsyncExecutor() as made:
        yield made


@pytest.mark.parametrize("source", PATHS.values(), ids=PATHS.keys())
async def test_functions_bind_to_the_live_namespace_on_every_path(executor, source) -> None:
    live = executor.namespace.namespace
    await executor.execute(source)
    assert live["f"].__globals__ is live
    assert live["g"].__globals__ is live
    await executor.execute("later = 5")
    assert await executor.execute("f(), await g()") == (5, 5)
    live["later"] = 6
    assert await executor.execute("f(), await g()") == (6, 6)
    assert executor.namespace.namespace is live


@pytest.mark.parametrize("source", PATHS.values(), ids=PATHS.keys())
async def test_global_assignments_persist_on_every_path(executor, source) -> None:
    await executor.execute(source + "\ndef s():\n    global made\n    made = 1\ns()\nkept = 2")
    assert await executor.execute("made, kept") == (1, 2)


def test_an_update_returns_what_it_changed_by_identity() -> None:
    class Hostile:
        def __eq__(self, other):
            raise RuntimeError

        def __bool__(self):
            raise RuntimeError

        __hash__ = None

    manager, value = NamespaceManager(), Hostile()
    assert manager.update_namespace({"a": value, "b": 1}) == {"a": value, "b": 1}
    assert manager.update_namespace({"a": value, "b": 2}) == {"b": 2}
    assert manager.update_namespace({"a": value}, source_context="async") == {}


def test_engine_names_and_dunders_are_not_overwritten() -> None:
    manager = NamespaceManager()
    before = dict(manager.namespace)
    updates = dict.fromkeys((*ENGINE_INTERNALS, "__name__", "__builtins__", "__x__"), 0)
    assert manager.update_namespace(updates) == {}
    assert manager.namespace == before
    assert manager.update_namespace({"_": 1}, source_context="engine") == {"_": 1}


def test_a_given_dictionary_is_lived_in() -> None:
    mine = {"x": 1, "__name__": "mine"}
    manager = NamespaceManager(mine)
    assert manager.namespace is mine
    assert mine["__name__"] == "mine"
    assert "asyncio" in mine


def test_results_shift_and_are_numbered() -> None:
    manager = NamespaceManager()
    for value in (1, None, 2, 3):
        manager.record_expression_result(value)
    names = manager.namespace
    assert (names["_"], names["__"], names["___"]) == (3, 2, 1)
    assert names["Out"] == {1: 1, 2: 2, 3: 3}


def test_results_are_bounded() -> None:
    manager = NamespaceManager()
    for value in range(1, 5000):
        manager.record_expression_result(value)
    assert len(manager.namespace["Out"]) <= 1000
    assert manager.namespace["Out"][4999] == 4999


def test_an_underscore_in_builtins_is_left_alone() -> None:
    import builtins

    builtins._ = str
    try:
        manager = NamespaceManager()
        del manager.namespace["_"]
        manager.record_expression_result(1)
        assert "_" not in manager.namespace
    finally:
        del builtins._


async def test_a_result_dictionary_of_the_users_is_left_alone(executor) -> None:
    await executor.execute("Out = 'mine'")
    await executor.execute("1")
    assert executor.namespace.namespace["Out"] == "mine"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(modules())
async def test_a_module_run_in_pieces_ends_as_exec_ends_it(module) -> None:
    statements, cuts = module
    assert await run_with_executor(statements, cuts) == run_with_exec("\n".join(statements))
