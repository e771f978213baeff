"""Factories of dependencies that come with the package."""

from __future__ import annotations

from typing import Any

from executor import AsyncExecutor, NamespaceManager, Transport

__all__ = ["async_executor_factory"]

#: The execution id of an executor that belongs to no durable execution.
LOCAL_EXECUTION_ID = "local-exec"


def async_executor_factory(
    ctx: Any = None,
    namespace_manager: NamespaceManager | None = None,
    transport: Transport | None = None,
    execution_id: str | None = None,
) -> AsyncExecutor:
    """Make an executor that is ready to use: there is no ``initialize()``.

    It can be registered as it is, with ``singleton=False``; each execution then gets its own,
    closed when the execution ends.

    Args:
        ctx: the context of the execution it is for, ours or the SDK's; ``None`` for none.
        namespace_manager: the namespace to run in; a fresh one by default.
        transport: where output goes while a cell runs.
        execution_id: by default the id that ``ctx`` tells, else ``"local-exec"``.
    """
    return AsyncExecutor(
        namespace_manager=namespace_manager
        if namespace_manager is not None
        else NamespaceManager(),
        transport=transport,
        execution_id=execution_id or _execution_id(ctx),
    )


def _execution_id(ctx: Any) -> str:
    """Read the execution's id from a context: ours has ``execution_id``, the SDK's ``info.id``."""
    candidates = (
        getattr(ctx, "execution_id", None),
        getattr(ctx, "id", None),
        getattr(getattr(ctx, "info", None), "id", None),
    )
    return next((c for c in candidates if isinstance(c, str) and c), LOCAL_EXECUTION_ID)
