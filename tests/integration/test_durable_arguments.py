"""A step that changes what it is given is warned of: a resume would not change it again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.errors import ReplayDivergenceError

pytestmark = pytest.mark.integration


@dataclass
class Basket:
    items: list[int] = field(default_factory=list)


async def appends(items: list[int]) -> int:
    items.append(1)
    return 1


def sets(items: dict[str, int]) -> None:
    items["a"] = 1


async def fills(*, basket: Basket) -> None:
    basket.items.append(1)


async def reads(items: list[int], factor: int = 2) -> list[int]:
    return [factor * item for item in items]


async def run(path: Path, name: str, *args: Any, **kwargs: Any) -> None:
    app = Durable(path / "runs.db")

    @app.register
    async def program(ctx: Any) -> None:
        for _ in range(5):
            await ctx.run(globals()[name], *args, **kwargs)

    async with app:
        await app.run("x", program)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [("appends", ([],), {}), ("sets", ({},), {}), ("fills", (), {"basket": Basket()})],
)
async def test_a_changed_argument_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, args: Any, kwargs: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        await run(tmp_path, name, *args, **kwargs)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert f"step {name} of x" in told[0]
    assert "return" in told[0]


@pytest.mark.parametrize(
    ("args", "kwargs"), [(([1, 2],), {}), (([],), {"factor": 3}), ((asyncio.Queue(),), {})]
)
async def test_arguments_that_are_left_as_they_are_are_not_spoken_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, args: Any, kwargs: Any
) -> None:
    name = "reads" if isinstance(args[0], list) else "puts"
    with caplog.at_level(logging.WARNING):
        await run(tmp_path, name, *args, **kwargs)
    assert caplog.records == []


async def puts(queue: asyncio.Queue[int]) -> None:
    """What has no value of its own, as a queue or a connection, may well be used."""
    queue.put_nowait(1)


async def test_the_divergence_that_a_changed_argument_makes_says_how_to_mend_it(
    tmp_path: Path,
) -> None:
    def app_of() -> Durable:
        app = Durable(tmp_path / "runs.db")

        @app.register
        async def program(ctx: Any) -> None:
            items: list[int] = []
            for _ in range(2):
                await ctx.run(appends, items)
            await ctx.promise()

        return app

    async with app_of() as app:
        await app.run("x", "program").started()
        async with asyncio.timeout(10):
            while len(await app.steps("x")) < 3:
                await asyncio.sleep(0.01)
    async with app_of() as app:
        with pytest.raises(ReplayDivergenceError, match="let steps return what they change"):
            await app.get("x")
