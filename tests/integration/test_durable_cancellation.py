"""Cancelling and closing stop code at once, run its clean-up, and leave the others alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.errors import AppClosedError, DurableError, ExecutionCancelledError

pytestmark = pytest.mark.integration

STOPPED_WITHIN_S = 0.25


class Log:
    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Any:
        self.started.append(name)
        try:
            yield
        finally:
            self.stopped[name] = time.monotonic()

    async def all_started(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.started) < count:
                await asyncio.sleep(0.005)


def make(path: Path, log: Log, **options: Any) -> Durable:
    app = Durable(path / "runs.db", **options)

    async def part(name: str) -> None:
        with log.part(name):
            await asyncio.sleep(30)

    @app.register
    async def alone(ctx: Any) -> None:
        await part("alone")

    @app.register
    async def step(ctx: Any) -> None:
        await ctx.run(part, "step")

    @app.register
    async def nested(ctx: Any) -> None:
        async def outer(ctx: Any) -> None:
            with log.part("outer"):
                await ctx.run(part, "inner")

        await ctx.run(outer)

    @app.register
    async def gathered(ctx: Any) -> None:
        await asyncio.gather(ctx.run(part, "one"), part("two"), ctx.run(part, "three"))

    @app.register
    async def grouped(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part("one"))
            group.create_task(part("two"))

    @app.register
    async def stray(ctx: Any) -> None:
        """A task that nobody awaits, as asyncio allows."""
        task = asyncio.create_task(part("stray"))
        await part("main")
        await task

    @app.register
    async def waiting(ctx: Any) -> None:
        with log.part("sleep"):
            await ctx.sleep(60)

    @app.register
    async def on_promise(ctx: Any) -> None:
        with log.part("promise"):
            await ctx.promise()

    @app.register
    async def sibling(ctx: Any) -> str:
        with log.part("sibling"):
            await ctx.sleep(1.0)
            return "untouched"

    return app


PARTS = {
    "alone": 1, "step": 1, "nested": 2, "gathered": 3, "grouped": 2, "stray": 2, "waiting": 1,
    "on_promise": 1,
}  # fmt: skip


@pytest.mark.parametrize("how", ["handle", "app", "other app"])
@pytest.mark.parametrize("name", PARTS)
async def test_cancelling_stops_every_part_of_the_code_and_no_sibling(
    tmp_path: Path, name: str, how: str
) -> None:
    log = Log()
    async with make(tmp_path, log) as app, Durable(tmp_path / "runs.db", group="others") as other:
        sibling = app.run("sibling", "sibling")
        handle = app.run("x", name)
        await log.all_started(PARTS[name] + 1)
        began = time.monotonic()
        if how == "handle":
            assert await handle.cancel("not needed any more")
        elif how == "app":
            assert await app.cancel("x", "not needed any more")
        else:
            assert await other.get("x").cancel("not needed any more")
        with pytest.raises(ExecutionCancelledError, match="not needed any more"):
            await handle
        assert await handle.cancel() is False
        async with asyncio.timeout(5):
            while len(log.stopped) < PARTS[name]:
                await asyncio.sleep(0.005)
        late = {part: at - began for part, at in log.stopped.items()}
        assert max(late.values()) < STOPPED_WITHIN_S, late
        assert "sibling" not in log.stopped
        assert await sibling == "untouched"
        record = await app.execution("x")
        assert record.state == "rejected_canceled"
        assert "not needed any more" in str(record.error_text)
    with pytest.raises(AppClosedError):
        app.get("x")
    async with make(tmp_path, Log()) as app:
        with pytest.raises(ExecutionCancelledError, match="not needed any more"):
            await app.get("x")


async def test_a_cancelled_handle_does_not_cancel_whoever_awaits_it(tmp_path: Path) -> None:
    log = Log()
    async with make(tmp_path, log) as app:
        handle = app.run("x", "alone")

        async def waits() -> str:
            try:
                await handle
            except ExecutionCancelledError:
                task = asyncio.current_task()
                assert task is not None
                return f"cancelling: {task.cancelling()}"
            return "finished"

        waiter = asyncio.create_task(waits())
        await log.all_started(1)
        await handle.cancel()
        assert await waiter == "cancelling: 0"
    assert not issubclass(ExecutionCancelledError, asyncio.CancelledError)


async def test_cancelling_a_waiter_leaves_the_execution_alone(tmp_path: Path) -> None:
    log = Log()
    async with make(tmp_path, log) as app:
        handle = app.run("s", "sibling")
        waiter = asyncio.create_task(handle.result())
        await log.all_started(1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await handle == "untouched"


async def test_source_is_cancelled_with_its_tasks(tmp_path: Path) -> None:
    source = "\n".join(
        [
            "import asyncio, pathlib",
            "async def part(name):",
            "    try:",
            "        pathlib.Path(where, name).touch()",
            "        await asyncio.sleep(30)",
            "    finally:",
            "        pathlib.Path(where, name + '-stopped').touch()",
            f"where = {str(tmp_path)!r}",
            "background = asyncio.create_task(part('background'))",
            "await asyncio.gather(ctx.run(part, 'step'), part('plain'))",
        ]
    )
    async with Durable(tmp_path / "runs.db") as app:
        handle = app.run_source("s", source)
        names = ("background", "step", "plain")
        async with asyncio.timeout(10):
            while not all((tmp_path / name).exists() for name in names):
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await handle.cancel()
        async with asyncio.timeout(5):
            while not all((tmp_path / f"{name}-stopped").exists() for name in names):
                await asyncio.sleep(0.005)
        assert time.monotonic() - began < STOPPED_WITHIN_S


async def test_clean_up_may_still_use_what_it_has_and_cannot_make_steps(tmp_path: Path) -> None:
    app = Durable(tmp_path / "runs.db")
    seen: list[str] = []
    started = asyncio.Event()

    @app.register
    async def cleans(ctx: Any) -> None:
        try:
            started.set()
            await asyncio.sleep(30)
        finally:
            try:
                await ctx.run(lambda: "too late")
            except DurableError as error:
                seen.append(type(error).__name__)
            except asyncio.CancelledError:
                seen.append("cancelled")
            await asyncio.sleep(0.01)
            seen.append("cleaned")

    async with app:
        handle = app.run("c", cleans)
        await started.wait()
        await handle.cancel()
        with pytest.raises(ExecutionCancelledError):
            await handle
        async with asyncio.timeout(5):
            while "cleaned" not in seen:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", PARTS)
async def test_closing_hands_back_at_once_and_the_next_process_goes_on(
    tmp_path: Path, name: str
) -> None:
    log, second = Log(), Log()
    app = make(tmp_path, log)
    async with app:
        handle = app.run("x", name)
        waiter = asyncio.create_task(handle.result())
        await log.all_started(PARTS[name])
        began = time.monotonic()
    closed_s = time.monotonic() - began
    assert closed_s < 1.0
    assert set(log.stopped) == set(log.started)
    with pytest.raises(AppClosedError):
        await waiter
    began = time.monotonic()
    async with make(tmp_path, second) as app:
        await second.all_started(PARTS[name])
        assert time.monotonic() - began < 1.0
        assert (await app.execution("x")).state == "pending"
        await app.cancel("x")


async def test_closing_keeps_what_was_done(tmp_path: Path) -> None:
    done: list[str] = []
    gate = asyncio.Event()

    async def effect(name: str) -> str:
        done.append(name)
        return name

    async def program(ctx: Any) -> list[str]:
        first = await ctx.run(effect, "first")
        gate.set()
        await ctx.sleep(0.3)
        return [first, await ctx.run(effect, "second")]

    def app_of() -> Durable:
        app = Durable(tmp_path / "runs.db", grace=timedelta(seconds=1))
        app.register(program)
        return app

    async with app_of() as app:
        app.run("p", program)
        await gate.wait()
    async with app_of() as app:
        assert await app.get("p") == ["first", "second"]
    assert done == ["first", "second"]


async def test_another_open_process_takes_over_what_a_closing_one_hands_back(
    tmp_path: Path,
) -> None:
    log, second = Log(), Log()
    app = make(tmp_path, log)
    async with app:
        await app.run("x", "alone").started()
        await log.all_started(1)
        async with make(tmp_path, second) as other:
            began = time.monotonic()
            await app.close()
            await second.all_started(1)
            assert time.monotonic() - began < 1.0
            await other.cancel("x")


async def test_code_that_will_not_end_does_not_hold_up_closing(tmp_path: Path) -> None:
    stop = asyncio.Event()
    app = Durable(tmp_path / "runs.db", grace=timedelta(seconds=0.3))
    started = asyncio.Event()

    @app.register
    async def stubborn(ctx: Any) -> None:
        started.set()
        while not stop.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stop.wait()

    async with app:
        app.run("s", stubborn)
        await started.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    stop.set()
    await asyncio.sleep(0)


CLEANUPS = {
    "function": ("x", "cleans"),
    "step": ("x", "cleans_in_a_step"),
    "gathered": ("x", "cleans_gathered"),
    "group": ("x", "cleans_in_a_group"),
    "task that is not awaited": ("x", "cleans_in_a_task"),
    "step that is not awaited": ("x", "cleans_in_a_loose_step"),
}


def cleaning(path: Path, cleaned: list[str], started: asyncio.Event, grace_s: float) -> Durable:
    """Programs whose cleanup takes longer than the time in which code is to be stopped."""
    app = Durable(path / "runs.db", grace=timedelta(seconds=grace_s))

    async def part(name: str) -> None:
        try:
            started.set()
            await asyncio.sleep(30)
        finally:
            try:
                await asyncio.sleep(3 * STOPPED_WITHIN_S)
            except asyncio.CancelledError:
                cleaned.append(f"{name} was cut")
                raise
            cleaned.append(name)

    @app.register
    async def cleans(ctx: Any) -> None:
        await part("a")

    @app.register
    async def cleans_in_a_step(ctx: Any) -> None:
        await ctx.run(part, "a")

    @app.register
    async def cleans_gathered(ctx: Any) -> None:
        await asyncio.gather(ctx.run(part, "a"), part("b"), asyncio.gather(ctx.run(part, "c")))

    @app.register
    async def cleans_in_a_group(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part("a"))
            group.create_task(ctx.run(part, "b"))

    @app.register
    async def cleans_in_a_task(ctx: Any) -> None:
        task = asyncio.create_task(ctx.run(part, "a"))
        await asyncio.wait({task})

    @app.register
    async def cleans_in_a_loose_step(ctx: Any) -> None:
        ctx.run(part, "a")
        await asyncio.sleep(30)

    return app


@pytest.mark.parametrize("how", ["cancelled", "closed"])
@pytest.mark.parametrize("where", CLEANUPS)
async def test_a_cleanup_that_awaits_is_not_cancelled_again_within_the_grace(
    tmp_path: Path, where: str, how: str
) -> None:
    cleaned: list[str] = []
    started = asyncio.Event()
    app = cleaning(tmp_path, cleaned, started, grace_s=10)
    async with app:
        handle = app.run(*CLEANUPS[where])
        await started.wait()
        await asyncio.sleep(0)
        if how == "cancelled":
            await handle.cancel()
    assert cleaned
    assert set(cleaned) <= {"a", "b", "c"}, cleaned


async def test_a_cleanup_is_cut_when_the_grace_is_over(tmp_path: Path) -> None:
    cleaned: list[str] = []
    started = asyncio.Event()
    began = time.monotonic()
    async with cleaning(tmp_path, cleaned, started, grace_s=0.2) as app:
        app.run("x", "cleans")
        await started.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 3 * STOPPED_WITHIN_S
    assert cleaned == ["a was cut"]


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_step_that_swallows_its_cancellation_does_not_hold_up_closing(
    tmp_path: Path, awaited: bool
) -> None:
    stop = asyncio.Event()
    started = asyncio.Event()
    app = Durable(tmp_path / "runs.db", grace=timedelta(seconds=0.3))

    async def stubborn() -> None:
        started.set()
        while not stop.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stop.wait()

    @app.register
    async def runs(ctx: Any) -> None:
        step = ctx.run(stubborn)
        await (step if awaited else asyncio.sleep(30))

    async with app:
        app.run("x", runs)
        await started.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    stop.set()
    await asyncio.sleep(0)


async def test_code_that_goes_on_after_its_cancellation_makes_no_step(tmp_path: Path) -> None:
    steps: list[int] = []
    started = asyncio.Event()
    app = Durable(tmp_path / "runs.db")

    async def step(n: int) -> None:
        steps.append(n)
        started.set()
        await asyncio.sleep(30 if n else 0)

    @app.register
    async def goes_on(ctx: Any) -> None:
        for n in range(5):
            try:
                await ctx.run(step, n)
            except asyncio.CancelledError:
                steps.append(-n)

    async with app:
        app.run("x", goes_on)
        while len(steps) < 2:
            await asyncio.sleep(0.005)
        began = time.monotonic()
    assert steps == [0, 1, -1, -2, -3, -4]
    assert time.monotonic() - began < STOPPED_WITHIN_S
    async with app_with(tmp_path) as reader:
        assert [record.state for record in await reader.steps("x")] == ["resolved", "pending"]


def app_with(path: Path) -> Durable:
    return Durable(path / "runs.db", group="others")


@pytest.mark.parametrize("kind", ["run", "sleep", "promise", "rpc"])
async def test_code_that_tries_again_for_ever_does_not_freeze_the_loop_when_it_is_stopped(
    tmp_path: Path, kind: str
) -> None:
    started = asyncio.Event()
    app = Durable(tmp_path / "runs.db", grace=timedelta(seconds=0.3))

    @app.register
    async def again(ctx: Any) -> None:
        arguments = {"run": (asyncio.sleep, 9), "sleep": (9,), "promise": (), "rpc": ("again",)}
        while True:
            started.set()
            with contextlib.suppress(BaseException):
                await getattr(ctx, kind)(*arguments[kind])

    async def scenario() -> float:
        async with app:
            app.run("x", again)
            await started.wait()
            await asyncio.sleep(0.05)
            began = time.monotonic()
        return time.monotonic() - began

    assert await scenario() < 1.5


async def test_a_task_that_outlives_its_execution_does_not_freeze_the_loop(tmp_path: Path) -> None:
    app = Durable(tmp_path / "runs.db")
    tasks: list[asyncio.Task[None]] = []

    @app.register
    async def leaves(ctx: Any) -> str:
        async def poll() -> None:
            while True:
                with contextlib.suppress(Exception):
                    await ctx.run(asyncio.sleep, 0)

        tasks.append(asyncio.create_task(poll()))
        await ctx.run(asyncio.sleep, 0)
        return "done"

    async with app:
        assert await app.run("x", leaves) == "done"
        await asyncio.sleep(0.05)
        assert await app.get("x") == "done"
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
