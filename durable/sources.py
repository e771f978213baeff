"""The registered function behind ``run_source``: text in, value of its last expression out."""

from __future__ import annotations

from typing import Any

from durable.activation import Execution
from durable.context import DurableContext

__all__ = ["run_source"]


async def run_source(ctx: DurableContext, source: str, *, filename: str | None = None) -> Any:
    """Run source text with top-level await, with ``ctx`` in its namespace.

    Args:
        ctx: The durable context.
        source: Python source.
        filename: The file it came from, for ``__file__``.

    Returns:
        The value of the last expression, or None.
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
    return await executor.execute(source, timeout=None)
