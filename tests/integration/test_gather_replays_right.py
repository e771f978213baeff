"""Results of concurrent tasks stay with the task that asked for them, after any crash.

Random trees of tasks are run with random delays, crashed at every durable operation in
turn, and resumed. Every step returns its own address in the tree; a result that reaches
another coroutine is seen there at once.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.errors import ReplayDivergenceError, UnknownTaskError
from durable.testing import crash_at_every_operation, crash_once

pytestmark = pytest.mark.integration

WAYS = ("gather", "taskgroup", "create_task", "as_completed", "sequence", "late")


async def whoami(address: list[int], delay_s: float) -> list[int]:
    await asyncio.sleep(delay_s)
    return address


def make_tree(rng: random.Random, depth: int) -> dict[str, Any]:
    children = [] if depth == 0 else [make_tree(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    return {"way": rng.choice(WAYS), "steps": rng.randint(1, 2), "children": children}


async def walk(ctx: Any, tree: dict[str, Any], address: list[int]) -> int:
    """Run a node's steps and its children; returns how many steps were checked."""
    delays = random.Random()  # real disorder: another in every run
    count = 0
    for number in range(tree["steps"]):
        await asyncio.sleep(delays.random() * 0.002)
        mine = [*address, number]
        got = await ctx.run(whoami, mine, delays.random() * 0.0 if number else 0.0)
        assert got == mine, f"asked as {mine}, answered {got}"
        count += 1
    branches = [(child, [*address, 100 + i]) for i, child in enumerate(tree["children"])]
    return count + await spread(ctx, tree["way"], branches)


async def spread(ctx: Any, way: str, branches: list[tuple[dict[str, Any], list[int]]]) -> int:
    match way:
        case "gather":
            return sum(await asyncio.gather(*(walk(ctx, *branch) for branch in branches)))
        case "taskgroup":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(walk(ctx, *branch)) for branch in branches]
            return sum(task.result() for task in tasks)
        case "create_task":
            tasks = [asyncio.create_task(walk(ctx, *branch)) for branch in branches]
            await asyncio.sleep(0)
            return sum([await task for task in reversed(tasks)])
        case "as_completed":
            return sum(
                [await each for each in asyncio.as_completed([walk(ctx, *b) for b in branches])]
            )
        case "late":
            first = [asyncio.create_task(walk(ctx, *branch)) for branch in branches[:1]]
            await asyncio.sleep(random.Random().random() * 0.002)
            rest = [asyncio.create_task(walk(ctx, *branch)) for branch in branches[1:]]
            return sum([await task for task in first + rest])
        case _:
            return sum([await walk(ctx, *branch) for branch in branches])


class Lab:
    """Makes apps with the same function on one database, and databases one after another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.round = 0

    def new_database(self) -> None:
        self.round += 1

    def app(self, intercept: Any = None) -> Durable:
        app = Durable(self.directory / f"{self.round}.db", intercept=intercept)
        app.register(walk)
        return app


@pytest.mark.parametrize("seed", range(4))
async def test_no_result_reaches_another_coroutine_whatever_operation_the_crash_hits(
    tmp_path: Path, seed: int
) -> None:
    tree = make_tree(random.Random(seed), depth=2)

    def total(node: dict[str, Any]) -> int:
        return node["steps"] + sum(total(child) for child in node["children"])

    lab = Lab(tmp_path)
    seen: list[int] = []

    def check(result: int) -> None:
        assert result == total(tree)
        seen.append(result)

    boundaries = await crash_at_every_operation(
        lab.app, lambda app: app.run("tree", walk, tree, []), check, lab.new_database
    )
    assert boundaries >= 2 * total(tree)
    assert len(seen) >= 2 * boundaries


async def test_a_task_made_behind_the_loops_back_gets_an_error_and_no_guess(tmp_path: Path) -> None:
    app = Durable(tmp_path / "runs.db")

    async def step() -> int:
        return 1

    @app.register
    async def sneaky(ctx: Any) -> str:
        async def inner() -> int:
            return await ctx.run(step)

        task = asyncio.Task(inner(), loop=asyncio.get_running_loop())
        with pytest.raises(UnknownTaskError, match="cannot be known"):
            await task
        return "refused"

    @app.register
    async def from_a_timer(ctx: Any) -> str:
        loop = asyncio.get_running_loop()
        made: asyncio.Future[asyncio.Task[int]] = loop.create_future()

        async def inner() -> int:
            return await ctx.run(step)

        loop.call_later(0, lambda: made.set_result(asyncio.create_task(inner())))
        with pytest.raises(UnknownTaskError, match="cannot be known"):
            await (await made)
        return "refused"

    @app.register
    async def from_a_thread(ctx: Any) -> str:
        with pytest.raises(UnknownTaskError, match="thread"):
            await asyncio.to_thread(ctx.run, step)
        return "refused"

    async with app:
        for function in (sneaky, from_a_timer, from_a_thread):
            assert await app.run(function.__name__, function) == "refused"


async def test_workers_that_race_for_items_are_told_apart_or_stopped(tmp_path: Path) -> None:
    """Which worker takes which item is timing; a replay must notice, never mix up results."""
    lab = Lab(tmp_path)

    async def item(number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    async def racing(ctx: Any, keyed: bool) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        for number in range(12):
            queue.put_nowait(number)
        results: list[int] = []

        async def worker() -> None:
            while not queue.empty():
                number = queue.get_nowait()
                await asyncio.sleep(random.random() * 0.002)
                here = ctx.options(key=f"item-{number}") if keyed else ctx
                got = await here.run(item, number)
                assert got == number
                results.append(got)

        await asyncio.gather(*(worker() for _ in range(3)))
        return sorted(results)

    def make(intercept: Any = None) -> Durable:
        app = lab.app(intercept)
        app.register(racing)
        return app

    outcomes = []

    def check(result: list[int]) -> None:
        outcomes.append(result)
        assert result == list(range(12))

    await crash_at_every_operation(
        make, lambda app: app.run("keyed", racing, True), check, lab.new_database
    )
    assert outcomes
    for at in (5, 9, 14, 20):
        lab.new_database()
        await crash_once(make, lambda app: app.run("raced", racing, False), at)
        async with make() as app:
            outcome = await asyncio.gather(app.run("raced", racing, False), return_exceptions=True)
            if isinstance(outcome[0], ReplayDivergenceError):
                assert "key=" in str(outcome[0])
            else:
                assert outcome == [list(range(12))]
