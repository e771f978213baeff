"""The public surface is frozen: a name that goes, or a parameter that changes, fails here first.

When a change is meant, change the record below with it and say so in the changelog.
"""

from __future__ import annotations

import importlib
import inspect
from enum import Enum
from importlib import resources
from importlib.metadata import version

import pytest

pytestmark = pytest.mark.unit

NAMES = {
    "executor": {
        "AsyncExecutor", "ThreadedExecutor", "NamespaceManager", "ENGINE_INTERNALS",
        "ExecutionMode", "Transport",
    },
    "promises": {"AwaitablePromise"},
    "store": {"SqliteConnection"},
    "durable": {
        "Durable", "Dependencies", "async_executor_factory", "DurableContext", "DurableError",
        "Event", "EventKind", "ExecutionRecord", "Handle", "StepFuture", "StepRecord", "Value",
    },
    "durable.testing": {
        "CrashInjector", "Divergence", "ManualClock", "ReplayReport", "crash_at_every_operation",
        "crash_once", "replay", "replay_all",
    },
}  # fmt: skip

#: What callers pass, by name and order; a parameter may be added at the end or by keyword.
PARAMETERS = {
    "executor.AsyncExecutor": ["namespace_manager", "transport", "execution_id", "timeout"],
    "executor.AsyncExecutor.execute": ["self", "source", "timeout"],
    "executor.AsyncExecutor.analyze_execution_mode": ["self", "source"],
    "executor.NamespaceManager.update_namespace": ["self", "updates", "source_context"],
    "executor.NamespaceManager.record_expression_result": ["self", "value"],
    "store.SqliteConnection": ["path", "pid", "group", "clock", "synchronous"],
    "store.SqliteConnection.send": ["self", "req", "headers"],
    "durable.Durable": ["url"],
    "durable.Durable.set_dependency": ["self", "name", "factory", "singleton"],
    "durable.Durable.run": ["self", "id", "fn", "args", "kwargs"],
    "durable.Durable.rpc": ["self", "id", "fn", "args", "kwargs"],
    "durable.Durable.run_source": ["self", "id", "source", "timeout"],
    "durable.Durable.get": ["self", "id"],
    "durable.Durable.promise": ["self", "id"],
    "durable.Durable.execution": ["self", "id"],
    "durable.Durable.executions": ["self", "state", "name"],
    "durable.async_executor_factory": ["ctx", "namespace_manager", "transport", "execution_id"],
    "durable.DurableContext.run": ["self", "fn", "args", "kwargs"],
    "durable.DurableContext.get_dependency": ["self", "name"],
    "durable.testing.replay": ["app_or_db", "execution_id"],
}

METHODS = {
    "executor.AsyncExecutor": ["namespace", "execution_id", "interrupt", "aclose"],
    "promises.AwaitablePromise": [
        "set_result", "set_exception", "cancel", "done", "from_future", "from_handle", "__await__",
    ],
    "store.SqliteConnection": ["start", "send", "tick", "stop"],
    "durable.Durable": ["start", "close", "resolve", "reject", "cancel", "steps", "add_listener"],
    "durable.Handle": ["__await__", "cancel"],
    "durable.DurableContext": ["sleep", "promise", "rpc", "options"],
    "durable.ExecutionRecord": [
        "id", "state", "result", "error", "notes", "created_at", "settled_at",
    ],
}  # fmt: skip


def found(path: str) -> object:
    """Import what a dotted path names."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            value = getattr(value, name)
        return value
    raise LookupError(path)


@pytest.mark.parametrize("module", NAMES)
def test_public_names_stay(module: str) -> None:
    assert NAMES[module] <= set(importlib.import_module(module).__all__)
    assert all(hasattr(importlib.import_module(module), name) for name in NAMES[module])


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters_keep_their_names_and_order(path: str) -> None:
    names = list(inspect.signature(found(path)).parameters)  # type: ignore[arg-type]
    expected = PARAMETERS[path]
    assert [name for name in names if name in expected] == expected


@pytest.mark.parametrize("path", METHODS)
def test_methods_and_attributes_stay(path: str) -> None:
    assert [name for name in METHODS[path] if not hasattr(found(path), name)] == []


def test_execution_modes_keep_their_values() -> None:
    modes = found("executor.ExecutionMode")
    assert isinstance(modes, type)
    assert issubclass(modes, Enum)
    assert {mode.name: mode.value for mode in modes} == {
        "TOP_LEVEL_AWAIT": "top_level_await",
        "ASYNC_DEF": "async_def",
        "BLOCKING_SYNC": "blocking_sync",
        "SIMPLE_SYNC": "simple_sync",
    }


def test_exit_codes_keep_their_meaning() -> None:
    from durable.cli.exits import ExitCode

    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "RAISED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "SUSPENDED": 4,
        "TIMED_OUT": 124,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("package", ["executor", "promises", "store", "durable"])
def test_packages_tell_type_checkers_that_they_are_typed(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_the_version_comes_from_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    from durable.cli import main

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"sostenuto {version('sostenuto')}\n"
