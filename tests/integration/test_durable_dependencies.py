"""Dependencies of executions: one instance each, closed however the execution ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from durable import Dependencies, Durable, async_executor_factory
from durable.errors import ExecutionCancelledError, ExecutionTimeoutError
from executor import NamespaceManager

pytestmark = pytest.mark.integration


class Connection:
    def __init__(self, log: list[str], owner: str) -> None:
        self.log = log
        self.owner = owner
        self.log.append(f"open {owner}")

    async def aclose(self) -> None:
        self.log.append(f"close {self.owner}")


def make(path: Path, log: list[str], **options: Any) -> Durable:
    app = Durable(path / "runs.db", **options)
    app.set_dependency("connection", lambda ctx: Connection(log, ctx.execution_id), singleton=False)

    @app.register
    async def ends(ctx: Any, how: str) -> Any:
        connection = ctx.get_dependency("connection")
        assert connection is ctx.get_dependency("connection")
        assert await ctx.aget_dependency("connection") is connection
        match how:
            case "success":
                return connection.owner
            case "failure":
                raise LookupError(how)
            case _:
                return await ctx.sleep(60)

    return app


@pytest.mark.parametrize("how", ["success", "failure", "timeout", "cancel", "close", "crash"])
async def test_an_instance_is_closed_however_its_execution_ends(tmp_path: Path, how: str) -> None:
    log: list[str] = []
    app = make(tmp_path, log)
    async with app:
        limit = 0.2 if how == "timeout" else None
        handle = app.options(timeout=limit).run("x", "ends", how)
        if how == "success":
            assert await handle == "x"
        elif how == "failure":
            with pytest.raises(LookupError):
                await handle
        elif how == "timeout":
            with pytest.raises(ExecutionTimeoutError):
                await handle
        else:
            while not log:
                await asyncio.sleep(0.005)
            if how == "cancel":
                await handle.cancel()
                with pytest.raises(ExecutionCancelledError):
                    await handle
            elif how == "crash":
                await app.abandon()
        if how != "close":
            async with asyncio.timeout(5):
                while len(log) < 2:
                    await asyncio.sleep(0.005)
    assert log == ["open x", "close x"]


async def test_each_execution_has_its_own_and_singletons_are_shared(tmp_path: Path) -> None:
    log: list[str] = []
    app = make(tmp_path, log)
    built: list[str] = []

    @contextlib.asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        built.append("pool")
        yield "the pool"
        built.append("closed")

    app.set_dependency("pool", pool, singleton=True)
    app.set_dependency("setting", 42)

    @app.register
    async def uses(ctx: Any) -> list[Any]:
        async def step(ctx: Any) -> str:
            return ctx.get_dependency("connection").owner

        return [
            await ctx.aget_dependency("pool"),
            ctx.get_dependency("setting"),
            await ctx.run(step),
        ]

    async with app:
        results = await asyncio.gather(*(app.run(f"u{n}", uses) for n in range(5)))
        assert results == [["the pool", 42, f"u{n}"] for n in range(5)]
        assert built == ["pool"]
    assert built == ["pool", "closed"]
    assert sorted(log) == sorted(
        [f"open u{n}" for n in range(5)] + [f"close u{n}" for n in range(5)]
    )


async def test_the_executor_is_there_by_default_and_can_be_replaced(tmp_path: Path) -> None:
    app = make(tmp_path, [])
    made: list[str] = []

    @app.register
    async def analyze(ctx: Any, source: str) -> Any:
        return await ctx.get_dependency("async_executor").execute(source)

    async with app:
        assert await app.run("a", analyze, "import asyncio\nawait asyncio.sleep(0, 42)") == 42

        def replaced(ctx: Any) -> Any:
            made.append(ctx.execution_id)
            return async_executor_factory(ctx)

        app.set_dependency("async_executor", replaced, singleton=False)
        assert await app.run("b", analyze, "1 + 1") == 2
        assert await app.run_source("c", "2 + 2") == 4
    assert made == ["b", "c"]


async def test_unknown_names_and_cycles_are_told_by_name(tmp_path: Path) -> None:
    app = make(tmp_path, [])
    app.set_dependency("one", lambda ctx: ctx.get_dependency("two"), singleton=False)
    app.set_dependency("two", lambda ctx: ctx.get_dependency("one"), singleton=False)

    @app.register
    async def asks(ctx: Any, name: str) -> str:
        try:
            ctx.get_dependency(name)
        except Exception as error:
            return str(error)
        return "found"

    async with app:
        unknown = await app.run("u", asks, "conection")
        assert "connection" in unknown
        assert "async_executor" in unknown
        cycle = await app.run("c", asks, "one")
        assert "one" in cycle
        assert "two" in cycle


async def test_tasks_of_a_shared_dependency_outlive_the_execution_that_made_it(
    tmp_path: Path,
) -> None:
    """A pool keeps its own background task; the first execution's end is not its end."""
    app = make(tmp_path, [])

    class Pool:
        def __init__(self) -> None:
            self.keeper = asyncio.create_task(asyncio.sleep(60))

        async def aclose(self) -> None:
            self.keeper.cancel()

    app.set_dependency("pool", Pool, singleton=True)
    pools: list[Pool] = []

    @app.register
    async def first(ctx: Any) -> None:
        pools.append(await ctx.aget_dependency("pool"))
        await ctx.sleep(60)

    async with app:
        handle = app.run("x", first)
        while not pools:
            await asyncio.sleep(0.005)
        await handle.cancel()
        with pytest.raises(ExecutionCancelledError):
            await handle
        await asyncio.sleep(0.05)
        assert not pools[0].keeper.done()


async def test_the_plain_sdk_reaches_the_same_dependencies(tmp_path: Path) -> None:
    from resonate.resonate import Resonate

    from store import SqliteConnection

    dependencies = Dependencies()
    dependencies.set_dependency("async_executor", async_executor_factory, singleton=False)
    engine = Resonate(network=SqliteConnection(tmp_path / "sdk.db"), group="default")
    engine.with_dependency(dependencies)

    async def program(ctx: Any) -> int:
        executor = ctx.get_dependency(Dependencies).get("async_executor")(ctx)
        value: int = await executor.execute("20 + 22")
        return value

    engine.register(program)
    try:
        assert await engine.run("x", program).result() == 42
    finally:
        await engine.stop()


class Recorder:
    """The least that an executor of one's own has."""

    def __init__(self) -> None:
        self.namespace = NamespaceManager()

    async def execute(self, source: str, timeout: float | None = None) -> str:
        return f"{source} with ctx: {'ctx' in self.namespace.namespace}"


async def test_source_runs_on_an_executor_of_ones_own(tmp_path: Path) -> None:
    app = Durable(tmp_path / "runs.db")
    app.set_dependency("async_executor", lambda ctx: Recorder(), singleton=False)
    async with app:
        assert await app.run_source("own", "1 + 1") == "1 + 1 with ctx: True"
