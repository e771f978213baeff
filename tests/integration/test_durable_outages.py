"""A store that fails for a moment is tried again, within bounds; one that stays away is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from integration.http_server import http_server
from resonate_base import ConnectorError

from durable import Durable
from durable.engines import SteadyNetwork
from durable.errors import EngineUnavailableError

pytestmark = pytest.mark.integration


class Unsteady:
    """Fails the next requests, as many as told."""

    def __init__(self, failures: int, inner: Any = None) -> None:
        self.failures = failures
        self.inner = inner
        self.requests = 0

    async def start(self) -> None:
        if self.inner is not None:
            await self.inner.start()

    async def stop(self) -> None:
        if self.inner is not None:
            await self.inner.stop()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        self.requests += 1
        if self.failures > 0:
            self.failures -= 1
            raise ConnectorError(OSError("the disk is away"))
        if self.inner is None:
            return "answer"
        answer: str = await self.inner.send(req, headers)
        return answer


async def test_a_request_that_fails_on_the_way_is_repeated_a_bounded_number_of_times() -> None:
    waits: list[float] = []

    async def sleeper(seconds: float) -> None:
        waits.append(seconds)

    inner = Unsteady(3)
    assert await SteadyNetwork(inner, sleeper).send("{}") == "answer"  # type: ignore[arg-type]
    assert inner.requests == 4
    assert len(set(waits)) == len(waits) == 3  # jitter: no two waits are alike
    inner = Unsteady(99)
    with pytest.raises(ConnectorError, match="the disk is away"):
        await SteadyNetwork(inner, sleeper).send("{}")  # type: ignore[arg-type]
    assert inner.requests == 6


async def test_a_store_that_stays_away_is_told_and_nothing_done_is_lost(tmp_path: Path) -> None:
    done: list[int] = []
    away: list[Unsteady] = []

    async def effect(n: int) -> int:
        done.append(n)
        if n == 2 and away:
            away[0].failures = 10**9
        return n

    async def program(ctx: Any) -> list[int]:
        return [await ctx.run(effect, n) for n in range(4)]

    def cut(network: Any) -> Any:
        away.append(Unsteady(0, network))
        return away[0]

    app = Durable(tmp_path / "runs.db", intercept=cut)
    app.register(program)
    async with app:
        with pytest.raises(EngineUnavailableError, match="stopped answering"):
            await asyncio.wait_for(app.run("x", program).result(), 20)
    away.clear()
    app = Durable(tmp_path / "runs.db")
    app.register(program)
    async with app:
        assert await asyncio.wait_for(app.run("x", program).result(), 20) == [0, 1, 2, 3]
    assert done == [0, 1, 2, 2, 3]


async def test_a_server_that_is_not_there_is_told_at_once_with_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, none answers
        url = f"http://anna:secret@127.0.0.1:{taken.getsockname()[1]}"
        with caplog.at_level(logging.INFO), pytest.raises(EngineUnavailableError) as error:
            await Durable(url).start()
    assert url.replace("secret", "***") in str(error.value)
    assert "start the server" in str(error.value)
    assert "secret" not in str(error.value)
    assert not caplog.records


async def test_a_server_that_is_restarted_under_a_run_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    at: list[int] = []
    restarted = asyncio.Event()

    async def step(number: int) -> int:
        at.append(number)
        return number

    async with contextlib.AsyncExitStack() as server:
        url = await server.enter_async_context(http_server(path))
        app = Durable(url, sleeper=quickly)

        @app.register
        async def three(ctx: Any) -> list[int]:
            done = [await ctx.run(step, 1)]
            await server.aclose()
            asyncio.get_running_loop().call_later(1, restarted.set)
            return [*done, await ctx.run(step, 2), await ctx.run(step, 3)]

        async with app:
            handle = app.run("through", three)
            await restarted.wait()
            async with http_server(path, int(url.rpartition(":")[2])):
                assert await asyncio.wait_for(handle.result(), 20) == [1, 2, 3]
    assert at == [1, 2, 3]


async def quickly(seconds: float) -> None:
    await asyncio.sleep(seconds / 10)
