"""What execute() adds to bare compile, eval and await of the same cell.

Prints JSON; every ratio is taken within one run. With IPython installed in the interpreter that
runs this, its ``run_cell_async`` is measured beside it.

    python -m tests.bench.executor_bench [--memory]
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import gc
import io
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any

from executor import AsyncExecutor, NamespaceManager

TEN_LINES = """\
import math
values = [math.sqrt(n) for n in range(5)]
table = {str(n): n for n in range(3)}
def scale(x, by=2):
    return x * by
total = 0
for value in values:
    total += scale(value)
table["total"] = round(total, 3)
table"""

CELLS = {
    "x = 1 + 1": "x = 1 + 1",
    "await asyncio.sleep(0)": "await asyncio.sleep(0)",
    "ten lines": TEN_LINES,
}
FLAG = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
ROUNDS = 7
CELLS_PER_ROUND = 300


async def bare(source: str, namespace: dict[str, Any]) -> None:
    code = compile(source, "<bare>", "exec", FLAG, True)
    pending = eval(code, namespace)
    if code.co_flags & CO_COROUTINE:
        await pending


async def best_us(
    runs: dict[str, tuple[Callable[[str], Awaitable[object]], Callable[[], list[str]]]],
) -> dict[str, float]:
    """Processor time of the loop's thread per cell, in the best of several rounds.

    The kinds take turns within a round, so that whatever else the machine does hits all alike.
    """
    best_s = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, (run, sources) in runs.items():
            batch = sources()
            gc.collect()
            started_s = time.thread_time()
            for source in batch:
                await run(source)
            elapsed_s = time.thread_time() - started_s
            best_s[name] = min(best_s[name], elapsed_s / len(batch))
    return {name: seconds * 1e6 for name, seconds in best_s.items()}


class Fresh:
    """Sources that were never seen before, with the same cost each."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._count = 0

    def __call__(self) -> list[str]:
        start, self._count = self._count, self._count + CELLS_PER_ROUND
        return [f"{self._source}  # {n:07}" for n in range(start, self._count)]


async def measure_cell(source: str, ipython: Any) -> dict[str, float]:
    namespace: dict[str, Any] = {"asyncio": asyncio}
    repeated = [source] * CELLS_PER_ROUND
    runs: dict[str, Any] = {"bare": (lambda text: bare(text, namespace), Fresh(source))}
    async with AsyncExecutor() as executor:
        runs["new"] = (executor.execute, Fresh(source))
        runs["cached"] = (executor.execute, lambda: repeated)
        if ipython is not None:
            runs["ipython"] = (
                lambda text: ipython.run_cell_async(
                    text, store_history=False, transformed_cell=ipython.transform_cell(text)
                ),
                Fresh(source),
            )
        best = await best_us(runs)
    result = {f"{name}_us": value for name, value in best.items()}
    result["added_new_ratio"] = (best["new"] - best["bare"]) / best["bare"]
    result["added_cached_ratio"] = (best["cached"] - best["bare"]) / best["bare"]
    if ipython is not None:
        result["added_to_ipython_ratio"] = (best["new"] - best["bare"]) / best["ipython"]
    return {key: round(value, 3) for key, value in result.items()}


async def measure_namespace_size() -> dict[str, float]:
    sizes = (10, 100_000)
    executors = [
        AsyncExecutor(NamespaceManager({f"name_{n}": n for n in range(size)})) for size in sizes
    ]
    best = await best_us(
        {
            str(size): (executor.execute, Fresh("x = 1 + 1"))
            for size, executor in zip(sizes, executors, strict=True)
        }
    )
    for executor in executors:
        await executor.aclose()
    result = {f"names_{size}_us": best[str(size)] for size in sizes}
    result["growth_ratio"] = best["100000"] / best["10"]
    return {key: round(value, 3) for key, value in result.items()}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def measure_memory() -> dict[str, int]:
    """Resident memory after 20,000 cells and after 100,000 different ones."""
    import linecache

    result: dict[str, int] = {}
    async with AsyncExecutor() as executor:
        for number in range(100_000):
            await executor.execute(f"x = {number}\ndef f(): return x\n[f() for _ in range(3)]")
            if number == 20_000:
                gc.collect()
                result["after_20000_bytes"] = resident_bytes()
        gc.collect()
        result["after_100000_bytes"] = resident_bytes()
        result["linecache_entries"] = sum(name.startswith("<sost") for name in linecache.cache)
    return result


def find_ipython() -> Any:
    try:
        from IPython.core.interactiveshell import InteractiveShell
    except ImportError:
        return None
    shell = InteractiveShell.instance()
    # Without it the shell would be timed at showing a NameError.
    shell.user_ns["asyncio"] = asyncio
    return shell


async def main(with_memory: bool) -> dict[str, Any]:
    ipython = find_ipython()
    with redirect_stdout(io.StringIO()):
        cells = {name: await measure_cell(source, ipython) for name, source in CELLS.items()}
        result: dict[str, Any] = {
            "python": sys.version.split()[0],
            "cells": cells,
            "namespace": await measure_namespace_size(),
        }
        if with_memory:
            result["memory"] = await measure_memory()
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="also run 100,000 cells")
    print(json.dumps(asyncio.run(main(parser.parse_args().memory)), indent=2))
