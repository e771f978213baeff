"""The adapter of Restate: handlers served over HTTP/2 to a server in another process."""

from __future__ import annotations

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import restate
import work
from engines import EVERY_RATE, Engine
from hypercorn.asyncio import serve
from hypercorn.config import Config


class Restate(Engine):
    """Handlers of a Restate server, served over HTTP/2; the server is another process."""

    kinds = (*EVERY_RATE, "resuming", "single", "children")

    async def open(self, directory: Path) -> None:
        self.ports = json.loads((directory / "restate.json").read_text())
        self.threads = ThreadPoolExecutor(64)
        config = Config()
        config.bind = [f"127.0.0.1:{self.ports['service']}"]
        config.h2_max_concurrent_streams = config.keep_alive_max_requests = 2_147_483_647
        config.keep_alive_timeout = 2_147_483_647
        self.stopping = asyncio.Event()
        app: Any = restate.app(services=[self.service()])
        self.serving = asyncio.create_task(serve(app, config, shutdown_trigger=self.stopping.wait))
        if not self.ports["is_known"]:
            await self.make_known(directory)

    def service(self) -> Any:
        service = restate.Service("bench")

        def step(ctx: Any, function: Any) -> Any:
            name = function.__name__
            return lambda n: ctx.run_typed(name, function, restate.RunOptions(), n)

        async def all_of(futures: list[Any]) -> list[Any]:
            return [await each for each in await restate.gather(*futures)]

        @service.handler()
        async def sequence(ctx: restate.Context, count: int) -> int:
            return await work.in_sequence(step(ctx, work.nothing), count)

        @service.handler()
        async def fan_out(ctx: restate.Context, count: int) -> int:
            return sum(await all_of([step(ctx, work.nothing)(n) for n in range(count)]))

        @service.handler()
        async def one(ctx: restate.Context, count: int) -> int:
            return await step(ctx, work.nothing)(count)

        @service.handler()
        async def resuming(ctx: restate.Context, count: int) -> int:
            return await work.in_sequence(step(ctx, work.probe), count)

        @service.handler()
        async def single(ctx: restate.Context, count: int) -> list[str]:
            names = [str(n) for n in range(work.BRANCHES * work.STEPS_PER_BRANCH)]
            return work.compare(names, await all_of([step(ctx, work.ask)(name) for name in names]))

        @service.handler()
        async def branch(ctx: restate.Context, number: int) -> list[str]:
            return await work.branch(step(ctx, work.ask), number)

        @service.handler()
        async def children(ctx: restate.Context, count: int) -> list[str]:
            calls = [ctx.service_call(branch, number) for number in range(work.BRANCHES)]
            return [each for wrong in await all_of(calls) for each in wrong]

        return service

    async def make_known(self, directory: Path) -> None:
        uri = f"http://127.0.0.1:{self.ports['service']}"
        for _ in range(100):
            try:
                await self.post(self.ports["admin"], "/deployments", {"uri": uri}, {})
                break
            except (OSError, RuntimeError):
                await asyncio.sleep(0.1)
        else:
            raise RuntimeError("the server does not take the service")
        self.ports["is_known"] = True
        (directory / "restate.json").write_text(json.dumps(self.ports))

    async def post(self, port: int, path: str, body: Any, headers: dict[str, str]) -> Any:
        def request() -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            try:
                every = {"content-type": "application/json", **headers}
                connection.request("POST", path, json.dumps(body), every)
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status >= 300:
                    raise RuntimeError(f"{answer.status} {text[:500]}")
                return json.loads(text)
            finally:
                connection.close()

        return await asyncio.get_running_loop().run_in_executor(self.threads, request)

    async def run(self, kind: str, id: str, count: int) -> Any:
        # The same key attaches to what is under way.
        return await self.post(
            self.ports["ingress"], f"/bench/{kind}", count, {"idempotency-key": id}
        )

    async def close(self) -> None:
        self.stopping.set()
        await self.serving
        self.threads.shutdown()
