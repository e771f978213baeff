"""Durable executions beside the bare SDK, as figures and ratios taken in one run.

Prints one JSON object. Rates are per second, the median of several rounds, in which the
sides take turns; times are milliseconds. A ratio is Durable over the SDK on the same
SQLite store: above 1 Durable is the faster one. ``resume`` is measured with real
processes: 500 recorded steps, SIGKILL, then from the start of ``Durable`` in a fresh
process to its 501st step.

Run: ``python tests/bench/durable_bench.py [--quick]``.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from resonate.connections import LocalConnection
from resonate.resonate import Resonate

from durable import Durable
from store import SqliteConnection

QUICK = "--quick" in sys.argv
ROUNDS = 3
STEPS = 200 if QUICK else 500
EXECUTIONS = 100 if QUICK else 300
RECORDED = 500


async def add(a: int, b: int) -> int:
    return a + b


async def sdk_add(ctx: Any, a: int, b: int) -> int:
    return a + b


async def durable_sequence(ctx: Any, n: int) -> int:
    total = 0
    for each in range(n):
        total = await ctx.run(add, total, each)
    return total


async def sdk_sequence(ctx: Any, n: int) -> int:
    total = 0
    for each in range(n):
        total = await ctx.run(sdk_add, total, each)
    return total


async def durable_fan_out(ctx: Any, n: int) -> int:
    return sum(await asyncio.gather(*(ctx.run(add, each, 1) for each in range(n))))


async def sdk_fan_out(ctx: Any, n: int) -> int:
    return sum([await future for future in [ctx.run(sdk_add, each, 1) for each in range(n)]])


async def durable_one(ctx: Any) -> int:
    return await ctx.run(add, 1, 2)


async def sdk_one(ctx: Any) -> int:
    return await ctx.run(sdk_add, 1, 2)


PROGRAMS = {
    "durable": {
        "sequence": durable_sequence,
        "fan_out": durable_fan_out,
        "executions": durable_one,
    },
    "sdk": {"sequence": sdk_sequence, "fan_out": sdk_fan_out, "executions": sdk_one},
}


async def measure(run: Any, programs: dict[str, Any], tag: str) -> dict[str, float]:
    """Return operations per second of each program; ``run(id, fn, *args)`` awaits a result."""
    rates: dict[str, float] = {}
    for name in ("sequence", "fan_out"):
        await run(f"{tag}-{name}-warm", programs[name], 10)
        began_s = time.perf_counter()
        await run(f"{tag}-{name}", programs[name], STEPS)
        rates[name] = STEPS / (time.perf_counter() - began_s)
    began_s = time.perf_counter()
    await asyncio.gather(*(run(f"{tag}-x{n}", programs["executions"]) for n in range(EXECUTIONS)))
    rates["executions"] = EXECUTIONS / (time.perf_counter() - began_s)
    return rates


async def with_durable(directory: Path, tag: str) -> dict[str, float]:
    app = Durable(directory / f"{tag}.db")
    for function in PROGRAMS["durable"].values():
        app.register(function)

    async def run(id: str, fn: Any, *args: Any) -> Any:
        return await app.run(id, fn, *args)

    async with app:
        return await measure(run, PROGRAMS["durable"], tag)


async def with_sdk(network: Any, tag: str) -> dict[str, float]:
    engine = Resonate(network=network, group="default", max_concurrent_tasks=100_000)
    for function in PROGRAMS["sdk"].values():
        engine.register(function)

    async def run(id: str, fn: Any, *args: Any) -> Any:
        return await engine.run(id, fn, *args).result()

    try:
        return await measure(run, PROGRAMS["sdk"], tag)
    finally:
        await engine.stop()


RESUME = """
import asyncio, json, sys, time
began_s = time.perf_counter()
from durable import Durable
imported_s = time.perf_counter()
async def add(a, b): return a + b
async def program(ctx, n):
    total = 0
    for each in range(n):
        total = await ctx.run(add, total, each)
    print(json.dumps({{"next_step_ms": (time.perf_counter() - opened_s) * 1000,
                      "import_ms": (imported_s - began_s) * 1000}}), flush=True)
    await ctx.promise()
async def main():
    global opened_s
    opened_s = time.perf_counter()
    app = Durable(sys.argv[1])
    app.register(program)
    async with app:
        await app.run("x", program, {recorded})
asyncio.run(main())
"""


def resume(directory: Path) -> dict[str, float]:
    """Return how long a fresh process needs to pass 500 recorded steps."""
    program = [sys.executable, "-c", RESUME.format(recorded=RECORDED), str(directory / "resume.db")]
    said: list[dict[str, float]] = []
    for _ in range(1 + ROUNDS):
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said.append(json.loads(process.stdout.readline()))
        process.kill()
        process.wait()
        process.stdout.close()
    resumed = said[1:]  # the first one made the steps
    return {
        key: round(statistics.median(each[key] for each in resumed), 1)
        for key in ("next_step_ms", "import_ms")
    }


async def main() -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {"durable": [], "sdk": [], "sdk_local": []}
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as name:
        directory = Path(name)
        for number in range(ROUNDS):
            rounds["durable"].append(await with_durable(directory, f"d{number}"))
            network = SqliteConnection(directory / f"s{number}.db")
            rounds["sdk"].append(await with_sdk(network, f"s{number}"))
            if number == 0:
                # Once: its time grows with the square of the steps.
                rounds["sdk_local"].append(await with_sdk(LocalConnection(), f"l{number}"))
        resumed = resume(directory)
    rates = {
        side: {name: round(statistics.median(each[name] for each in found), 1) for name in found[0]}
        for side, found in rounds.items()
    }
    return {
        "python": platform.python_version(),
        "steps": STEPS,
        "executions": EXECUTIONS,
        "rounds": ROUNDS,
        "per_second": rates,
        "ratio_to_sdk_on_sqlite": {
            name: round(rates["durable"][name] / rates["sdk"][name], 2) for name in rates["sdk"]
        },
        "ratio_to_sdk_in_memory": {
            name: round(rates["durable"][name] / rates["sdk_local"][name], 2)
            for name in rates["sdk_local"]
        },
        "resume_500_steps": resumed,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main()), indent=2))
