"""Plots of the figures as SVG, drawn by hand: a few marks and lines on logarithmic axes.

Text and lines are of a middle grey, and nothing is filled behind them, so that one file is
legible on light pages and dark ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

OURS, OTHERS, GREY = "#0d9488", "#94a3b8", "#7d7d7d"
LINES = ("#0d9488", "#d97706", "#7c3aed", "#db2777", "#2563eb", "#65a30d", "#dc2626", "#0891b2")
WIDTH, LABELS, RIGHT, ROW = 760, 150, 90, 22


def is_ours(name: str) -> bool:
    return name.startswith(("durable", "store"))


class Axis:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        found = [value for value in values if value > 0]
        self.low = math.floor(math.log10(min(found)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(found))))
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 10**self.low)) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def text(x: float, y: float, words: str, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {style}/>'


def document(height: float, title: str, parts: list[str]) -> str:
    style = f'font-family="system-ui, sans-serif" font-size="12" fill="{GREY}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" {style}>',
            f"<title>{escape(title)}</title>",
            *parts,
            "</svg>\n",
        ]
    )


def short(value: float) -> str:
    """A number as people write it: 0.45, 12, 4,300."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def grid(axis: Axis, top: float, bottom: float, unit: str) -> list[str]:
    """Ticks of a horizontal axis, named below."""
    faint = f'stroke="{GREY}" stroke-opacity="0.25"'
    return [
        part
        for tick in axis.ticks()
        for part in (
            line(axis.at(tick), top, axis.at(tick), bottom, faint),
            text(axis.at(tick), bottom + 15, f"{short(tick)} {unit}", "middle"),
        )
    ]


def medians(title: str, panels: dict[str, dict[str, tuple[float, float, float]]], unit: str) -> str:
    """A panel for each work: (median, least, most) by engine, on one shared axis.

    Marks, not bars: a bar's length says nothing on a logarithmic axis.
    """
    every = [value for panel in panels.values() for three in panel.values() for value in three]
    axis = Axis(every, LABELS, WIDTH - RIGHT)
    parts, y = [], 8.0
    for heading, panel in panels.items():
        parts.append(text(0, y + 10, heading, bold=True))
        y += 18
        parts += grid(axis, y, y + ROW * len(panel), unit)
        for name, (middle, least, most) in panel.items():
            color = OURS if is_ours(name) else OTHERS
            centre = y + ROW / 2
            spread = f'stroke="{color}" stroke-width="5" stroke-opacity="0.35"'
            parts.append(line(axis.at(least), centre, axis.at(most), centre, spread))
            parts.append(f'<circle cx="{axis.at(middle)}" cy="{centre}" r="5" fill="{color}"/>')
            parts.append(text(LABELS - 8, centre + 4, name, "end"))
            parts.append(text(axis.at(most) + 6, centre + 4, short(middle)))
            y += ROW
        y += 30
    return document(y, title, parts)


def marks(title: str, rows: dict[str, dict[str, float]], unit: str) -> str:
    """A row for each engine with a mark for each of its percentiles."""
    axis = Axis((value for row in rows.values() for value in row.values()), LABELS, WIDTH - RIGHT)
    top = 12.0
    parts = grid(axis, top, top + ROW * len(rows), unit)
    for number, (name, row) in enumerate(rows.items()):
        y = top + ROW * number + ROW / 2
        color = OURS if is_ours(name) else OTHERS
        found = sorted(row.values())
        style = f'stroke="{color}" stroke-width="2"'
        parts.append(line(axis.at(found[0]), y, axis.at(found[-1]), y, style))
        parts.append(text(LABELS - 8, y + 4, name, "end"))
        for place, (label, value) in enumerate(row.items()):
            parts.append(
                f'<circle cx="{axis.at(value)}" cy="{y}" r="{3 + place}" fill="{color}">'
                f"<title>{escape(f'{name} {label}: {short(value)} {unit}')}</title></circle>"
            )
    legend = ", ".join(next(iter(rows.values())))
    height = top + ROW * len(rows) + 40
    parts.append(text(axis.start, height - 6, f"from the smallest mark to the largest: {legend}"))
    return document(height, title, parts)


