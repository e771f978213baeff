"""Runs the benchmarks, gathers their JSON in one document, and shows, checks or publishes it.

    python tests/bench/collect.py [--quick | --full] [--only NAME ...] [--out FILE]
                                  [--markdown FILE] [--check FILE] [--save-ratios FILE]
                                  [--publish] [--from FILE]

Every script of this directory whose name ends in ``_bench.py`` prints one JSON document. Ratios in
it (figures below a key with "ratio" or "/") were taken within one run and can be compared between
machines; seconds cannot. ``--check`` compares them with a committed file and ends with code 1 where
one has changed by more than its tolerance, in either direction. ``--publish`` writes the committed
ratios, the tables of docs/benchmarks.md and the plots beside it. ``--from`` takes the figures from
an earlier ``--out`` and measures only what ``--only`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plots
import tables

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RATIOS = HERE / "ratios.json"
PAGE = ROOT / "docs/benchmarks.md"
PLOTS = ROOT / "docs/plots"

#: By how much a ratio may change, by a word of its name; the first that fits. Within a run ratios
#: vary by some ten percent, between machines by more; a change of algorithm shows as a factor.
#: Worst cases vary with whatever else a machine does, and syncs with its disk.
TOLERANCES = (("stall", 4.0), ("full", 4.0), ("restate", 3.0), ("", 2.0))

#: No script takes so long; one that does hangs.
LIMIT_S = 3600

#: What the scripts are told at each level; the others are told nothing, and take seconds.
ARGUMENTS: dict[str, dict[str, list[str]]] = {
    "store_bench": {
        "quick": ["--quick", "--only", "sequential", "written"],
        "normal": ["--only", "sequential", "flat", "independent", "fan_out", "crowd", "idle"],
        "full": ["--memory-steps", "1000000"],
    },
    "durable_bench": {"quick": ["--quick"], "normal": [], "full": []},
    "executor_bench": {"quick": [], "normal": [], "full": ["--memory"]},
    "ticker_bench": {"quick": ["0.2"], "normal": [], "full": []},
    **{
        f"{name}_bench": {"quick": ["--quick"], "normal": [], "full": ["--full"]}
        for name in ("peers", "resume", "gather", "scale")
    },
}


def scripts(only: list[str]) -> list[Path]:
    """The benchmarks, all or by name."""
    found = sorted(HERE.glob("*_bench.py"))
    return [path for path in found if not only or path.stem.removesuffix("_bench") in only]


def run(path: Path, arguments: list[str]) -> dict[str, Any]:
    """Run one and return its document, or why there is none; its progress goes to stderr."""
    began = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT)}
    try:
        done = subprocess.run(
            [sys.executable, str(path), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {LIMIT_S} s", "took_s": LIMIT_S}
    took_s = round(time.perf_counter() - began, 1)
    if done.returncode:
        return {"failed": f"ended with code {done.returncode}", "took_s": took_s}
    return {"figures": last_document(done.stdout), "took_s": took_s}


def last_document(text: str) -> Any:
    """The JSON document that ends a script's output; lines before it are for people."""
    decoder = json.JSONDecoder()
    for start in (
        n for n, char in enumerate(text) if char in "{[" and text[n - 1 : n] in {"", "\n"}
    ):
        try:
            document, end = decoder.raw_decode(text, start)
        except ValueError:
            continue
        if not text[end:].strip():
            return document
    return {"text": text}


def flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every figure of a document with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, (*path, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from flat(inner, (*path, str(number)))
    else:
        yield path, value


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """The figures that are ratios, by ``benchmark.path``."""
    return {
        ".".join((name, *path)): float(value)
        for name, entry in report["benchmarks"].items()
        for path, value in flat(entry.get("figures", {}))
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and any("ratio" in key or "/" in key for key in path)
    }


def tolerance(name: str) -> float:
    """The factor by which a ratio may differ."""
    return next(factor for word, factor in TOLERANCES if word in name)


def changed(now: dict[str, float], before: dict[str, float]) -> list[str]:
    """Sentences on ratios that differ much from the committed ones, in either direction."""
    return [
        f"{name}: {now[name]:.3g}, was {was:.3g} (allowed: a factor of {factor:g})"
        for name, was in sorted(before.items())
        for factor in [tolerance(name)]
        if name in now and was > 0 and not was / factor <= now[name] <= was * factor
    ]


def absent(now: dict[str, float], before: dict[str, float], measured: list[str]) -> list[str]:
    """Sentences on committed ratios that were not measured, of the benchmarks that were run."""
    return [
        f"{name}: not measured"
        for name in sorted(before)
        if name not in now and name.split(".", 1)[0] in measured
    ]


def merged(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """New ratios of what was run, committed ones of what was not."""
    run = {name.split(".", 1)[0] for name in now}
    kept = {name: value for name, value in before.items() if name.split(".", 1)[0] not in run}
    return dict(sorted({**kept, **now}.items()))


def markdown(report: dict[str, Any]) -> str:
    """A table of every number, by benchmark."""
    lines = [f"Measured on {report['machine']}, {report['at']}.", ""]
    for name, entry in report["benchmarks"].items():
        lines += [f"### {name}", ""]
        if "failed" in entry:
            lines += [f"Failed: {entry['failed']}.", ""]
            continue
        lines += ["| figure | value |", "|---|---:|"]
        for path, value in flat(entry["figures"]):
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"| {'.'.join(path)} | {shown} |".replace("\n", " "))
        lines.append("")
    return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )


def publish(report: dict[str, Any]) -> None:
    """Write the tables and the plots of the documentation, and the ratios to compare with."""
    PAGE.write_text(tables.fill(PAGE.read_text(), report))
    PLOTS.mkdir(exist_ok=True)
    for file, drawn in plots.draw(report).items():
        (PLOTS / file).write_text(drawn)
    save_ratios(ratios(report), RATIOS)


def save_ratios(found: dict[str, float], path: Path) -> None:
    """Write ratios, and keep those of benchmarks that were not run."""
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(merged(found, before), indent=2) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is asked for; what was measured is in the file from the first script on."""
    level = "quick" if options.quick else "full" if options.full else "normal"
    report: dict[str, Any] = {
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "level": level,
        "benchmarks": {},
    }
    if options.source is not None:
        now, report = report, json.loads(options.source.read_text())
        if options.only:
            report |= {key: now[key] for key in ("machine", "load", "at")}
    found = [] if options.source is not None and not options.only else scripts(options.only)
    for number, path in enumerate(found, 1):
        print(f"== {path.stem} ({number} of {len(found)})", file=sys.stderr, flush=True)
        arguments = ARGUMENTS.get(path.stem, {}).get(level, [])
        entry = report["benchmarks"][path.stem] = run(path, arguments)
        print(f"   {entry['took_s']:.0f} s", file=sys.stderr, flush=True)
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(report, indent=2) + "\n")
    return report


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="only whether everything runs")
    group.add_argument("--full", action="store_true", help="also 10^6 promises and 10^6 steps")
    parser.add_argument("--only", nargs="*", default=[], help="names without _bench.py")
    parser.add_argument("--out", type=Path, help="write the JSON document there")
    parser.add_argument("--markdown", type=Path, help="write a table of every figure there")
    parser.add_argument("--check", type=Path, help="compare with these ratios")
    parser.add_argument("--save-ratios", type=Path, help="write the ratios there")
    parser.add_argument("--publish", action="store_true", help="write ratios, tables and plots")
    parser.add_argument("--from", dest="source", type=Path, help="take the figures from there")
    options = parser.parse_args()
    if options.quick and (options.check or options.save_ratios or options.publish):
        parser.error("--quick shows that everything runs; its figures are not to be compared")
    return options


def main() -> int:
    options = arguments()
    report = measure(options)
    if report["level"] == "quick" and (options.check or options.save_ratios or options.publish):
        print("figures of a quick run are not to be compared", file=sys.stderr)
        return 2
    table = markdown(report)
    print(table)
    if options.markdown is not None:
        options.markdown.write_text(table)
    found = ratios(report)
    failed = [name for name, entry in report["benchmarks"].items() if "failed" in entry]
    before = json.loads(options.check.read_text()) if options.check else {}
    differing = changed(found, before)
    measured = [name for name in report["benchmarks"] if name not in failed]
    for line in [
        *(f"{name} failed" for name in failed),
        *absent(found, before, measured),
        *differing,
    ]:
        print(line, file=sys.stderr)
    if failed or differing:
        return 1
    if options.save_ratios is not None:
        save_ratios(found, options.save_ratios)
    if options.publish:
        publish(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
