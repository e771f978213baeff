"""Speed of the store through the SDK, beside the SDK's in-memory mode, in one run.

Usage: python tests/bench/store_bench.py [--quick] [--only NAME ...] [--out FILE]

Each figure is the median of several rounds in which the store and the in-memory mode
take turns, so that a busy machine slows both; ratios are taken between these medians.
`memory` is the in-memory mode as it is, `emptied` has the preload of its fences emptied
(with it, a workflow of n steps costs n squared).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from resonate.connections.local import LocalConnection
from resonate.resonate import Resonate

from store import SqliteConnection, schema

FAR_MS = 4_000_000_000_000
HEAD = {"corrId": "c", "version": "2026-04-01"}
TARGET = "poll://any@nobody"


async def leaf(ctx: Any, x: int) -> int:
    return x + 1


async def sequence(ctx: Any, n: int) -> int:
    total = 0
    for _ in range(n):
        total = await ctx.run(leaf, total)
    return total


async def fan_out(ctx: Any, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.run(leaf, number) for number in range(n)]))


def emptied() -> LocalConnection:
    connection = LocalConnection()
    connection.state.preload = lambda *_: []  # type: ignore[method-assign]
    return connection


class Bench:
    """One SDK instance for each side, all in one loop."""

    def __init__(self, directory: Path, memory_steps: int) -> None:
        self.directory = directory
        self.memory_steps = memory_steps
        self.sides: dict[str, Resonate] = {}
        self.numbers = iter(range(10**9))

    async def open(self) -> None:
        connections = {
            "memory": LocalConnection(),
            "emptied": emptied(),
            "store": SqliteConnection(self.directory / "normal.db"),
            "store_full": SqliteConnection(self.directory / "full.db", synchronous="full"),
        }
        for name, connection in connections.items():
            resonate = Resonate(network=connection, group="default")
            for function in (leaf, sequence, fan_out):
                resonate.register(function, name=function.__name__)
            self.sides[name] = resonate
            await self.run(name, sequence, 50)

    async def run(self, side: str, function: Any, n: int) -> None:
        handle = self.sides[side].run(f"run{next(self.numbers)}", function, n)
        await handle.result()

    async def close(self) -> None:
        for resonate in self.sides.values():
            await resonate.stop()

    async def compare(
        self, sides: list[str], rounds: int, work: Callable[[str], Awaitable[int]]
    ) -> dict[str, dict[str, float]]:
        """Median wall and processor microseconds per unit of work, side by side."""
        wall: dict[str, list[float]] = {side: [] for side in sides}
        busy: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                gc.collect()
                started, used = time.perf_counter(), time.thread_time()
                units = await work(side)
                busy[side].append((time.thread_time() - used) / units * 1e6)
                wall[side].append((time.perf_counter() - started) / units * 1e6)
        return {
            side: {
                "wall_us": round(statistics.median(wall[side]), 1),
                "loop_cpu_us": round(statistics.median(busy[side]), 1),
                "per_s": round(1e6 / statistics.median(wall[side])),
            }
            for side in sides
        }


def ratio(figures: dict[str, dict[str, float]], side: str, base: str) -> dict[str, float]:
    return {
        "wall": round(figures[side]["wall_us"] / figures[base]["wall_us"], 2),
        "loop_cpu": round(figures[side]["loop_cpu_us"] / figures[base]["loop_cpu_us"], 2),
    }


async def sequential(bench: Bench, quick: bool) -> dict[str, Any]:
    """One workflow of sequential steps, per step."""
    n = 300

    async def work(side: str) -> int:
        await bench.run(side, sequence, n)
        return n

    figures = await bench.compare(
        ["memory", "emptied", "store", "store_full"], 3 if quick else 15, work
    )
    return {
        **figures,
        "store/emptied": ratio(figures, "store", "emptied"),
        "store_full/emptied": ratio(figures, "store_full", "emptied"),
    }


async def flat(bench: Bench, quick: bool) -> dict[str, Any]:
    """Time per step of a long workflow against a short one."""
    long = 3_000 if quick else 10_000
    figures: dict[str, Any] = {}
    for n in (300, long, 300, long, 300):

        async def work(side: str, n: int = n) -> int:
            await bench.run(side, sequence, n)
            return n

        found = await bench.compare(["store"], 5 if n == 300 else 1, work)
        figures.setdefault(str(n), []).append(found["store"])
    short_us = statistics.median(each["loop_cpu_us"] for each in figures["300"])
    long_us = statistics.median(each["loop_cpu_us"] for each in figures[str(long)])
    return {**figures, f"loop_cpu {long}/300": round(long_us / short_us, 3)}


async def independent(bench: Bench, quick: bool) -> dict[str, Any]:
    """Runs of one leaf each, 200 at a time, per run."""
    n = 400 if quick else 1_000

    async def work(side: str) -> int:
        gate = asyncio.Semaphore(200)

        async def one() -> None:
            async with gate:
                await bench.run(side, leaf, 1)

        await asyncio.gather(*(one() for _ in range(n)))
        return n

    figures = await bench.compare(["memory", "store", "store_full"], 3 if quick else 7, work)
    return {**figures, "store/memory": ratio(figures, "store", "memory")}


async def fan(bench: Bench, quick: bool) -> dict[str, Any]:
    """One workflow of 1,000 steps at once, per step."""

    async def work(side: str) -> int:
        await bench.run(side, fan_out, 1_000)
        return 1_000

    figures = await bench.compare(["emptied", "store", "store_full"], 3 if quick else 7, work)
    return {**figures, "store/emptied": ratio(figures, "store", "emptied")}


async def crowd(bench: Bench, quick: bool) -> dict[str, Any]:
    """50 workflows of 100 steps at once, per step, and the loop's longest stall meanwhile."""
    stalls: dict[str, list[float]] = {}

    async def work(side: str) -> int:
        done = asyncio.Event()

        async def ticker() -> float:
            longest = 0.0
            while not done.is_set():
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before - 0.001)
            return longest

        watching = asyncio.create_task(ticker())
        await asyncio.gather(*(bench.run(side, sequence, 100) for _ in range(50)))
        done.set()
        stalls.setdefault(side, []).append(await watching)
        return 5_000

    figures = await bench.compare(["emptied", "store", "store_full"], 2 if quick else 7, work)
    stall_ms = {side: round(statistics.median(all_) * 1e3, 2) for side, all_ in stalls.items()}
    return {
        **figures,
        "store/emptied": ratio(figures, "store", "emptied"),
        "longest_stall_ms": stall_ms,
        "stall store/emptied": round(stall_ms["store"] / stall_ms["emptied"], 2),
    }


