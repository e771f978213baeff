"""``sostenuto ls``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from durable.cli.documents import print_json
from durable.cli.exits import Exit, ExitCode
from durable.cli.render import record_dict, title
from durable.cli.source_files import parse_duration
from durable.cli.stores import opened
from durable.cli.terminal import print_table, span
from durable.reading import STATES
from durable.records import ExecutionRecord

__all__ = ["SORTS", "ListRequest", "list_command"]

#: What executions can be sorted by, and whether the largest comes first.
SORTS: dict[str, tuple[Callable[[ExecutionRecord], Any], bool]] = {
    "created": (lambda record: record.created_at.timestamp(), True),
    "settled": (
        lambda record: record.settled_at.timestamp() if record.settled_at is not None else 0.0,
        True,
    ),
    "duration": (lambda record: _duration_ms(record), True),  # noqa: PLW0108 - defined below
    "id": (lambda record: record.id, False),
    "name": (lambda record: (title(record), record.id), False),
    "state": (lambda record: (record.state, record.id), False),
}


class ListRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``sostenuto ls``."""

    db: str | None
    state: list[str]
    name: str | None
    newer_than: str | None
    older_than: str | None
    sort: str
    reverse: bool
    limit: int
    json: bool


def list_command(request: ListRequest) -> None:
    """List executions.

    Raises:
        Exit: An unknown order, a duration that is none, or a store that cannot be read.
    """
    if request.sort not in SORTS:
        raise Exit(ExitCode.USAGE, f"--sort {request.sort!r} is none of {', '.join(SORTS)}")
    for state in request.state:
        if state not in STATES:
            raise Exit(ExitCode.USAGE, f"--state {state!r} is none of {', '.join(STATES)}")
    records = asyncio.run(_listed(request))
    if request.json:
        print_json([record_dict(record) for record in records])
        return
    if not records:
        print("no executions")
        return
    print_table(
        ("id", "state", "function", "created (UTC)", "took", "error"),
        [
            (
                record.id,
                record.state,
                title(record),
                f"{record.created_at:%Y-%m-%d %H:%M:%S}",
                span(_duration_ms(record)),
                record.error_text or "",
            )
            for record in records
        ],
    )


async def _listed(request: ListRequest) -> list[ExecutionRecord]:
    key, largest_first = SORTS[request.sort]
    descending = largest_first != request.reverse
    kept: list[tuple[Any, int, ExecutionRecord]] = []
    count = 0

    def cut() -> None:
        kept.sort(key=lambda entry: entry[:2], reverse=descending)
        del kept[request.limit :]

    now_s = time.time()
    newest_s = now_s - _ago_s(request.older_than, "--older-than", 0.0)
    oldest_s = now_s - _ago_s(request.newer_than, "--newer-than", now_s)
    async with opened(request.db) as app:
        states: list[str | None] = [*request.state] or [None]
        for state in states:
            async for record in app.executions(state=state):
                if not oldest_s <= record.created_at.timestamp() <= newest_s:
                    continue
                if request.name is not None and not _named(record, request.name):
                    continue
                count += 1
                kept.append((key(record), count, record))
                if len(kept) >= 2 * request.limit + 1000:
                    cut()
    cut()
    return [record for _, _, record in kept]


def _ago_s(text: str | None, option: str, default_s: float) -> float:
    return default_s if text is None else parse_duration(text, option)


def _named(record: ExecutionRecord, pattern: str) -> bool:
    """Whether a shell pattern fits the function's name, or the file's or its last part."""
    candidates = [record.name, title(record), record.filename or ""]
    return any(fnmatchcase(candidate, pattern) for candidate in candidates if candidate)


def _duration_ms(record: ExecutionRecord) -> int:
    """Milliseconds to its end, or until now."""
    if record.duration_ms is not None:
        return record.duration_ms
    return max(0, round((time.time() - record.created_at.timestamp()) * 1000))
