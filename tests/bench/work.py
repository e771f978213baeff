"""The work that every engine is given, and what is noted while it runs.

The programs know no engine: each is handed ``step``, which makes one durable step of a number or a
name and returns something to await. So all engines run the same code.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

type Step = Callable[[Any], Awaitable[Any]]

#: Microseconds that the steps of sequences took, as the awaiting program saw it.
latencies_us: list[float] = []

#: Coroutines under the gather whose results are checked, and the steps of each.
BRANCHES = 4
STEPS_PER_BRANCH = 4

#: Steps differ by up to this, and differently in each process, as requests to others would.
JITTER_S = 0.02

#: Set for a process that is to kill itself as its n-th step begins; 0 is never.
_kill_at = int(os.environ.get("BENCH_KILL_AT", "0"))

#: Where a process that resumes says when its first new step began.
_probe_fd = int(os.environ.get("BENCH_PROBE_FD", "-1"))

_begun = 0


async def nothing(n: int) -> int:
    """A step that does nothing."""
    return n


async def probe(n: int) -> int:
    """A step that does nothing until the last one, which says when it began and never returns."""
    if n < int(os.environ["BENCH_RECORDED"]):
        return n
    os.write(_probe_fd, json.dumps({"at_s": time.monotonic()}).encode() + b"\n")
    await asyncio.Event().wait()
    return n


async def ask(name: str) -> str:
    """A step that returns what it was asked, after a while; or kills its process."""
    global _begun
    _begun += 1
    if _begun == _kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(random.uniform(0, JITTER_S))
    return name


async def in_sequence(step: Step, count: int) -> int:
    """One step after another."""
    total = 0
    for n in range(count):
        began_s = time.perf_counter()
        total += await step(n)
        latencies_us.append((time.perf_counter() - began_s) * 1e6)
    return total


async def at_once(step: Step, count: int) -> int:
    """All steps under one gather."""
    return sum(await asyncio.gather(*(step(n) for n in range(count))))


async def branch(step: Step, number: int) -> list[str]:
    """A few steps in sequence; returns where another's result was handed over."""
    wrong = []
    for n in range(STEPS_PER_BRANCH):
        asked = f"{number}.{n}"
        got = await step(asked)
        if got != asked:
            wrong.append(f"{asked} got {got}")
    return wrong


async def chains(step: Step) -> list[str]:
    """Branches of several steps each, as plain coroutines under one gather."""
    found = await asyncio.gather(*(branch(step, number) for number in range(BRANCHES)))
    return [each for wrong in found for each in wrong]


async def single(step: Step) -> list[str]:
    """As many steps as the branches have, under one gather."""
    names = [f"{number}.{n}" for number in range(BRANCHES) for n in range(STEPS_PER_BRANCH)]
    return compare(names, await asyncio.gather(*(step(name) for name in names)))


def compare(asked: list[str], got: list[str]) -> list[str]:
    """Where another's result was handed over."""
    return [f"{a} got {g}" for a, g in zip(asked, got, strict=True) if a != g]