async def written(bench: Bench, quick: bool) -> dict[str, Any]:
    """Bytes written to the log and syncs per step."""
    figures: dict[str, Any] = {}
    for synchronous in ("normal", "full"):
        path = bench.directory / f"written-{synchronous}.db"
        connection = SqliteConnection(path, synchronous=synchronous)  # type: ignore[arg-type]
        resonate = Resonate(network=connection, group="default")
        for function in (leaf, sequence):
            resonate.register(function, name=function.__name__)
        await resonate.run("warm", sequence, 50).result()
        log = Path(f"{path}-wal")
        syncs = connection._syncer.syncs if connection._syncer is not None else 0
        size = log.stat().st_size
        await resonate.run("x", sequence, 200).result()
        figures[synchronous] = {
            "log_bytes_per_step": round((log.stat().st_size - size) / 200),
            "syncs_per_step": round(
                ((connection._syncer.syncs if connection._syncer is not None else 0) - syncs) / 200,
                3,
            ),
        }
        await resonate.stop()
    return figures


def fill(path: Path, finished: int, pending: int) -> None:
    """Put many promises with their tasks into a new file, as the store would leave them."""
    import sqlite3

    schema.prepare(str(path))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    tags = json.dumps({"resonate:target": TARGET, "resonate:scope": "global"})
    for prefix, state, count in (("f", 1, finished), ("p", 0, pending)):
        settled = 1_700_000_000_000 if state else None
        connection.executemany(
            "INSERT INTO promises VALUES (?,?,1,?,1700000000000,?,0,?,?,?)",
            (
                (
                    f"{prefix}{number:07}",
                    state,
                    FAR_MS + number,
                    settled,
                    tags,
                    '{"data":"e30="}',
                    None,
                )
                for number in range(count)
            ),
        )
        connection.executemany(
            "INSERT INTO tasks (id, state, version, timeout_at, target, due_at)"
            " VALUES (?,?,1,?,?,?)",
            (
                (
                    f"{prefix}{number:07}",
                    4 if state else 0,
                    FAR_MS,
                    TARGET,
                    None if state else FAR_MS,
                )
                for number in range(count)
            ),
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def action(kind: str, **data: Any) -> dict[str, Any]:
    return {"kind": kind, "head": HEAD, "data": data}


def operations(number: int) -> list[tuple[str, dict[str, Any]]]:
    """One of each operation, on ids of their own."""
    a, t = f"a{number:06}", f"t{number:06}"
    step = action("promise.create", id=f"{t}:1", timeoutAt=FAR_MS, tags={"resonate:branch": t})
    settle = action("promise.settle", id=f"{t}:1", state="resolved")
    create = action("promise.create", id=t, timeoutAt=FAR_MS, tags={"resonate:target": TARGET})
    wait = action("promise.register_callback", awaited=a, awaiter=t)
    finish = action("promise.settle", id=t, state="resolved")
    return [
        ("promise.create", {"id": a, "timeoutAt": FAR_MS, "tags": {"resonate:external": "true"}}),
        ("promise.get", {"id": a}),
        ("promise.register_listener", {"awaited": a, "address": "poll://uni@nobody/x"}),
        ("task.create", {"pid": "w", "ttl": 10**9, "action": create}),
        ("task.get", {"id": t}),
        ("task.fence", {"id": t, "version": 1, "action": step}),
        ("task.fence", {"id": t, "version": 1, "action": settle}),
        ("task.heartbeat", {"pid": "w", "tasks": [{"id": t, "version": 1}]}),
        ("task.suspend", {"id": t, "version": 1, "actions": [wait]}),
        ("promise.settle", {"id": a, "state": "resolved"}),
        ("task.acquire", {"id": t, "version": 1, "pid": "w", "ttl": 10**9}),
        ("task.release", {"id": t, "version": 2}),
        ("task.acquire", {"id": t, "version": 2, "pid": "w", "ttl": 10**9}),
        ("task.fulfill", {"id": t, "version": 3, "action": finish}),
        ("promise.search", {"limit": 10}),
        ("task.search", {"limit": 10}),
    ]


async def scale(bench: Bench, quick: bool) -> dict[str, Any]:
    """Time of every operation in a file with 10^6 finished and 10^5 pending promises."""
    empty, large = bench.directory / "empty.db", bench.directory / "large.db"
    fill(empty, 0, 0)
    fill(large, *((100_000, 10_000) if quick else (1_000_000, 100_000)))
    figures: dict[str, Any] = {"size_bytes": large.stat().st_size}
    connections = {}
    for name, path in (("empty", empty), ("large", large)):
        connection = SqliteConnection(path)
        started = time.perf_counter()
        await connection.start()
        figures[f"open_{name}_ms"] = round((time.perf_counter() - started) * 1e3, 1)
        connections[name] = connection
    times: dict[str, dict[str, list[float]]] = {"empty": {}, "large": {}}
    for number in range(60 if quick else 400):
        for name, connection in connections.items():
            for position, (kind, data) in enumerate(operations(number)):
                text = json.dumps({"kind": kind, "head": HEAD, "data": data})
                started = time.perf_counter()
                answer = await connection.send(text)
                elapsed = time.perf_counter() - started
                assert json.loads(answer)["head"]["status"] == 200, (kind, answer)
                key = f"{position:02} {kind}"
                times[name].setdefault(key, []).append(elapsed * 1e6)
                await asyncio.sleep(0)
    for connection in connections.values():
        await connection.stop()
    medians = {
        key: [round(statistics.median(times[name][key]), 1) for name in ("empty", "large")]
        for key in times["empty"]
    }
    figures["operations"] = {
        key: {"empty_us": empty_us, "large_us": large_us, "ratio": round(large_us / empty_us, 2)}
        for key, (empty_us, large_us) in medians.items()
    }
    return figures


async def idle(bench: Bench, quick: bool) -> dict[str, Any]:
    """Processor time of four connections with nothing to do, per connection."""
    await bench.close()
    connections = [SqliteConnection(bench.directory / f"idle{number}.db") for number in range(4)]
    for connection in connections:
        connection.recv(lambda _: None)
        await connection.start()
    seconds = 3 if quick else 10
    await asyncio.sleep(0.5)
    before = time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - before) / seconds / len(connections)
    for connection in connections:
        await connection.stop()
    await bench.open()
    return {"core_percent": round(share * 100, 2)}


