"""The registered function behind ``run_source``: text in, value of its last expression out."""

from __future__ import annotations

from typing import Any

from durable.activation import Execution
from durable.cells import split_cells
from durable.context import DurableContext
from durable.events import EventKind
from executor.interrupts import protect_package

__all__ = ["run_source"]

#: Seconds by which the watchdog leaves the first word to the loop, which stops code
#: in a better way where it still runs.
_LOOP_FIRST_S = 0.05

#: Ten years of seconds: a deadline beyond is none, and threads cannot wait so long.
_LIMIT_MAX_S = 10 * 365 * 86_400.0

# What a cell's interruption must never strike: code that keeps the state of steps.
for _package in ("durable", "promises", "resonate", "resonate_base", "store"):
    protect_package(_package)


async def run_source(ctx: DurableContext, source: str, *, filename: str | None = None) -> Any:
    """Run source text with top-level await, with ``ctx`` in its namespace.

    Source with ``# %%`` markers runs cell by cell, in one namespace and one execution;
    listeners are told which cell begins.

    Args:
        ctx: The durable context.
        source: Python source.
        filename: The file it came from, for ``__file__``.

    Returns:
        The value of the last expression of the last cell, or None.
    """
    executor = await ctx.aget_dependency("async_executor")
    namespace = executor.namespace
    names: dict[str, Any] = {"ctx": ctx}
    if filename is not None:
        namespace.namespace["__file__"] = filename
    namespace.update_namespace(names, source_context="durable")
    execution: Execution = ctx._execution  # noqa: SLF001 - the same layer
    execution.namespace = namespace.namespace
    interrupt = getattr(executor, "interrupt", None)  # an app may bring an executor of its own
    if interrupt is None:
        return await _run_cells(execution, executor, source)
    leave = execution.host.watch_held(execution.id, interrupt)
    try:
        return await _run_cells(execution, executor, source)
    finally:
        leave()


async def _run_cells(execution: Execution, executor: Any, source: str) -> Any:
    cells = split_cells(source)
    value: Any = None
    for cell in cells:
        if len(cells) > 1:
            place = f"{cell.number} of {len(cells)}, line {cell.line}"
            execution.host.emit(
                EventKind.CELL_STARTED, execution.id, execution.id, cell.title, detail=place
            )
        value = await executor.execute(cell.text, timeout=_limit_s(execution))
    return value


def _limit_s(execution: Execution) -> float | None:
    """Return the seconds after which the executor has to end a cell by itself.

    The execution's deadline stops what awaits. Code that holds the event loop is
    stopped by the executor's watchdog alone, which runs in a thread of its own.
    """
    left_s = execution.left_s()
    return left_s + _LOOP_FIRST_S if left_s < _LIMIT_MAX_S else None
