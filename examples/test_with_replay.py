"""Tests of durable code with the pytest fixtures that come with Sostenuto.

    python -m pytest examples/test_with_replay.py

* `durable_app(*functions)` makes an app on a temporary database; twice is two processes' worth.
* `durable_clock` stands still until the test moves it: days pass in milliseconds.
* `crash_injector(n, when)` lets the app die before or after its n-th durable operation.
* `replayer` runs code against recorded histories (examples/histories) and fails where they differ.

No plugin for async tests is needed; with one, write `async def test_...` and leave asyncio.run out.
"""

import asyncio
from datetime import timedelta
from pathlib import Path

from durable import Durable, EventKind

HISTORIES = Path(__file__).parent / "histories"


async def price(item: str) -> int:
    return {"lamp": 40, "pen": 24}[item]


async def charge(cents: int) -> str:
    return f"receipt for {cents}"


async def order(ctx, item: str, quantity: int) -> str:
    """The code under test: a price, a day to change one's mind, a charge."""
    cents = 100 * quantity * await ctx.run(price, item)
    await ctx.sleep(timedelta(days=1))
    return await ctx.run(charge, cents)


def test_an_order_is_charged_a_day_later(durable_app, durable_clock) -> None:
    async def scenario() -> None:
        async with durable_app(order, clock=durable_clock) as app:
            asleep = asyncio.Event()
            app.add_listener(
                lambda event: asleep.set() if event.kind is EventKind.WAITING else None
            )
            handle = app.run("order-1", order, "lamp", 2)
            await asleep.wait()
            assert not await app.is_settled("order-1")
            durable_clock.advance(24 * 3600)
            assert await handle == "receipt for 8000"

    async def start_and_wait() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(start_and_wait())


async def shop(ctx, item: str) -> str:
    return await ctx.run(charge, 100 * await ctx.run(price, item))


def test_a_crash_at_any_moment_changes_nothing(durable_app, crash_injector) -> None:
    async def crash_at(number: int) -> None:
        injector = crash_injector(number, "after")
        dying = durable_app(shop, intercept=injector)
        await dying.start()
        waiting = asyncio.ensure_future(injector.crashed.wait())
        handle = dying.run(f"shop-{number}", shop, "pen")
        ended = asyncio.ensure_future(_ended(handle))
        await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
        await dying.abandon()
        for task in (waiting, ended):
            task.cancel()
        await asyncio.gather(waiting, ended, return_exceptions=True)
        async with durable_app(shop) as app:
            assert await app.run(f"shop-{number}", shop, "pen") == "receipt for 2400"

    async def all_moments() -> None:
        async with asyncio.timeout(60):
            for number in range(1, 6):
                await crash_at(number)

    asyncio.run(all_moments())


async def _ended(handle) -> None:
    await handle


def test_recorded_orders_still_replay(replayer) -> None:
    app = Durable("memory:")
    app.register(shop)
    replayer(app, histories=HISTORIES)
