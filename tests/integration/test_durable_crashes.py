"""Every durable feature, crashed at every operation boundary, ends as if nothing had happened.

Each program runs once undisturbed and then once for each boundary, before and after the
store has the operation. The result must be the same every time, and a step whose end was
recorded must not run again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity

from durable import Durable
from durable.errors import ExecutionTimeoutError
from durable.testing import CrashInjector, crash_at_every_operation

pytestmark = pytest.mark.integration

EFFECTS: Counter[str] = Counter()


async def effect(name: str, delay_s: float = 0.0) -> str:
    EFFECTS[name] += 1
    await asyncio.sleep(delay_s)
    return name


def blocking_effect(name: str) -> str:
    EFFECTS[name] += 1
    return name


class PermanentError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


# -- programs ---------------------------------------------------------------------


async def steps(ctx: Any) -> list[str]:
    return [
        await ctx.run(effect, "a"),
        await ctx.run(blocking_effect, "b"),
        await ctx.run(effect, "c"),
    ]


async def nested(ctx: Any) -> list[Any]:
    async def outer(ctx: Any, name: str) -> list[Any]:
        inner = await ctx.run(effect, f"{name}.1")
        both = await asyncio.gather(ctx.run(effect, f"{name}.2"), ctx.run(effect, f"{name}.3"))
        return [inner, *both]

    return [await ctx.run(outer, "x"), await ctx.run(outer, "y")]


async def sleeps(ctx: Any) -> list[str]:
    first = await ctx.run(effect, "before")
    await ctx.sleep(0.02)
    return [first, await ctx.run(effect, "after")]


async def promises(ctx: Any) -> Any:
    waiting = ctx.promise()
    await ctx.run(effect, "asked")
    return [await waiting, await ctx.run(effect, "answered")]


async def child(ctx: Any, n: int) -> int:
    await ctx.run(effect, f"child-{n}")
    return n * 10


async def calls(ctx: Any) -> list[int]:
    one = await ctx.rpc("child", 1)
    return [one, *await asyncio.gather(ctx.rpc("child", 2), ctx.rpc("child", 3))]


async def failing(ctx: Any) -> list[Any]:
    async def fails(code: int) -> None:
        EFFECTS[f"fails-{code}"] += 1
        raise PermanentError(code)

    seen: list[Any] = []
    for code in (1, 2):
        try:
            await ctx.run(fails, code)
        except PermanentError as error:
            seen.append(error.code)
    results = await asyncio.gather(
        ctx.run(fails, 3), ctx.run(effect, "fine"), return_exceptions=True
    )
    return [*seen, type(results[0]).__name__, results[1]]


async def fails_in_the_end(ctx: Any) -> None:
    await ctx.run(effect, "once")
    raise PermanentError(7)


async def retried(ctx: Any) -> list[Any]:
    retry = {"stop": tenacity.stop_after_attempt(9), "wait": tenacity.wait_fixed(0.002)}

    async def third_time(ctx: Any) -> str:
        # Told by what is recorded, so that it is the same after a crash.
        attempts[0] += 1
        if attempts[0] < 3:
            raise ConnectionError("again")
        return "at last"

    attempts = ATTEMPTS
    return [await ctx.options(retry=retry).run(third_time), await ctx.run(effect, "after")]


ATTEMPTS = [0]


async def limited(ctx: Any) -> list[str]:
    found = [await ctx.run(effect, "before")]
    try:
        await ctx.options(timeout=0.05).run(asyncio.sleep, 30)
    except ExecutionTimeoutError:
        found.append("timed out")
    try:
        await ctx.promise(timeout=0.05)
    except ExecutionTimeoutError:
        found.append("nobody")
    return [*found, await ctx.run(effect, "after")]


async def groups(ctx: Any) -> list[Any]:
    async def leaf(name: str) -> str:
        first = await ctx.run(effect, f"{name}.1")
        await asyncio.sleep(0)
        return first + await ctx.run(effect, f"{name}.2")

    async def branch(name: str) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(leaf(f"{name}{n}")) for n in range(2)]
        return [task.result() for task in tasks]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(name)) for name in "pq"]
    done, _ = await asyncio.wait([asyncio.create_task(leaf("w")), asyncio.create_task(leaf("v"))])
    shielded = await asyncio.shield(leaf("s"))
    async with asyncio.timeout(30):
        timed = await leaf("t")
    late = await asyncio.wait_for(leaf("u"), 30)
    from_generator = [await each for each in asyncio.as_completed(leaf(f"g{n}") for n in range(3))]
    from_list = [await each for each in asyncio.as_completed([leaf("l"), leaf("m")])]
    direct = [
        await each for each in asyncio.as_completed([ctx.run(effect, "d1"), ctx.run(effect, "d2")])
    ]
    return [
        [task.result() for task in tasks],
        sorted(task.result() for task in done),
        shielded,
        timed,
        late,
        sorted(from_generator),
        sorted(from_list),
        sorted(direct),
    ]


async def tasks_in_steps(ctx: Any) -> list[Any]:
    async def outer(ctx: Any, name: str) -> list[str]:
        async def inner(n: int) -> str:
            await asyncio.sleep(0)
            return await ctx.run(effect, f"{name}-{n}")

        return list(await asyncio.gather(*(inner(n) for n in range(3))))

    return list(await asyncio.gather(ctx.run(outer, "i"), ctx.run(outer, "j")))


SOURCE = """
import asyncio
from dataclasses import dataclass
from test_durable_crashes import effect