async def memory(bench: Bench, quick: bool) -> dict[str, Any]:
    """Growth of the process over many steps, and the largest log meanwhile."""
    path = bench.directory / "memory.db"
    connection = SqliteConnection(path)
    # Once a minute the SDK asks again for what it waits for, also for a promise that it is about
    # to create, and takes the 404 for its end: among a thousand runs this happens. An engine in
    # the process needs no asking.
    resonate = Resonate(network=connection, group="default", subscription_refresh_secs=0)
    for function in (leaf, sequence):
        resonate.register(function, name=function.__name__)
    steps = 20_000 if quick else bench.memory_steps
    await resonate.run("warm", sequence, 5_000).result()
    gc.collect()
    before = halfway = resident_bytes()
    largest = 0
    for number in range(steps // 1_000):
        await resonate.run(f"r{number}", sequence, 1_000).result()
        largest = max(largest, Path(f"{path}-wal").stat().st_size)
        if number == steps // 2_000:
            gc.collect()
            halfway = resident_bytes()
        if (number + 1) % 100 == 0:
            print(f"   memory: {number + 1:,}000 steps", file=sys.stderr, flush=True)
    gc.collect()
    after = resident_bytes()
    await resonate.stop()
    return {
        "steps": steps,
        "before_bytes": before,
        "grown_bytes": after - before,
        "second_half_bytes": after - halfway,
        "most_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "largest_log_bytes": largest,
    }


def resident_bytes() -> int:
    """Memory of this process alone: not pages of mapped files, nor what is swapped out."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


PARTS: dict[str, Callable[[Bench, bool], Awaitable[dict[str, Any]]]] = {
    "sequential": sequential,
    "flat": flat,
    "independent": independent,
    "fan_out": fan,
    "crowd": crowd,
    "written": written,
    "idle": idle,
    "memory": memory,
    "scale": scale,
}


async def main(quick: bool, only: list[str], memory_steps: int) -> dict[str, Any]:
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()],
    }
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), memory_steps)
        await bench.open()
        for name, part in PARTS.items():
            if not only or name in only:
                report[name] = await part(bench, quick)
                print(f"{name}: {json.dumps(report[name])}", file=sys.stderr, flush=True)
        await bench.close()
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller files")
    parser.add_argument("--memory-steps", type=int, default=200_000, help="steps of `memory`")
    parser.add_argument("--only", nargs="*", default=[], choices=PARTS)
    parser.add_argument("--out", type=Path, help="write the report there, too")
    arguments = parser.parse_args()
    found = asyncio.run(main(arguments.quick, arguments.only, arguments.memory_steps))
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
