"""Whether results reach the coroutine that asked for them, after a crash; counts as JSON.

One execution of 16 steps, each of which takes 0 to 20 ms and returns the name it was asked. The
process kills itself as its k-th step begins, for many k; a second process resumes, and every
coroutine compares what it gets with what it asked. The steps' durations differ between the two
processes, as those of requests to others would. The shapes:

* single: 16 steps under one gather; each engine documents this as safe.
* chains: 4 plain coroutines of 4 steps each under one gather. Only this project documents it as
  safe: the others ask that steps are started in a deterministic order. Restate documents no gather
  of plain coroutines, so it is not asked.
* children: the 4 branches as the engine's own child executions, as the others advise.

A typed refusal is an answer: nothing wrong was handed over, and the user hears why.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import work
from engines import ENGINES
from figures import level, peers, progress, versions
from restate_server import Server
from worker import Worker

#: What a resumed execution has; it needs half a second, and a lease of the SDK's none here.
ANSWER_S = 30.0

#: Every how many steps a crash is tried, and how often.
SIZES = {"quick": (8, 1), "normal": (2, 1), "full": (1, 2)}

SHAPES = {
    "durable": ("single", "chains"),
    "store": ("single", "chains", "children"),
    "dbos": ("single", "chains", "children"),
    "restate": ("single", "children"),
    "resonate-pg": (),  # the same SDK as on the store, at a minute for each crash
}

#: What is documented as safe, by the engine's own documentation.
DOCUMENTED = {("durable", "chains")} | {
    (name, shape) for name in SHAPES for shape in ("single", "children")
}


def crash(name: str, shape: str, directory: Path, at: int, id: str) -> tuple[str, Any]:
    """Crash at a step, resume, and return what came of it."""
    worker = Worker(name, directory, env={"BENCH_KILL_AT": str(at)})
    try:
        worker.hear()
        worker.say(do="run", kind=shape, id=id)
        worker.hear(ANSWER_S)
        return "not crashed", None
    except EOFError:
        pass
    finally:
        worker.kill()
    worker = Worker(name, directory)
    try:
        worker.hear()
        worker.say(do="attach", kind=shape, id=id)
        answer = worker.hear(ANSWER_S)
    except (TimeoutError, EOFError) as error:
        return "no answer", str(error)
    finally:
        worker.kill()
    if "refused" in answer:
        return "refused", answer["refused"]
    return ("wrong", answer["result"]) if answer["result"] else ("right", None)


def measure(name: str, shape: str, points: list[int]) -> dict[str, Any]:
    """All crash points of one engine and shape."""
    began_s = time.monotonic()
    outcomes: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    wrong, example = 0, None
    with contextlib.ExitStack() as stack:
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if name == "restate":
            stack.enter_context(Server(shared))
        for number, at in enumerate(points):
            directory = shared
            if name != "restate":
                directory = shared / str(number)
                directory.mkdir()
            outcome, detail = crash(name, shape, directory, at, f"{shape}-{number}")
            outcomes[outcome] += 1
            if outcome == "wrong":
                wrong += len(detail)
                example = example or detail[0]
            if outcome in {"refused", "no answer"}:
                refusals[str(detail)[:120]] += 1
    progress(f"{name}, {shape}: {dict(outcomes)}, {time.monotonic() - began_s:.0f} s")
    return {
        "documented_as_safe": (name, shape) in DOCUMENTED,
        "crashes": len(points),
        "executions": dict(outcomes),
        "wrong_hand_overs": wrong,
        "of_hand_overs": len(points) * work.BRANCHES * work.STEPS_PER_BRANCH,
        **({"example": example} if example else {}),
        **({"refusals": dict(refusals)} if refusals else {}),
    }


def main() -> None:
    every, times = SIZES[level(__doc__)]
    present, missing = peers()
    points = list(range(1, work.BRANCHES * work.STEPS_PER_BRANCH + 1, every)) * times
    asked = [(name, shape) for name in ["durable", "store", *present] for shape in SHAPES[name]]
    assert all(shape in ENGINES[name]().kinds for name, shape in asked)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda pair: measure(*pair, points), asked))
    report: dict[str, Any] = {"versions": versions(), "missing": missing, "engines": {}}
    for (name, shape), figures in zip(asked, found, strict=True):
        report["engines"].setdefault(name, {})[shape] = figures
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