@dataclass
class Point:
    x: int
    y: int

class OwnError(Exception):
    pass

def make(n):
    return Point(n, n + 1)

def fails():
    raise OwnError("from a step")

point = await ctx.run(make, 1)
points = await asyncio.gather(*(ctx.run(make, n) for n in range(2)))
await ctx.sleep(0.01)
try:
    await ctx.run(fails)
    caught = None
except OwnError as error:
    caught = str(error)
name = await ctx.run(effect, "source")
[point.x + point.y, [p.y for p in points], caught, name]
"""

PROGRAMS: dict[str, tuple[Callable[..., Any], Any]] = {
    "steps": (steps, ["a", "b", "c"]),
    "nested": (nested, [["x.1", "x.2", "x.3"], ["y.1", "y.2", "y.3"]]),
    "sleeps": (sleeps, ["before", "after"]),
    "promises": (promises, ["approved", "answered"]),
    "calls": (calls, [10, 20, 30]),
    "failing": (failing, [1, 2, "PermanentError", "fine"]),
    "retried": (retried, ["at last", "after"]),
    "limited": (limited, ["before", "timed out", "nobody", "after"]),
    "groups": (
        groups,
        [
            [["p0.1p0.2", "p1.1p1.2"], ["q0.1q0.2", "q1.1q1.2"]],
            ["v.1v.2", "w.1w.2"],
            "s.1s.2",
            "t.1t.2",
            "u.1u.2",
            ["g0.1g0.2", "g1.1g1.2", "g2.1g2.2"],
            ["l.1l.2", "m.1m.2"],
            ["d1", "d2"],
        ],
    ),
    "tasks_in_steps": (tasks_in_steps, [["i-0", "i-1", "i-2"], ["j-0", "j-1", "j-2"]]),
}


class Lab:
    """Databases one after another, and the app of each program on them."""

    def __init__(
        self, directory: Path, *functions: Callable[..., Any], eager: bool = False
    ) -> None:
        self.directory = directory
        self.functions = functions
        self.round = 0

    def new_database(self) -> None:
        self.round += 1
        EFFECTS.clear()
        ATTEMPTS[0] = 0

    def app(self, intercept: CrashInjector | None = None) -> Durable:
        app = Durable(self.directory / f"{self.round}.db", intercept=intercept)
        for function in (child, *self.functions):
            app.register(function)
        return app


def assert_effects_ran_once_or_were_under_way() -> None:
    """Only what a crash cut short may have run twice: at most the operations under way."""
    assert all(count <= 2 for count in EFFECTS.values()), EFFECTS


@pytest.mark.parametrize("name", PROGRAMS)
async def test_every_crash_leads_to_the_undisturbed_result(tmp_path: Path, name: str) -> None:
    function, expected = PROGRAMS[name]
    lab = Lab(tmp_path, function)
    approvals: set[asyncio.Task[None]] = set()

    def start(app: Durable) -> Any:
        if name == "promises":
            approval = asyncio.create_task(approve(app))
            approvals.add(approval)
            approval.add_done_callback(approvals.discard)
        return app.run("x", function)

    def check(result: Any) -> None:
        assert result == expected
        assert_effects_ran_once_or_were_under_way()

    operations = await crash_at_every_operation(lab.app, start, check, lab.new_database)
    assert operations >= 3
    for approval in approvals:
        approval.cancel()


async def approve(app: Durable) -> None:
    """Somebody who answers as soon as there is a question."""
    while True:
        with contextlib.suppress(Exception):
            if await app.resolve("x:1", "approved"):
                return
            return
        await asyncio.sleep(0.002)


async def test_an_execution_that_fails_fails_alike_after_every_crash(tmp_path: Path) -> None:
    lab = Lab(tmp_path, fails_in_the_end)

    class Failing:
        """Gives the error as a result, for the helper expects one."""

        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def __await__(self) -> Any:
            return self.outcome().__await__()

        async def outcome(self) -> tuple[str, Any]:
            try:
                await self.handle
            except PermanentError as error:
                return "failed", (error.code, any("x" in note for note in error.__notes__))
            return "succeeded", None

    def check(result: Any) -> None:
        assert result == ("failed", (7, True))
        assert_effects_ran_once_or_were_under_way()

    assert await crash_at_every_operation(
        lab.app,
        lambda app: Failing(app.run("x", fails_in_the_end)),  # type: ignore[arg-type,return-value]
        check,
        lab.new_database,
    )


async def test_source_with_its_own_classes_survives_every_crash(tmp_path: Path) -> None:
    lab = Lab(tmp_path)

    def check(result: Any) -> None:
        assert result == [3, [1, 2], "from a step", "source"]
        assert_effects_ran_once_or_were_under_way()

    assert (
        await crash_at_every_operation(
            lab.app, lambda app: app.run_source("x", SOURCE), check, lab.new_database
        )
        > 10
    )


async def test_an_eager_task_factory_changes_no_result(tmp_path: Path) -> None:
    """With eager tasks a child runs before its creator goes on: the same ids all the same."""
    lab = Lab(tmp_path, tasks_in_steps, groups)
    loop = asyncio.get_running_loop()
    results: list[Any] = []

    def check(result: Any) -> None:
        assert result == PROGRAMS["tasks_in_steps"][1]
        results.append(result)

    before = loop.get_task_factory()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        await crash_at_every_operation(
            lab.app, lambda app: app.run("x", tasks_in_steps), check, lab.new_database
        )
        lab.new_database()
        async with lab.app() as app:
            assert await app.run("g", groups) == PROGRAMS["groups"][1]
    finally:
        loop.set_task_factory(before)
    async with lab.app() as app:  # what eager tasks recorded is read back without them
        assert await app.run("g", groups) == PROGRAMS["groups"][1]
    assert results


async def test_what_is_recorded_is_never_run_again(tmp_path: Path) -> None:
    """The 'after' crash of a step's settlement is past the point of no return."""
    lab = Lab(tmp_path, steps)
    for at in range(1, 9):
        lab.new_database()
        injector = CrashInjector(at, "after")
        app = lab.app(injector)
        await app.start()
        app.run("x", steps)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(injector.crashed.wait(), 5)
        await app.abandon()
        async with Durable(lab.directory / f"{lab.round}.db", group="readers") as reader:
            with contextlib.suppress(Exception):
                done = {s.result for s in await reader.steps("x") if s.state == "resolved"}
        before = dict(EFFECTS)
        async with lab.app() as app:
            assert await app.run("x", steps) == ["a", "b", "c"]
        for name in done:
            assert EFFECTS[name] == before[name] == 1
