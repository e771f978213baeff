"""What the benchmarks have in common: their arguments, and numbers made of samples."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import statistics
import sys
from collections.abc import Iterable
from typing import Any

import restate_server


def level(doc: str | None) -> str:
    """Return ``quick``, ``normal`` or ``full``, as the command line says."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="only whether it works: seconds")
    group.add_argument("--full", action="store_true", help="also what takes many minutes")
    options = parser.parse_args()
    return "quick" if options.quick else "full" if options.full else "normal"


def progress(text: str) -> None:
    """Tell a person what is being measured."""
    print(f"   {text}", file=sys.stderr, flush=True)


def spread(values: Iterable[float], unit: str) -> dict[str, float]:
    """Median, least and most."""
    found = sorted(values)
    return {
        f"median_{unit}": round(statistics.median(found), 3),
        f"least_{unit}": round(found[0], 3),
        f"most_{unit}": round(found[-1], 3),
    }


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that ``share`` of all do not exceed (nearest rank)."""
    found = sorted(values)
    return found[max(0, math.ceil(share * len(found)) - 1)]


def peers() -> tuple[list[str], dict[str, str]]:
    """The peers that can be measured here, and why each of the others cannot."""
    missing: dict[str, str] = {}
    if not _installed("dbos"):
        missing["dbos"] = "not installed (the bench extra)"
    if not _installed("restate", "hypercorn"):
        missing["restate"] = "SDK not installed (the bench extra)"
    elif restate_server.find() is None:
        missing["restate"] = "no restate-server in RESTATE_SERVER, on PATH or in .tools/restate"
    if not os.environ.get("BENCH_POSTGRES"):
        missing["resonate-pg"] = "no address in BENCH_POSTGRES"
    elif not _installed("resonate_pg"):
        missing["resonate-pg"] = "not installed (the bench extra)"
    return [name for name in ("dbos", "restate", "resonate-pg") if name not in missing], missing


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def versions() -> dict[str, Any]:
    """Versions of what is compared."""
    from importlib import metadata

    found = {}
    for name in ("sostenuto", "resonate-sdk", "dbos", "restate-sdk", "resonate-pg", "ipython"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "resonate-pg" not in peers()[1]:
        found["PostgreSQL"] = _postgres()
    return found


def _postgres() -> str:
    """The version of the server that ``BENCH_POSTGRES`` names."""
    import psycopg

    with psycopg.connect(os.environ["BENCH_POSTGRES"]) as connection:
        version = connection.info.server_version
    return f"{version // 10000}.{version % 10000}"
