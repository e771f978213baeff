"""The same program on every engine: only the URL changes.

SQLite is always tested, and HTTP over a server of the tests' own on loopback; NATS over a broker
of the tests' own where ``nats-server`` is installed. Others are where an address is given in the
environment: ``SOSTENUTO_TEST_POSTGRES=postgresql://...`` of a database with resonate-pg's schema,
``SOSTENUTO_TEST_NATS`` and ``SOSTENUTO_TEST_SERVER`` (``http://...``) of a running server.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import tenacity
from integration.http_server import http_server
from integration.nats_server import available as nats_available
from integration.nats_server import nats_server

from durable import Durable
from durable.errors import (
    ExecutionCancelledError,
    ExecutionMismatchError,
    ExecutionTimeoutError,
    UnknownExecutionError,
)
from durable.histories import load_history, read_history, write_history
from durable.testing import crash_once, replay

pytestmark = pytest.mark.integration

ENGINES = ("SQLITE", "HTTP", "POSTGRES", "NATS", "SERVER")


@dataclass(frozen=True)
class Point:
    x: int


@pytest.fixture(params=ENGINES)
async def url(request: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    # One key for all engines, as several hosts would share one.
    monkeypatch.setenv("SOSTENUTO_SIGNING_KEY", "a key for these tests only")
    if request.param == "SQLITE":
        yield f"sqlite:///{tmp_path / 'runs.db'}"
        return
    if request.param == "HTTP":
        async with http_server(tmp_path / "server.db") as served:
            yield served
        return
    address = os.environ.get(f"SOSTENUTO_TEST_{request.param}")
    if not address and request.param == "NATS" and nats_available():
        async with nats_server(tmp_path / "server.db") as served:
            yield served
        return
    if not address:
        pytest.skip(f"set SOSTENUTO_TEST_{request.param} to an address to test this engine")
    yield address


@pytest.fixture
def prefix() -> str:
    """Engines that are not made for the test keep what earlier runs left."""
    return f"t{uuid.uuid4().hex[:12]}"


async def double(x: int) -> int:
    return 2 * x


def make(url: str, group: str, **options: Any) -> Durable:
    app = Durable(url, group=group, **options)
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("again")
        return "third"

    @app.register
    async def child(ctx: Any, n: int) -> int:
        return await ctx.run(double, n)

    @app.register
    async def program(ctx: Any, n: int) -> list[Any]:
        retry = {"stop": tenacity.stop_after_attempt(5), "wait": tenacity.wait_fixed(0.01)}
        gathered = await asyncio.gather(*(ctx.run(double, i) for i in range(n)))
        await ctx.sleep(0.05)
        return [
            list(gathered),
            await ctx.options(retry=retry).run(flaky),
            await ctx.rpc("child", n),
            await ctx.run(lambda: Point(n)),
        ]

    @app.register
    async def waits(ctx: Any) -> Any:
        return await ctx.promise()

    @app.register
    async def fails(ctx: Any) -> None:
        raise LookupError("no such thing")

    return app


EXPECTED = [[0, 2, 4], "third", 6, Point(3)]


async def test_a_program_runs_and_its_result_is_there_in_later_processes(
    url: str, prefix: str
) -> None:
    for _ in range(2):
        async with make(url, prefix) as app:
            assert await asyncio.wait_for(app.run(prefix, "program", 3).result(), 30) == EXPECTED
            assert await app.get(prefix) == EXPECTED
            record = await app.execution(prefix)
            assert (record.state, record.name) == ("resolved", "program")
            kinds = [step.kind for step in await app.steps(prefix)]
            assert {"run", "sleep", "rpc", "attempt"} <= set(kinds)
            with pytest.raises(ExecutionMismatchError):
                await app.run(prefix, "program", 4)
            assert await replay(app, prefix)
            listed = [found.id async for found in app.executions(name="program")]
            assert prefix in listed
            assert prefix not in [found.id async for found in app.executions(state="pending")]


async def test_failures_timeouts_and_cancellations_tell_their_notes(url: str, prefix: str) -> None:
    async with make(url, prefix) as app:
        with pytest.raises(LookupError):
            await asyncio.wait_for(app.run(f"{prefix}f", "fails").result(), 30)
        with pytest.raises(ExecutionTimeoutError):
            late = app.options(timeout=0.5).run(f"{prefix}t", "waits")
            await asyncio.wait_for(late.result(), 30)
        cancelled = app.run(f"{prefix}c", "waits")
        await cancelled.started()
        await cancelled.cancel("enough")
        with pytest.raises(ExecutionCancelledError, match="enough"):
            await asyncio.wait_for(cancelled.result(), 30)
        with pytest.raises(UnknownExecutionError):
            await app.execution(f"{prefix}-nowhere")
    async with make(url, prefix) as app:
        with pytest.raises(LookupError) as caught:
            await app.get(f"{prefix}f")
        assert f"Execution ID: {prefix}f" in caught.value.__notes__
        assert any("limit of 0.5 s" in note for note in (await app.execution(f"{prefix}t")).notes)


async def test_promises_are_settled_from_another_member(url: str, prefix: str) -> None:
    async with make(url, prefix) as app, Durable(url, group=f"{prefix}-other") as other:
        handle = app.promise(prefix)
        await handle.started()
        assert await other.resolve(prefix, {"ok": Point(1)})
        assert await asyncio.wait_for(handle.result(), 30) == {"ok": Point(1)}


async def test_a_crash_is_resumed_by_the_next_process(url: str, prefix: str) -> None:
    for at in (3, 6):
        id = f"{prefix}x{at}"

        def app_of(intercept: Any = None) -> Durable:
            return make(url, prefix, intercept=intercept, lease=timedelta(seconds=1))

        await crash_once(app_of, lambda app, id=id: app.run(id, "program", 3), at)
        async with app_of() as app:
            assert await asyncio.wait_for(app.run(id, "program", 3).result(), 60) == EXPECTED


async def test_open_and_finished_executions_move_here_from_sqlite(
    url: str, prefix: str, tmp_path: Any
) -> None:
    source = f"sqlite:///{tmp_path / 'source.db'}"
    done, open_one = f"{prefix}d", f"{prefix}o"
    async with make(source, prefix) as app:
        await app.run(done, "program", 3)
        waiting = app.run(open_one, "waits")
        await waiting.started()
        async with asyncio.timeout(10):
            while not await app.steps(open_one):
                await asyncio.sleep(0.01)
        documents = [(await read_history(app.engine, id)).to_json() for id in (done, open_one)]
    paths = []
    for number, document in enumerate(documents):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(document)
    async with make(url, prefix) as app:
        assert app._app is not None
        target = app._app.connections.sources[0].resolve_target(prefix)
        for path in paths:
            await write_history(app.engine, load_history(path), target=target)
        assert await asyncio.wait_for(app.get(done).result(), 30) == EXPECTED
        await app.resolve(f"{open_one}:1", "moved")
        assert await asyncio.wait_for(app.get(open_one).result(), 30) == "moved"
