"""What a resume asks of the store: a history is loaded, not asked for step by step."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from resonate_base import Network

from durable import Durable

pytestmark = pytest.mark.integration

CHILDREN = 4
STEPS = 25


class Counting:
    """Counts the requests of each kind that go through it."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()

    def __call__(self, network: Network) -> Network:
        self._network = network
        return self  # type: ignore[return-value]

    async def start(self) -> None:
        await self._network.start()

    async def stop(self) -> None:
        await self._network.stop()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        request = msgspec.json.decode(req)
        tags = request["data"].get("tags") or {}
        self.requests[f"{request['kind']} {min(tags, default='')}".strip()] += 1
        return await self._network.send(req, headers)


def make(path: Path, runs: list[str], counting: Counting | None = None) -> Durable:
    app = Durable(path / "runs.db", intercept=counting)

    async def leaf(name: str) -> str:
        runs.append(name)
        return name

    async def child(ctx: Any, name: str, depth: int) -> list[Any]:
        done = [await ctx.run(leaf, f"{name}.{n}") for n in range(STEPS)]
        if depth:
            return [*done, await ctx.run(child, f"{name}.x", depth - 1)]
        return [*done, await ctx.promise()]

    @app.register
    async def parent(ctx: Any, depth: int) -> list[Any]:
        return await asyncio.gather(*(ctx.run(child, f"c{n}", depth) for n in range(CHILDREN)))

    return app


def tree(name: str, depth: int) -> list[Any]:
    done: list[Any] = [f"{name}.{n}" for n in range(STEPS)]
    return [*done, tree(f"{name}.x", depth - 1) if depth else "yes"]


async def waiting(app: Durable) -> list[str]:
    """Wait until every child asks its question."""
    async with asyncio.timeout(30):
        while True:
            open_ones = [step.id for step in await app.steps("x") if step.name == "promise"]
            if len(open_ones) == CHILDREN:
                return open_ones
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("depth", [0, 2])
async def test_nested_steps_are_loaded_at_once_and_none_runs_again(
    tmp_path: Path, depth: int
) -> None:
    runs: list[str] = []
    async with make(tmp_path, runs) as app:
        await app.run("x", "parent", depth).started()
        await waiting(app)
    assert len(runs) == CHILDREN * STEPS * (depth + 1)
    counting = Counting()
    async with make(tmp_path, again := [], counting) as app:
        for question in await waiting(app):
            await app.resolve(question, "yes")
        assert await app.get("x") == [tree(f"c{n}", depth) for n in range(CHILDREN)]
    assert again == []
    # One search for each child, its promise and its settlement; none for a recorded leaf.
    assert counting.requests["promise.search resonate:parent"] == CHILDREN * (depth + 1)
    assert counting.requests["task.fence"] <= 2 * CHILDREN * (depth + 1)


async def test_steps_without_steps_of_their_own_cost_no_search(tmp_path: Path) -> None:
    gate = asyncio.Event()

    def app_of(counting: Counting | None = None) -> Durable:
        app = Durable(tmp_path / "runs.db", intercept=counting)

        async def leaf(n: int) -> int:
            await gate.wait()
            return n

        @app.register
        async def parent(ctx: Any) -> list[int]:
            return list(await asyncio.gather(*(ctx.run(leaf, n) for n in range(30))))

        return app

    async with app_of() as app:
        await app.run("x", "parent").started()
        async with asyncio.timeout(10):
            while len(await app.steps("x")) < 30:
                await asyncio.sleep(0.01)
    counting = Counting()
    gate.set()
    async with app_of(counting) as app:
        assert await app.get("x") == list(range(30))
    assert not any(kind.startswith("promise.search") for kind in counting.requests)
