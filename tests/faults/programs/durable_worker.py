"""A worker of one group: opens the database, runs what there is, and says so.

Every step leaves a line in a side-effect file before it returns, and one more beside its
record; whoever reads them knows how often it ran.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import tenacity

from durable import Durable

PLAN = 4


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def leave(directory: Path, line: str) -> None:
    """One write of one line: another process's lines are not torn."""
    descriptor = os.open(directory / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def make(database: str) -> Durable:
    directory = Path(database).parent
    app = Durable(database)

    async def effect(name: str, delay_s: float = 0.004) -> str:
        leave(directory, name)
        await asyncio.sleep(delay_s)
        return name

    def blocking(name: str) -> str:
        leave(directory, name)
        return name

    async def flaky(ctx: Any, name: str) -> str:
        count = sum(1 for line in (directory / "effects").read_text().splitlines() if line == name)
        leave(directory, name)
        if count < 2:
            raise ConnectionError("not yet")
        return name

    retry = {"stop": tenacity.stop_after_attempt(20), "wait": tenacity.wait_fixed(0.005)}

    @app.register
    async def child(ctx: Any, name: str) -> str:
        return await ctx.run(effect, f"{name}/child")

    @app.register
    async def program(ctx: Any, name: str) -> list[Any]:
        async def branch(n: int) -> list[str]:
            first = await ctx.run(effect, f"{name}/{n}/a")
            second = await ctx.run(blocking, f"{name}/{n}/b")
            return [first, second]

        async def outer(ctx: Any) -> list[str]:
            return list(await asyncio.gather(*(ctx.run(effect, f"{name}/in{n}") for n in range(3))))

        branches = await asyncio.gather(*(branch(n) for n in range(PLAN)))
        nested = await ctx.run(outer)
        await ctx.sleep(0.02)
        tried = await ctx.options(retry=retry).run(flaky, f"{name}/flaky")
        called = await ctx.rpc("child", name)
        answer = await ctx.options(key="ask").promise()
        return [branches, nested, tried, called, answer]

    return app


def expected(name: str) -> list[Any]:
    return [
        [[f"{name}/{n}/a", f"{name}/{n}/b"] for n in range(PLAN)],
        [f"{name}/in{n}" for n in range(3)],
        f"{name}/flaky",
        f"{name}/child",
        "yes",
    ]


async def main(database: str, count: int) -> None:
    async with make(database) as app:
        say(open=os.getpid())
        handles = [app.run(f"e{n}", "program", f"e{n}") for n in range(count)]
        await asyncio.gather(*(handle.started() for handle in handles))
        say(started=count)
        results = await asyncio.gather(*handles)
        assert results == [expected(f"e{n}") for n in range(count)], results
        say(done=count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
