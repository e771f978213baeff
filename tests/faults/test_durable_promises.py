"""Durable promises by id: made anywhere, settled anywhere, awaited everywhere."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from processes import running

from durable import Durable
from durable.errors import (
    ExecutionCancelledError,
    ExecutionTimeoutError,
    InvalidArgumentError,
    PromiseRejectedError,
    UnknownExecutionError,
)
from promises import AwaitablePromise

pytestmark = pytest.mark.faults

ROUNDS = 200


async def test_a_waiter_wakes_within_50_ms_of_a_settlement_in_another_process(
    tmp_path: Path,
) -> None:
    database = tmp_path / "runs.db"
    delays: list[float] = []
    async with Durable(database) as app, running("durable_settler.py", database) as settler:
        await settler.hear("open")
        for number in range(ROUNDS):
            promise_id = f"approval-{number}"
            handle = app.promise(promise_id)
            waiter = asyncio.create_task(handle.result())
            await handle.started()
            settler.tell(promise_id)
            assert await waiter == promise_id
            woke_s = time.time()
            said = await settler.hear("settled")
            delays.append(woke_s - said["at_s"])
    delays.sort()
    p50, p99 = delays[ROUNDS // 2], delays[ROUNDS * 99 // 100 - 1]
    print(f"woke after p50 {p50 * 1000:.1f}, p99 {p99 * 1000:.1f}, max {delays[-1] * 1000:.1f} ms")
    assert p99 < 0.05, delays[-5:]


async def test_promises_are_settled_once_by_whoever_is_first(tmp_path: Path) -> None:
    database = tmp_path / "runs.db"
    async with Durable(database) as app, Durable(database, group="other") as other:
        handle = app.promise("p")
        await handle.started()
        results = await asyncio.gather(
            *(a.resolve("p", n) for n, a in enumerate([app, other, app]))
        )
        assert sorted(results) == [False, False, True]
        assert await handle == await other.promise("p") == results.index(True)
        assert await other.reject("p", "too late") is False


async def test_promises_reject_cancel_and_time_out_with_typed_errors(tmp_path: Path) -> None:
    async with Durable(tmp_path / "runs.db") as app:
        for promise_id in ("value", "error", "text", "cancelled"):
            await app.promise(promise_id).started()
        await app.reject_with("value", {"why": "no"})
        await app.reject("error", LookupError("gone"))
        await app.reject("text", "refused")
        await app.cancel("cancelled", "nobody cares")
        with pytest.raises(PromiseRejectedError) as caught:
            await app.promise("value")
        assert caught.value.value == {"why": "no"}
        with pytest.raises(LookupError, match="gone"):
            await app.promise("error")
        with pytest.raises(RuntimeError, match="refused"):
            await app.promise("text")
        with pytest.raises(ExecutionCancelledError, match="nobody cares"):
            await app.promise("cancelled")
        began = time.monotonic()
        with pytest.raises(ExecutionTimeoutError):
            await app.promise("late", timeout=0.2)
        assert 0.15 < time.monotonic() - began < 1
        with pytest.raises(UnknownExecutionError):
            await app.promise("nowhere:1")
        with pytest.raises(UnknownExecutionError):
            await app.resolve("nowhere", 1)
        with pytest.raises(InvalidArgumentError):
            app.promise("p", timeout=-1)


async def test_promises_and_handles_fit_asyncio(tmp_path: Path) -> None:
    async with Durable(tmp_path / "runs.db") as app:

        async def settle() -> None:
            for n in range(6):
                await app.promise(f"p{n}").started()
                await app.resolve(f"p{n}", n)

        settling = asyncio.create_task(settle())
        assert await asyncio.wait_for(app.promise("p0"), 5) == 0
        assert await asyncio.gather(app.promise("p1"), app.promise("p2")) == [1, 2]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(app.promise("p3").result())
        assert task.result() == 3
        done = [await each for each in asyncio.as_completed([app.promise("p4"), app.promise("p5")])]
        assert sorted(done) == [4, 5]
        await settling
        adapted: AwaitablePromise[Any] = AwaitablePromise.from_handle(app.promise("p1"))
        assert await asyncio.gather(adapted, adapted.to_future()) == [1, 1]


async def test_a_step_of_an_execution_is_settled_from_another_process(tmp_path: Path) -> None:
    database = tmp_path / "runs.db"
    app = Durable(database)

    @app.register
    async def asks(ctx: Any) -> Any:
        question = ctx.promise()
        return [question.id, await question]

    async with app, running("durable_settler.py", database) as settler:
        await settler.hear("open")
        handle = app.run("x", asks)
        while not await app.steps("x") if await _known(app) else True:
            await asyncio.sleep(0.01)
        settler.tell("x:1")
        assert await asyncio.wait_for(handle.result(), 10) == ["x:1", "x:1"]


async def _known(app: Durable) -> bool:
    try:
        await app.execution("x")
    except UnknownExecutionError:
        return False
    return True
