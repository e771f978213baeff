"""Sostenuto: top-level await that survives ``kill -9``.

The shim over the Resonate SDK: :class:`Durable` registers functions and source text as
durable executions, resolves their dependencies by factory, and replays them after a crash.

Names are loaded when they are first used, so that the command line starts without the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.loading import load

if TYPE_CHECKING:
    from durable.context import DurableContext as DurableContext
    from durable.context import StepFuture as StepFuture
    from durable.dependencies import Dependencies as Dependencies
    from durable.dependencies import Value as Value
    from durable.errors import DurableError as DurableError
    from durable.events import Event as Event
    from durable.events import EventKind as EventKind
    from durable.factories import async_executor_factory as async_executor_factory
    from durable.handles import Handle as Handle
    from durable.records import ExecutionRecord as ExecutionRecord
    from durable.records import StepRecord as StepRecord
    from durable.runtime import Durable as Durable

_HOMES = {
    "Dependencies": "durable.dependencies",
    "Durable": "durable.runtime",
    "DurableContext": "durable.context",
    "DurableError": "durable.errors",
    "Event": "durable.events",
    "EventKind": "durable.events",
    "ExecutionRecord": "durable.records",
    "Handle": "durable.handles",
    "StepFuture": "durable.context",
    "StepRecord": "durable.records",
    "Value": "durable.dependencies",
    "async_executor_factory": "durable.factories",
}

__all__ = [
    "Dependencies",
    "Durable",
    "DurableContext",
    "DurableError",
    "Event",
    "EventKind",
    "ExecutionRecord",
    "Handle",
    "StepFuture",
    "StepRecord",
    "Value",
    "async_executor_factory",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(load(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
