"""From a process's start to its first new step, after a SIGKILL with 500 steps recorded; JSON.

The process that makes the steps is killed in its 501st; another is started at once, and the clock
runs from its start to its beginning of that step: interpreter, imports and opening are included.
Every round begins anew, in a file (or a server's directory) of its own. The engines take turns. A
server goes on running through the kill. resonate-pg waits for the dead process's lease, a minute:
it has one round.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from figures import level, peers, progress, spread, versions
from restate_server import Server
from worker import Worker

#: (rounds, steps recorded)
SIZES = {"quick": (1, 50), "normal": (5, 500), "full": (9, 500)}

#: A lease may have to run out first: the SDK's is a minute.
LIMIT_S = 150.0


def killed(name: str, directory: Path, recorded: int, first: bool) -> float:
    """Run until the first new step has begun, kill, and return the seconds it took."""
    worker = Worker(name, directory, env={"BENCH_RECORDED": str(recorded)})
    try:
        do = "run" if first else "attach"
        worker.say(do=do, kind="resuming", id="resumed", count=recorded + 1)
        while "at_s" not in (answer := worker.hear(LIMIT_S)):
            if "refused" in answer:
                raise RuntimeError(f"{name}: {answer}")
        return float(answer["at_s"]) - worker.started_s
    finally:
        worker.kill()


def resumed(name: str, recorded: int) -> float:
    """Record, kill, resume, and return the seconds that resuming took."""
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        directory = Path(text)
        if name == "restate":
            stack.enter_context(Server(directory))
        killed(name, directory, recorded, first=True)
        return killed(name, directory, recorded, first=False)


def main() -> None:
    rounds, recorded = SIZES[level(__doc__)]
    present, missing = peers()
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for name in ["durable", "store", *present]:
            if name == "resonate-pg" and number:
                continue
            progress(f"round {number + 1} of {rounds}: {name}")
            found.setdefault(name, []).append(resumed(name, recorded))
    middle = {name: statistics.median(values) for name, values in found.items()}
    report: dict[str, Any] = {
        "versions": versions(),
        "recorded_steps": recorded,
        "rounds": rounds,
        "seconds": {name: spread(values, "s") for name, values in found.items()},
        "ratio": {
            f"{other}/durable": round(middle[other] / middle["durable"], 2) for other in present
        },
        "missing": missing,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
