"""Runs the benchmarks, gathers their JSON in one document, and shows or checks the ratios.

    python tests/bench/collect.py [--only NAME ...] [--out FILE] [--markdown FILE]
                                  [--check FILE] [--save-ratios FILE]

Every script of this directory whose name ends in ``_bench.py`` prints one JSON document. Ratios in
it (keys with "ratio", "times" or "overhead") were taken within one run and can be compared between
machines; seconds cannot. ``--check`` compares them with a committed file and ends with code 1 where
one has become more than twice, or less than half, of what it was.
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

HERE = Path(__file__).parent

#: Within a run ratios vary by some ten percent, between machines by more; a change of algorithm
#: shows as a factor.
CHANGED_FACTOR = 2.0

#: No script takes so long; one that does hangs.
LIMIT_S = 1800

_RATIO_WORDS = ("ratio", "times", "overhead")


def scripts(only: list[str]) -> list[Path]:
    """The benchmarks, all or by name."""
    found = sorted(HERE.glob("*_bench.py"))
    return [path for path in found if not only or path.stem.removesuffix("_bench") in only]


def run(path: Path, arguments: list[str]) -> dict[str, Any]:
    """Run one and return its document, or why there is none."""
    began = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=env,
        check=False,
    )
    took_s = round(time.perf_counter() - began, 1)
    if done.returncode:
        return {"failed": done.stderr[-2000:], "took_s": took_s}
    return {"figures": _last_document(done.stdout), "took_s": took_s}


def _last_document(text: str) -> Any:
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


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure of a document with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{path}.{number}")
    else:
        yield path, value


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """The figures that are ratios."""
    return {
        path.replace(".figures.", ".", 1): float(value)
        for path, value in flat(report["benchmarks"])
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and any(word in path for word in _RATIO_WORDS)
    }


def changed(now: dict[str, float], before: dict[str, float]) -> list[str]:
    """Sentences on ratios that differ much from the committed ones, in either direction."""
    return [
        f"{name}: {now[name]:.3g}, was {was:.3g}"
        for name, was in sorted(before.items())
        if name in now and was > 0 and not was / CHANGED_FACTOR <= now[name] <= was * CHANGED_FACTOR
    ]


def markdown(report: dict[str, Any]) -> str:
    """A table of every number, by benchmark."""
    lines = [f"Measured on {report['machine']}, {report['at']}.", ""]
    for name, entry in report["benchmarks"].items():
        lines += [f"### {name}", ""]
        if "failed" in entry:
            lines += ["Failed.", ""]
            continue
        lines += ["| figure | value |", "|---|---:|"]
        for path, value in flat(entry["figures"]):
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"| {path} | {shown} |".replace("\n", " "))
        lines.append("")
    return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", default=[], help="names without _bench.py")
    parser.add_argument("--out", type=Path, help="write the JSON document there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    parser.add_argument("--check", type=Path, help="compare with these ratios")
    parser.add_argument("--save-ratios", type=Path, help="write the ratios there")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": machine(),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "benchmarks": {},
    }
    for path in scripts(options.only):
        print(f"== {path.stem}", file=sys.stderr, flush=True)
        report["benchmarks"][path.stem] = run(path, [])
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(report, indent=2) + "\n")
    table = markdown(report)
    print(table)
    if options.markdown is not None:
        options.markdown.write_text(table)
    found = ratios(report)
    if options.save_ratios is not None:
        options.save_ratios.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    failed = [name for name, entry in report["benchmarks"].items() if "failed" in entry]
    differing = changed(found, json.loads(options.check.read_text())) if options.check else []
    for line in [*(f"{name} failed" for name in failed), *differing]:
        print(line, file=sys.stderr)
    return 1 if failed or differing else 0


if __name__ == "__main__":
    sys.exit(main())
