"""Fresh runs under one id: ``ID``, then ``ID@2``, ``ID@3``, each with a record of its own."""

from __future__ import annotations

import re

from durable.errors import UnknownExecutionError
from durable.records import ExecutionRecord
from durable.runtime import Durable

__all__ = ["current_id", "generations", "next_id"]

_NUMBERED = re.compile(r"(?P<base>.+)@(?P<number>[1-9]\d*)", re.DOTALL)


async def generations(app: Durable, base_id: str) -> list[ExecutionRecord]:
    """Return the runs of an id, the first one first; empty where it has none."""
    found: list[ExecutionRecord] = []
    while True:
        try:
            found.append(await app.execution(next_id(base_id, len(found))))
        except UnknownExecutionError:
            return found


def next_id(base_id: str, runs: int) -> str:
    """Return the id of the run that follows ``runs`` earlier ones."""
    return base_id if runs == 0 else f"{base_id}@{runs + 1}"


async def current_id(app: Durable, named: str) -> str:
    """Return the id that a person means: the latest run of an id, or the run it numbers.

    ``ID`` is the latest run, ``ID@1`` the first one, ``ID@2`` the second.
    """
    if ":" in named:
        return named
    match = _NUMBERED.fullmatch(named)
    if match is not None:
        return match["base"] if match["number"] == "1" else named
    runs = await generations(app, named)
    return runs[-1].id if runs else named
