"""Recall, precision and cost of blocking detection on the labelled case files.

Prints one JSON object. The cost is that of routing alone, beside the compile:
the tree is parsed once outside the clock, each cell is timed as the best of
several runs, and the compile of the same cell is timed in the same way.
"""

from __future__ import annotations

import ast
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "unit")]

from blocking_cases import namespace_after, read_cases  # noqa: E402 - found by the line above

from executor.modes import ExecutionMode  # noqa: E402 - the same
from executor.routing import analyze, route  # noqa: E402 - the same

ROUNDS = 20


def best_us(run) -> float:
    """The fastest of some rounds, in microseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return min(times) / 1000


def main() -> None:
    """Measure and print."""
    counts = {"true_positive": 0, "false_positive": 0, "false_negative": 0, "true_negative": 0}
    wrong, costs, compiles = [], [], []
    for case in read_cases():
        for with_source in (True, False) if case.setup else (True,):
            namespace = namespace_after(case.setup, with_source=with_source)
            found = analyze(case.source, namespace)
            blocks = found.mode is ExecutionMode.BLOCKING_SYNC
            expected = case.expected == "blocks"
            kind = ("true" if blocks == expected else "false") + (
                "_positive" if blocks else "_negative"
            )
            counts[kind] += 1
            if blocks != expected or (
                case.expected == "async" and found.mode is not ExecutionMode.ASYNC_DEF
            ):
                wrong.append(f"{case} (source {with_source}): {found.reason}")
            tree = ast.parse(case.source)
            costs.append(best_us(lambda t=tree, n=namespace: route(t, n, is_coroutine=False)))
            # Some cases parse and do not compile: routing must bear them, and comes first.
            with contextlib.suppress(SyntaxError):
                compiles.append(best_us(lambda s=case.source: compile(s, "<cell>", "exec")))
    positives = counts["true_positive"] + counts["false_negative"]
    flagged = counts["true_positive"] + counts["false_positive"]
    report = counts | {
        "cells": len(costs),
        "recall": round(counts["true_positive"] / positives, 4),
        "precision": round(counts["true_positive"] / flagged, 4),
        "median_us": round(statistics.median(costs), 1),
        "p95_us": round(statistics.quantiles(costs, n=20)[-1], 1),
        "worst_us": round(max(costs), 1),
        "median_compile_us": round(statistics.median(compiles), 1),
        "wrong": wrong,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
