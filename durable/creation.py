"""Creating executions: by hand, and by schedules.

On private names of the SDK, see :mod:`durable.engine`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from resonate.resonate import Resonate
from resonate.types import Args, PromiseRecord, ScheduleRecord, Value

__all__ = ["NewExecution", "create_execution", "list_scheduled"]


class NewExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution to create, arguments encoded.

    Attributes:
        timeout: Its deadline from now.
        target: Group or address whose worker is to run it; None for the app's own group.
    """

    id: str
    name: str
    version: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout: timedelta
    target: str | None


async def create_execution(
    engine: Resonate, new: NewExecution, *, here: bool
) -> PromiseRecord | None:
    """Create an execution, or find the one that has its id.

    The SDK's own ``run`` and ``rpc`` keep the record they are answered with to themselves,
    which would have to be asked for again; and where they fail they leave a subscription
    behind that nothing settles.

    Args:
        engine: The engine.
        new: What to create.
        here: Run it in this process, where this process gets its task.

    Returns:
        The execution as recorded; None where it exists and another task of it is under way.

    Raises:
        ResonateError: The store refused or did not answer.
    """
    request = engine._encode_create_req(  # noqa: SLF001 - the requests of run and rpc
        engine._build_root_promise_create_req(  # noqa: SLF001
            new.id,
            new.name,
            Args(args=new.args, kwargs=new.kwargs),
            new.version,
            new.timeout,
            new.target,
        )
    )
    sender, codec = engine._sender, engine.promises.codec  # noqa: SLF001
    if not here:
        return codec.decode_promise(await sender.promise_create(request))
    answer = await sender.task_create_or_conflict(
        engine._pid,  # noqa: SLF001
        round(engine._ttl / timedelta(milliseconds=1)),  # noqa: SLF001
        request,
    )
    if answer == "conflict":
        return None
    record = codec.decode_promise(answer.promise)
    if answer.task.state == "acquired":
        run = engine._core.execute_until_blocked_outer(  # noqa: SLF001
            answer.task.id, answer.task.version, record, answer.preload
        )
        engine._spawn(engine._bounded_execute(run))  # noqa: SLF001
    return record


def list_scheduled(engine: Resonate) -> None:
    """Tag what schedules start like what is started by hand, so that it is found and listed."""
    create = engine.schedules.create

    async def create_tagged(
        id: str,
        cron: str,
        promise_id: str,
        promise_timeout: int,
        promise_param: Value,
        promise_tags: dict[str, str] | None = None,
    ) -> ScheduleRecord:
        tags = {"resonate:scope": "global", **(promise_tags or {})}
        return await create(id, cron, promise_id, promise_timeout, promise_param, tags)

    engine.schedules.create = create_tagged  # type: ignore[method-assign]