def curves(title: str, series: dict[str, dict[str, float]], unit: str) -> str:
    """A line for each operation over the number of stored promises."""
    sizes = [int(size) for size in next(iter(series.values()))]
    across = Axis(sizes, 60, WIDTH - 210)
    up = Axis((value for row in series.values() for value in row.values()), 320, 12)
    faint = f'stroke="{GREY}" stroke-opacity="0.25"'
    parts = []
    for tick in up.ticks():
        parts.append(line(across.start, up.at(tick), across.end, up.at(tick), faint))
        parts.append(text(54, up.at(tick) + 4, f"{short(tick)} {unit}", "end"))
    parts += [text(across.at(size), 338, f"{size:,}", "middle") for size in sizes]
    ordered = sorted(series.items(), key=lambda item: -item[1][str(sizes[-1])])
    for number, (name, row) in enumerate(ordered):
        color = LINES[number % len(LINES)]
        dashes = ' stroke-dasharray="5 3"' if number >= len(LINES) else ""
        points = " ".join(f"{across.at(size)},{up.at(row[str(size)])}" for size in sizes)
        style = f'stroke="{color}" stroke-width="2"{dashes}'
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        y = 18 + number * 19
        parts.append(line(WIDTH - 204, y, WIDTH - 182, y, style))
        parts.append(text(WIDTH - 176, y + 4, name))
    return document(max(350, 24 + 19 * len(series)), title, parts)


def _three(sides: dict[str, Any], unit: str) -> dict[str, tuple[float, float, float]]:
    return {
        name: (found[f"median_{unit}"], found[f"least_{unit}"], found[f"most_{unit}"])
        for name, found in sides.items()
    }


def rates(peers: dict[str, Any]) -> str:
    headings = {
        "sequence": "steps in sequence, per step",
        "fan_out": "steps under one gather, per step",
        "runs": "independent executions of one step, per execution",
        "crowd": "many executions of many steps at once, per step",
    }
    panels = {words: _three(peers[kind]["us"], "us") for kind, words in headings.items()}
    return medians("Microseconds per unit of work, by engine", panels, "µs")


def latency(peers: dict[str, Any]) -> str:
    rows = {
        name: {p: row[f"{p}_us"] for p in ("p50", "p99", "p99.9")}
        for name, row in peers["latency"].items()
    }
    return marks("Latency of single steps, by engine", rows, "µs")


def resume(found: dict[str, Any]) -> str:
    panel = {f"{found['recorded_steps']} steps recorded": _three(found["seconds"], "s")}
    return medians("Seconds from process start to the first new step after SIGKILL", panel, "s")


def scale(found: dict[str, Any]) -> str:
    # One line for each kind of operation: its slowest form.
    worst: dict[str, dict[str, float]] = {}
    largest = str(found["sizes"][-1])
    for name, row in found["us"].items():
        kind = name.split(" ", 1)[1]
        if kind not in worst or row[largest] > worst[kind][largest]:
            worst[kind] = row
    return curves("Microseconds per operation by the number of stored promises", worst, "µs")


#: File name: the benchmark whose figures it shows, and how.
PLOTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "rates.svg": ("peers_bench", rates),
    "latency.svg": ("peers_bench", latency),
    "resume.svg": ("resume_bench", resume),
    "scale.svg": ("scale_bench", scale),
}


def draw(report: dict[str, Any]) -> dict[str, str]:
    """Every plot that a report has the figures for."""
    return {
        file: plot(report["benchmarks"][name]["figures"])
        for file, (name, plot) in PLOTS.items()
        if "figures" in report["benchmarks"].get(name, {})
    }
