"""Every engine on the same work, taking turns: rates, latencies, stalls, bytes and syncs; JSON.

Engines run in processes of their own (``worker.py``), all open at once, and do a round of each work
one after another; a figure is the median over the rounds. Peers are measured where they are
installed: ``make bench`` installs them, and ``RESTATE_SERVER`` and ``BENCH_POSTGRES`` name what
needs a server. What is missing is named in the output.

* sequence: one execution of steps that do nothing, one after another; latencies are its steps'.
* fan_out: one execution, its steps under one gather.
* runs: executions of one step, all started at once.
* crowd: executions of many steps at once, beside a 1 ms ticker on the engine's event loop.
* footprint: what stays on disk, and fsync and fdatasync calls (where strace is found), per step.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import level, peers, percentile, progress, spread, versions
from restate_server import Server
from worker import Worker

OWN = ("durable", "durable full", "store", "store full", "memory", "memory emptied")

#: Who ours are set beside: (ours, other).
RATIOS = (
    ("durable", "dbos"),
    ("durable full", "dbos"),
    ("durable", "restate"),
    ("durable full", "restate"),
    ("durable", "resonate-pg"),
    ("store", "memory"),
    ("store", "memory emptied"),
    ("store full", "dbos"),
    ("store", "dbos"),
)


@dataclass(frozen=True)
class Size:
    rounds: int
    steps: int
    fan_out: int
    executions: int
    crowd: tuple[int, int]
    footprint_steps: int


SIZES = {
    "quick": Size(1, 20, 20, 10, (3, 5), 20),
    "normal": Size(5, 400, 200, 100, (10, 50), 300),
    "full": Size(9, 400, 200, 100, (10, 50), 1000),
}


def requests(size: Size) -> dict[str, tuple[dict[str, Any], int]]:
    """What is asked for each work, and the units in it."""
    workflows, steps = size.crowd
    return {
        "sequence": ({"do": "run", "kind": "sequence", "count": size.steps}, size.steps),
        "fan_out": ({"do": "run", "kind": "fan_out", "count": size.fan_out}, size.fan_out),
        "runs": ({"do": "many", "kind": "one", "executions": size.executions}, size.executions),
        "crowd": (
            {"do": "many", "kind": "sequence", "executions": workflows, "count": steps},
            workflows * steps,
        ),
    }


def take_turns(size: Size, names: list[str]) -> dict[str, Any]:
    """Median microseconds per unit of each work on each engine, latencies and stalls."""
    units: dict[str, dict[str, list[float]]] = {}
    latencies_us: dict[str, list[float]] = {}
    stalls_ms: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if name == "restate":
                stack.enter_context(Server(directory))
            workers[name] = Worker(name, directory)
            stack.callback(workers[name].close)
            workers[name].hear()
            workers[name].ask(do="run", kind="sequence", id="warm", count=50)
        for number in range(size.rounds):
            for kind, (request, count) in requests(size).items():
                progress(f"round {number + 1} of {size.rounds}: {kind}")
                for name, worker in workers.items():
                    answer = worker.ask(**request, id=f"{kind}-{number}")
                    per_unit_us = answer["took_s"] / count * 1e6
                    units.setdefault(kind, {}).setdefault(name, []).append(per_unit_us)
                    latencies_us.setdefault(name, []).extend(answer.get("latencies_us", ()))
                    if kind == "crowd":
                        stalls_ms.setdefault(name, []).append(answer["stall_ms"])
    return {
        **{kind: with_ratios(kind, sides) for kind, sides in units.items()},
        "latency": {name: tail(found) for name, found in latencies_us.items()},
        "crowd_longest_stall": {name: spread(found, "ms") for name, found in stalls_ms.items()},
    }


def with_ratios(kind: str, sides: dict[str, list[float]]) -> dict[str, Any]:
    """Spreads, and how many times of ours the other takes."""
    middle = {name: statistics.median(values) for name, values in sides.items()}
    return {
        "us": {name: spread(values, "us") for name, values in sides.items()},
        "ratio": {
            f"{other}/{ours}": round(middle[other] / middle[ours], 2)
            for ours, other in RATIOS
            if ours in middle and other in middle
        },
    }


def tail(values_us: list[float]) -> dict[str, float]:
    """The percentiles of single steps."""
    return {
        "p50_us": round(percentile(values_us, 0.5), 1),
        "p99_us": round(percentile(values_us, 0.99), 1),
        "p99.9_us": round(percentile(values_us, 0.999), 1),
        "longest_us": round(max(values_us), 1),
        "samples": len(values_us),
    }


def footprint(name: str, size: Size) -> dict[str, float]:
    """Bytes on disk and syncs per step, of an execution of sequential steps."""
    steps, found = size.footprint_steps, {}
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        directory = Path(text)
        trace = directory / "trace"
        tracer = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync"]
        prefix = [*tracer, "-o", str(trace)] if shutil.which("strace") else []
        if name == "restate":  # it is the server that writes
            stack.enter_context(Server(directory, prefix))
        for number in range(2):
            worker = Worker(name, directory, prefix if number and name != "restate" else None)
            try:
                worker.hear()
                worker.ask(do="run", kind="sequence", id=f"warm-{number}", count=50)
                if not number:
                    continue
                before_bytes, before_syncs = stored_bytes(directory), count_lines(trace)
                worker.ask(do="run", kind="sequence", id="measured", count=steps)
                if prefix:
                    found["syncs"] = round((count_lines(trace) - before_syncs) / steps, 3)
            finally:
                worker.close()
        # A server's store of its own grows in pieces that say nothing of one step.
        if name != "restate":
            found["bytes"] = round((stored_bytes(directory) - before_bytes) / steps)
    return found


def stored_bytes(directory: Path) -> int:
    """The size of database files; without their logs, which are reused."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.suffix in SUFFIXES)


SUFFIXES = {".db", ".sqlite"}


def count_lines(path: Path) -> int:
    """Calls that a tracer wrote down, whole ones and begun ones alike."""
    if not path.exists():
        return 0
    return sum("resumed>" not in line for line in path.read_text().splitlines())


def main() -> None:
    size = SIZES[level(__doc__)]
    present, missing = peers()
    report = {
        "versions": versions(),
        "steps": size.steps,
        "rounds": size.rounds,
        **take_turns(size, [*OWN, *present]),
        "per_step": {},
        "missing": missing,
    }
    on_disk = [name for name in ("durable", "durable full", *present) if name != "resonate-pg"]
    for name in on_disk:
        progress(f"bytes and syncs of {name}")
        report["per_step"][name] = footprint(name, size)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
