"""Programs of the plain SDK run on the store unchanged, and survive the process."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.types import Value

from store import SqliteConnection

pytestmark = pytest.mark.integration

WAIT_S = 20


@asynccontextmanager
async def worker(path, *functions, group="default", ttl=None):
    """A running SDK instance on the store with functions registered by their names."""
    resonate = Resonate(network=SqliteConnection(path, group=group), group=group, ttl=ttl)
    for function in functions:
        resonate.register(function, name=function.__name__, retry_policy=Never())
    try:
        yield resonate
    finally:
        await resonate.stop()


async def result(handle):
    return await asyncio.wait_for(handle.result(), WAIT_S)


async def double(ctx, x):
    return 2 * x


async def fibonacci(ctx, n):
    if n < 2:
        return n
    first = ctx.run(fibonacci, n - 1)
    second = ctx.rpc("fibonacci", n - 2)
    return await first + await second


async def countdown(ctx, n):
    seen = []
    for number in range(n, 0, -1):
        seen.append(number)
        await ctx.sleep(timedelta(milliseconds=30))
    return seen


async def fails(ctx):
    raise ValueError("no such luck")


async def recovers(ctx):
    try:
        await ctx.rpc("fails")
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def many(ctx, n):
    return sum(await asyncio.gather(*[ctx.run(double, number) for number in range(n)]))


async def approval(ctx):
    return await ctx.promise()


async def sequence(ctx, n):
    total = 0
    for _ in range(n):
        total = await ctx.run(double, total + 1)
    return total


async def test_steps_and_calls_to_others_give_the_result(tmp_path):
    async with worker(tmp_path / "a.db", fibonacci) as resonate:
        assert await result(resonate.run("fib", fibonacci, 8)) == 21


async def test_the_same_id_is_the_same_execution(tmp_path):
    started = 0

    async def once(ctx):
        nonlocal started
        started += 1
        return started

    async with worker(tmp_path / "a.db", once) as resonate:
        assert await result(resonate.run("x", once)) == 1
        assert await result(resonate.run("x", once)) == 1
    async with worker(tmp_path / "a.db", once) as resonate:
        assert await result(resonate.run("x", once)) == 1
    assert started == 1


async def test_a_durable_sleep_wakes_its_sleeper(tmp_path):
    async with worker(tmp_path / "a.db", countdown) as resonate:
        before = time.monotonic()
        assert await result(resonate.run("count", countdown, 4)) == [4, 3, 2, 1]
        assert time.monotonic() - before >= 4 * 0.03


async def test_an_error_reaches_the_caller_as_itself(tmp_path):
    async with worker(tmp_path / "a.db", fails, recovers) as resonate:
        assert "no such luck" in await result(resonate.run("r", recovers))
        with pytest.raises(Exception, match="no such luck"):
            await result(resonate.run("f", fails))


async def test_a_thousand_steps_at_once(tmp_path):
    async with worker(tmp_path / "a.db", many, double) as resonate:
        assert await result(resonate.run("m", many, 1000)) == 999_000


async def test_a_promise_settled_by_another_process_resumes_the_execution(tmp_path):
    path = tmp_path / "a.db"
    async with worker(path, approval) as resonate:
        handle = resonate.run("a", approval)
        async with worker(path, group="clerks") as clerk:
            async with asyncio.timeout(WAIT_S):
                pending = []
                while not pending:
                    page = await clerk.promises.search(
                        "pending", {"resonate:parent": "a"}, 10, None
                    )
                    pending = [found.id for found in page.promises if found.id != "a"]
                    await asyncio.sleep(0.01)
            await clerk.promises.resolve(pending[0], Value(data="yes"))
        assert await result(handle) == "yes"


async def test_groups_share_the_work_of_one_file(tmp_path):
    path = tmp_path / "a.db"

    async def where(ctx):
        return "here"

    async with worker(path) as near, worker(path, where, group="far"):
        handle = near.options(target="far").rpc("w", "where")
        assert await result(handle) == "here"


async def test_a_stopped_process_leaves_its_execution_to_the_next(tmp_path):
    path = tmp_path / "a.db"
    seen = []

    async def leaf(ctx, number):
        seen.append(number)
        if number == 5 and seen.count(5) == 1:
            reached.set()
            await asyncio.sleep(3600)
        return number

    async def steps(ctx):
        return [await ctx.run(leaf, number) for number in range(10)]

    reached = asyncio.Event()
    first = Resonate(network=SqliteConnection(path), group="default")
    first.register(steps, name="steps")
    first.register(leaf, name="leaf")
    first.run("s", steps)
    await asyncio.wait_for(reached.wait(), WAIT_S)
    stopping = asyncio.create_task(first.stop())
    async with worker(path, steps, leaf) as second:
        before = time.monotonic()
        assert await result(await second.get("s")) == list(range(10))
        assert time.monotonic() - before < 5
    stopping.cancel()
    assert [seen.count(number) for number in range(10)] == [1, 1, 1, 1, 1, 2, 1, 1, 1, 1]


async def test_a_step_longer_than_the_lease_runs_once(tmp_path):
    started = 0

    async def slow(ctx):
        nonlocal started
        started += 1
        await asyncio.sleep(2.5)
        return started

    async with worker(tmp_path / "a.db", slow, ttl=timedelta(seconds=1)) as resonate:
        assert await result(resonate.run("slow", slow)) == 1
    assert started == 1


async def test_a_function_nobody_registered_waits_without_spinning(tmp_path):
    path = tmp_path / "a.db"
    async with worker(path, double) as resonate:
        handle = resonate.rpc("u", "unknown")
        await asyncio.sleep(1.5)
        connection = resonate._network
        figures = await connection.stats()
        assert figures.troubled == 1

        async def unknown(ctx):
            return "found"

        resonate.register(unknown, name="unknown")
        assert await result(handle) == "found"


async def test_a_schedule_fires_on_the_minute(tmp_path):
    from store.clocks import now_ms

    offset = [0]
    connection = SqliteConnection(tmp_path / "a.db", clock=lambda: now_ms() + offset[0])
    resonate = Resonate(network=connection, group="default")
    resonate.register(double, name="double")
    await resonate.schedule("nightly", "* * * * *", "double", (21,))
    offset[0] += 61_000
    await connection.tick()
    async with asyncio.timeout(WAIT_S):
        while True:
            page = await resonate.promises.search("resolved", None, 10, None)
            if page.promises:
                break
            await asyncio.sleep(0.01)
    assert page.promises[0].id.startswith("nightly-")
    await resonate.stop()


async def test_ten_thousand_steps_stay_linear(tmp_path):
    async with worker(tmp_path / "a.db", sequence, double) as resonate:
        await result(resonate.run("warm", sequence, 100))
        start = time.process_time()
        await result(resonate.run("short", sequence, 300))
        short = (time.process_time() - start) / 300
        start = time.process_time()
        await asyncio.wait_for(resonate.run("long", sequence, 5000).result(), 120)
        long = (time.process_time() - start) / 5000
    assert long < 2 * short
