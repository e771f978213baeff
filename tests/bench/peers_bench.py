"""Sostenuto beside its peers on the same work, taking turns; medians and spread as JSON.

Peers are measured where they are installed: ``pip install dbos pysqlite3-binary ipython``, in an
environment of their own if one likes. A peer that is missing is named so in the output.

* steps: one workflow of durable steps in sequence, each of which does nothing, microseconds a step.
* fan_out: the same number of steps under one ``asyncio.gather``.
* cell: one cell with top-level await, AsyncExecutor beside IPython's ``run_cell_async``.

DBOS and Sostenuto both keep their state in one SQLite file on the same disk.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROUNDS = 5
STEPS = 200
CELLS = 300


async def nothing(n: int) -> int:
    return n


class Sostenuto:
    """Durable executions on SQLite."""

    async def open(self, directory: Path) -> None:
        from durable import Durable

        self.app = Durable(directory / "sostenuto.db")

        async def sequence(ctx: Any, count: int) -> int:
            return sum([await ctx.run(nothing, n) for n in range(count)])

        async def fan_out(ctx: Any, count: int) -> int:
            return sum(await asyncio.gather(*(ctx.run(nothing, n) for n in range(count))))

        self.app.register(sequence)
        self.app.register(fan_out)
        await self.app.start()

    async def run(self, name: str, id: str) -> int:
        return int(await self.app.run(id, name, STEPS))

    async def close(self) -> None:
        await self.app.close()


class Dbos:
    """DBOS Transact on SQLite."""

    async def open(self, directory: Path) -> None:
        sys.modules["sqlite3"] = __import__("pysqlite3")
        from dbos import DBOS, SetWorkflowID

        url = f"sqlite:///{directory / 'dbos.sqlite'}"
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
        self.id = SetWorkflowID

        @DBOS.step()
        async def step(n: int) -> int:
            return n

        @DBOS.workflow()
        async def sequence(count: int) -> int:
            return sum([await step(n) for n in range(count)])

        @DBOS.workflow()
        async def fan_out(count: int) -> int:
            return sum(await asyncio.gather(*(step(n) for n in range(count))))

        self.workflows = {"sequence": sequence, "fan_out": fan_out}
        self.dbos = DBOS
        DBOS.launch()

    async def run(self, name: str, id: str) -> int:
        with self.id(id):
            return int(await self.workflows[name](STEPS))

    async def close(self) -> None:
        self.dbos.destroy()


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median_us": round(statistics.median(values), 1),
        "least_us": round(min(values), 1),
        "most_us": round(max(values), 1),
    }


async def workflows(missing: dict[str, str]) -> dict[str, Any]:
    """Both kinds of workflow on every engine that is installed."""
    engines: dict[str, Any] = {"sostenuto": Sostenuto()}
    if all(map(importlib.util.find_spec, ("dbos", "pysqlite3"))):
        engines["dbos"] = Dbos()
    else:
        missing["dbos"] = "not installed: pip install dbos pysqlite3-binary"
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for engine in engines.values():
            await engine.open(Path(directory))
        for number in range(ROUNDS + 1):
            for kind in ("sequence", "fan_out"):
                for name, engine in engines.items():
                    id = f"{kind}-{number}"
                    took_s = await timed(lambda e=engine, k=kind, i=id: e.run(k, i))
                    if number:  # the first round warms up
                        per_step = took_s / STEPS * 1e6
                        figures.setdefault(kind, {}).setdefault(name, []).append(per_step)
        for engine in engines.values():
            await engine.close()
    return {kind: with_ratio(sides, "dbos") for kind, sides in figures.items()}


def with_ratio(sides: dict[str, list[float]], peer: str) -> dict[str, Any]:
    """Spreads, and how many times of ours the peer takes."""
    result: dict[str, Any] = {name: spread(values) for name, values in sides.items()}
    if peer in sides:
        ours = statistics.median(next(iter(sides.values())))
        result[f"{peer}_ratio"] = round(statistics.median(sides[peer]) / ours, 2)
    return result


async def cells(missing: dict[str, str]) -> dict[str, Any]:
    """The same cell in AsyncExecutor and in IPython."""
    from executor import AsyncExecutor

    source = "import asyncio\nawait asyncio.sleep(0)\ntotal = sum(range(10))\ntotal"
    executor = AsyncExecutor()
    sides: dict[str, Callable[[], Awaitable[Any]]] = {"executor": lambda: executor.execute(source)}
    if importlib.util.find_spec("IPython"):
        from IPython.core.interactiveshell import InteractiveShell

        shell = InteractiveShell.instance()
        shell.history_manager.enabled = False
        sides["ipython"] = lambda: shell.run_cell_async(
            source, store_history=False, transformed_cell=source
        )
    else:
        missing["ipython"] = "not installed: pip install ipython"
    figures: dict[str, list[float]] = {name: [] for name in sides}

    async def many(work: Callable[[], Awaitable[Any]]) -> None:
        for _ in range(CELLS):
            await work()

    for number in range(ROUNDS + 1):
        for name, work in sides.items():
            with redirect_stdout(io.StringIO()):
                took_s = await timed(lambda w=work: many(w))
            if number:
                figures[name].append(took_s / CELLS * 1e6)
    await executor.aclose()
    return with_ratio(figures, "ipython")


async def main() -> None:
    logging.disable(logging.WARNING)
    missing: dict[str, str] = {}
    report = {"cell": await cells(missing), **await workflows(missing)}
    print(json.dumps({"steps": STEPS, "rounds": ROUNDS, **report, "missing": missing}, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
