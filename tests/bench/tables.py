"""Tables of the figures for the documentation, put between markers on its page.

A block begins with ``<!-- bench: NAME -->`` and ends with ``<!-- bench end -->``; what stands
between is replaced. Blocks whose benchmark a report does not have stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_BLOCK = re.compile(r"(<!-- bench: (?P<name>[\w-]+) -->\n).*?(<!-- bench end -->)", re.DOTALL)

NAMES = {
    "durable": "**Sostenuto**",
    "durable full": '**Sostenuto**, `synchronous="full"`',
    "store": "bare SDK on our store",
    "store full": 'bare SDK on our store, `synchronous="full"`',
    "memory": "bare SDK, in memory",
    "memory emptied": "bare SDK, in memory, preload emptied",
    "dbos": "DBOS on SQLite",
    "restate": "Restate server",
    "resonate-pg": "bare SDK on resonate-pg",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Cells as Markdown; the first column is text, the others are numbers."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows)) + "\n"


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(found: dict[str, float], unit: str) -> str:
    """Median (least-most)."""
    median, least, most = (number(found[f"{key}_{unit}"]) for key in ("median", "least", "most"))
    return f"{median} ({least}-{most})"


def rates(report: dict[str, Any], found: dict[str, Any]) -> str:
    kinds = ("sequence", "fan_out", "runs", "crowd")
    rows = [
        [NAMES[name], *(spread(found[kind]["us"][name], "us") for kind in kinds)]
        for name in found["sequence"]["us"]
    ]
    head = ["µs per unit", "step in sequence", "step under gather", "execution", "step in a crowd"]
    return table(head, rows)


def ratios(report: dict[str, Any], found: dict[str, Any]) -> str:
    kinds = ("sequence", "fan_out", "runs", "crowd")
    rows = []
    for pair in found["sequence"]["ratio"]:
        other, ours = pair.split("/")
        words = f"{NAMES[other]} / {NAMES[ours]}"
        rows.append([words, *(number(found[kind]["ratio"][pair]) for kind in kinds)])
    return table(["time of / time of", "sequence", "gather", "executions", "crowd"], rows)


def latency(report: dict[str, Any], found: dict[str, Any]) -> str:
    keys = ("p50_us", "p99_us", "p99.9_us")
    rows = [
        [
            NAMES[name],
            *(number(row[key]) for key in keys),
            spread(found["crowd_longest_stall"][name], "ms"),
        ]
        for name, row in found["latency"].items()
    ]
    return table(["a step, µs", "p50", "p99", "p99.9", "longest stall of the loop, ms"], rows)


def footprint(report: dict[str, Any], found: dict[str, Any]) -> str:
    def cell(row: dict[str, float], key: str) -> str:
        return number(row[key]) if key in row else "not measured"

    rows = [
        [NAMES[name], cell(row, "syncs"), cell(row, "bytes")]
        for name, row in found["per_step"].items()
    ]
    return table(["per step", "syncs", "bytes on disk"], rows)


def resume(report: dict[str, Any], found: dict[str, Any]) -> str:
    ours = found["seconds"]["durable"]["median_s"]
    rows = [
        [NAMES[name], spread(row, "s"), number(row["median_s"] / ours)]
        for name, row in found["seconds"].items()
    ]
    return table(["seconds to the first new step", "median (least-most)", "/ Sostenuto"], rows)


def gather(report: dict[str, Any], found: dict[str, Any]) -> str:
    rows = []
    for name, shapes in found["engines"].items():
        for shape, row in shapes.items():
            ends = row["executions"]
            rows.append(
                [
                    f"{NAMES[name]}, {shape}",
                    "yes" if row["documented_as_safe"] else "no",
                    f"{row['wrong_hand_overs']} of {row['of_hand_overs']:,}",
                    f"{ends.get('wrong', 0)} of {row['crashes']}",
                    str(ends.get("refused", 0)),
                    str(ends.get("no answer", 0)),
                ]
            )
    head = ["engine, shape", "documented as safe", "wrong hand-overs"]
    return table([*head, "executions with one", "refused, typed", "no answer in 30 s"], rows)


def scale(report: dict[str, Any], found: dict[str, Any]) -> str:
    sizes = [str(size) for size in found["sizes"]]
    rows = [
        [
            name.split(" ", 1)[1],
            *(number(row[size]) for size in sizes),
            number(row[sizes[-1]] / row[sizes[0]]),
        ]
        for name, row in found["us"].items()
    ]
    opening = [number(found["opening_ms"][size]) for size in sizes]
    rows.append(["opening the file, ms", *opening, ""])
    head = ["µs, by promises stored", *(f"{int(size):,}" for size in sizes), "last / first"]
    return table(head, rows)


def cells(report: dict[str, Any], found: dict[str, Any]) -> str:
    keys = ("bare_us", "new_us", "cached_us", "ipython_us")
    rows = [
        [
            f"`{name}`" if "lines" not in name else name,
            *(number(row[key]) if key in row else "not measured" for key in keys),
            number(row["added_to_ipython_ratio"]) if "added_to_ipython_ratio" in row else "",
        ]
        for name, row in found["cells"].items()
    ]
    head = ["cell, µs of processor time", "bare `compile` and `eval`", "new cell", "repeated cell"]
    return table([*head, "IPython `run_cell_async`", "what we add / IPython"], rows)


def sdk(report: dict[str, Any], found: dict[str, Any]) -> str:
    kinds = {"sequence": "steps in sequence", "fan_out": "steps under one gather"}
    kinds["executions"] = "executions of one step"
    rates = found["per_second"]
    rows = [
        [words, *(number(rates[side][kind]) for side in ("durable", "sdk", "sdk_local"))]
        for kind, words in kinds.items()
    ]
    return table(["per second", "Durable", "bare SDK, SQLite store", "bare SDK, in memory"], rows)


def memory(report: dict[str, Any], found: dict[str, Any]) -> str:
    if "memory" not in found:
        return ""
    row = found["memory"]
    rows = [
        ["steps", f"{row['steps']:,}"],
        ["resident memory before, MB", number(row["before_bytes"] / 1e6)],
        ["growth over the second half, MB", number(row["second_half_bytes"] / 1e6)],
        ["growth in all, MB", number(row["grown_bytes"] / 1e6)],
        ["largest log file, MB", number(row["largest_log_bytes"] / 1e6)],
    ]
    return table(["the store over many steps", "measured"], rows)


def machine(report: dict[str, Any], found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    missing = "".join(f" Not measured: {name}, {why}." for name, why in found["missing"].items())
    return (
        f"Measured on {report['machine']}, load {report['load']} at the start, {report['at']},"
        f" with {versions}; {found['steps']} steps in a sequence, {found['rounds']} rounds."
        f"{missing}\n"
    )


#: Name of a block: the benchmark whose figures it shows, and how.
BLOCKS: dict[str, tuple[str, Callable[[dict[str, Any], dict[str, Any]], str]]] = {
    "machine": ("peers_bench", machine),
    "rates": ("peers_bench", rates),
    "ratios": ("peers_bench", ratios),
    "latency": ("peers_bench", latency),
    "footprint": ("peers_bench", footprint),
    "resume": ("resume_bench", resume),
    "gather": ("gather_bench", gather),
    "scale": ("scale_bench", scale),
    "cells": ("executor_bench", cells),
    "sdk": ("durable_bench", sdk),
    "memory": ("store_bench", memory),
}


def fill(page: str, report: dict[str, Any]) -> str:
    """The page with its blocks made anew.

    Raises:
        KeyError: A marker names no block.
    """

    def block(match: re.Match[str]) -> str:
        benchmark, make = BLOCKS[match["name"]]
        entry = report["benchmarks"].get(benchmark, {})
        made = make(report, entry["figures"]) if "figures" in entry else ""
        return f"{match[1]}{made}{match[3]}" if made else match[0]

    return _BLOCK.sub(block, page)
