"""Listings of what a store holds: executions, what is below one, tasks in trouble."""

from __future__ import annotations

from typing import Final

import msgspec

from store import lineage, wire
from store import upkeep_statements as sql
from store.outbox import FREE_RELEASES
from store.reader import Reader
from store.records import MAX_MS, PROMISE_STATES, PromiseRecord, PromiseRow, promise_record
from store.search import STATE_IS

__all__ = ["Page", "TroubledTask", "children", "executions", "troubled"]

#: Sorts after every id, so that a first page starts at the newest.
_LAST_ID: Final = "\U0010ffff"


class Page(msgspec.Struct, frozen=True):
    """A page of a listing.

    Attributes:
        records: The promises, newest first (executions) or by id (children).
        cursor: Give it back for the next page; None when this is the last.
    """

    records: list[PromiseRecord]
    cursor: str | None = None


class TroubledTask(msgspec.Struct, frozen=True):
    """A task that keeps being released without progress, and how often in a row."""

    id: str
    releases: int


async def executions(
    reader: Reader,
    now_ms: int,
    *,
    state: str | None = None,
    prefix: str = "",
    created_from_ms: int = 0,
    created_until_ms: int = MAX_MS,
    limit: int = wire.SEARCH_DEFAULT,
    cursor: str | None = None,
) -> Page:
    """Root promises, newest first.

    Args:
        reader: The connection to read through.
        now_ms: The present: a promise past its deadline is listed as timed out.
        state: Only those in this state.
        prefix: Only those whose id starts so.
        created_from_ms: Only those created at or after this time.
        created_until_ms: Only those created at or before this time.
        limit: Most records in the page.
        cursor: From the page before.

    Raises:
        ValueError: An unknown state, or a cursor that no page gave.
        StoreError: The file cannot be read.
    """
    if state is not None and state not in PROMISE_STATES:
        raise ValueError(f"state must be one of {', '.join(PROMISE_STATES)}, not {state!r}")
    before_ms, before_id = _parse(cursor)
    statement = sql.ROOTS
    parameters: list[object] = [created_from_ms, created_until_ms, before_ms, before_id]
    if state is not None:
        statement += f" AND {STATE_IS[state]}"
        parameters.append(now_ms)
    if prefix:
        statement += " AND substr(id, 1, ?) = ?"
        parameters += [len(prefix), prefix]
    rows = await reader.rows(
        f"{statement} ORDER BY created_at DESC, id DESC LIMIT ?", (*parameters, limit + 1)
    )
    records = [promise_record(PromiseRow(*row), now_ms) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(records)
    return Page(records, f"{records[-1].created_at}:{records[-1].id}")


def _parse(cursor: str | None) -> tuple[int, str]:
    if cursor is None:
        return MAX_MS, _LAST_ID
    created_at, separator, id_ = cursor.partition(":")
    if not separator or not created_at.isdigit():
        raise ValueError(f"{cursor!r} is not a cursor of this listing")
    return int(created_at), id_


async def children(
    reader: Reader,
    now_ms: int,
    origin: str,
    *,
    limit: int = wire.SEARCH_DEFAULT,
    cursor: str | None = None,
) -> Page:
    """The promises below an origin, by id; the origin's own promise is not among them.

    Raises:
        StoreError: The file cannot be read.
    """
    first, last = lineage.range_below(origin)
    rows = await reader.rows(sql.CHILDREN, (max(cursor or first, first), last, limit + 1))
    records = [promise_record(PromiseRow(*row), now_ms) for row in rows[:limit]]
    return Page(records, records[-1].id if len(rows) > limit else None)


async def troubled(reader: Reader, *, limit: int = wire.SEARCH_DEFAULT) -> list[TroubledTask]:
    """Tasks released repeatedly without progress, the most often released first.

    Raises:
        StoreError: The file cannot be read.
    """
    rows = await reader.rows(sql.TROUBLED, (FREE_RELEASES, limit))
    return [TroubledTask(*row) for row in rows]
