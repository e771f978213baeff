"""Promises over handles of the real SDK, and dependencies inside its durable functions."""

from __future__ import annotations

import asyncio

import pytest
from resonate.context import Context
from resonate.error import ApplicationError
from resonate.testing import local_resonate

from durable.dependencies import Dependencies
from promises import AwaitablePromise

pytestmark = pytest.mark.unit


@pytest.fixture
async def resonate():
    resonate = local_resonate()
    yield resonate
    await resonate.stop()


async def test_an_sdk_handle_is_awaited_by_many_through_one_promise(resonate):
    @resonate.register
    async def double(ctx: Context, number: int) -> int:
        return number * 2

    promise = AwaitablePromise.from_handle(resonate.run("double-21", double, 21))
    got = await asyncio.wait_for(asyncio.gather(*(promise.wait() for _ in range(10))), 10)
    assert got == [42] * 10
    again = AwaitablePromise.from_handle(await resonate.get("double-21"))
    assert await asyncio.wait_for(again, 10) == 42


async def test_an_sdk_rejection_is_the_same_exception_for_every_awaiter(resonate):
    @resonate.register
    async def fail(ctx: Context) -> None:
        raise ValueError("no good")

    promise = AwaitablePromise.from_handle(resonate.run("fail-1", fail))
    errors = await asyncio.wait_for(
        asyncio.gather(promise, promise.wait(), return_exceptions=True), 10
    )
    assert errors[0] is errors[1]
    assert isinstance(errors[0], ValueError | ApplicationError)
    assert "no good" in str(errors[0])


async def test_an_sdk_result_reaches_a_waiting_thread(resonate):
    @resonate.register
    async def one(ctx: Context) -> int:
        return 1

    future = AwaitablePromise.from_handle(resonate.run("one", one)).to_concurrent()
    assert await asyncio.to_thread(future.result, 10) == 1


async def test_a_plain_sdk_function_gets_an_instance_and_it_is_closed_when_the_function_ends(
    resonate,
):
    log = []

    class Session:
        def __init__(self, ctx):
            self.name = ctx.info.id
            log.append(f"open {self.name}")

        async def aclose(self):
            await asyncio.sleep(0)
            log.append(f"close {self.name}")

    deps = Dependencies()
    deps.set_dependency("session", Session, singleton=False)
    deps.set_dependency("url", "sqlite://")
    resonate.with_dependency(deps)

    @resonate.register
    async def leaf(ctx: Context) -> str:
        return ctx.get_dependency(Dependencies).get("session")(ctx).name

    @resonate.register
    async def use(ctx: Context, fail: bool) -> list[str]:
        found = ctx.get_dependency(Dependencies)
        mine = found.get("session")(ctx)
        assert found.get("session")(ctx) is mine
        theirs = await ctx.run(leaf)
        if fail:
            raise ValueError(found.get("url"))
        return [mine.name, theirs]

    names = await asyncio.wait_for(resonate.run("ok", use, False).result(), 10)
    assert names[0] == "ok"
    with pytest.raises(Exception, match="sqlite://"):
        await asyncio.wait_for(resonate.run("bad", use, True).result(), 10)
    await deps.aclose()
    assert sorted(log) == sorted(
        f"{what} {name}" for what in ("open", "close") for name in ("ok", names[1], "bad", "bad:1")
    )
