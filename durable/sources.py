"""The registered function behind ``run_source``: text in, value of its last expression out."""

from __future__ import annotations

from typing import Any

from durable.activation import Execution
from durable.cells import split_cells
from durable.context import DurableContext
from durable.events import EventKind

__all__ = ["run_source"]


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
    # The execution's own deadline stops it; the executor needs none beside it.
    cells = split_cells(source)
    value: Any = None
    for cell in cells:
        if len(cells) > 1:
            place = f"{cell.number} of {len(cells)}, line {cell.line}"
            execution.host.emit(
                EventKind.CELL_STARTED, execution.id, execution.id, cell.title, detail=place
            )
        value = await executor.execute(cell.text, timeout=None)
    return value
