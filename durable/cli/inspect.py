"""``sostenuto ls``, ``show`` and ``tree``."""

from __future__ import annotations

import asyncio
import heapq
import json as json_module
from typing import Any

from durable.cli.render import print_failure, record_dict, step_dict
from durable.cli.stores import opened
from durable.records import ExecutionRecord, StepRecord

__all__ = ["list_command", "show_command", "tree_command"]

_STYLES = {
    "pending": "yellow",
    "resolved": "green",
    "rejected": "red",
    "rejected_canceled": "magenta",
    "rejected_timedout": "red",
}


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def _state(state: str) -> str:
    return f"[{_STYLES.get(state, '')}]{state}[/]" if state in _STYLES else state


def _span(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def list_command(
    db: str | None, *, state: str | None, name: str | None, limit: int, json: bool
) -> None:
    """List executions, the newest first."""
    records = asyncio.run(_list(db, state, name, limit))
    if json:
        print(json_module.dumps([record_dict(record) for record in records], indent=2))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "state", "function", "created (UTC)", "took", "error"):
        table.add_column(column, overflow="fold" if column == "id" else "ellipsis")
    for record in records:
        table.add_row(
            escape(record.id),
            _state(record.state),
            escape(record.filename or record.name),
            f"{record.created_at:%Y-%m-%d %H:%M:%S}",
            _span(record.duration_ms),
            escape(record.error_text or ""),
        )
    _console().print(table if records else "no executions")


async def _list(
    db: str | None, state: str | None, name: str | None, limit: int
) -> list[ExecutionRecord]:
    async with opened(db, works=False) as app:
        newest: list[tuple[float, int, ExecutionRecord]] = []
        count = 0
        async for record in app.executions(state=state, name=name):
            count += 1
            entry = (record.created_at.timestamp(), count, record)
            if len(newest) < limit:
                heapq.heappush(newest, entry)
            else:
                heapq.heappushpop(newest, entry)
        return [record for _, _, record in sorted(newest, reverse=True)]


async def _read(db: str | None, id: str) -> tuple[ExecutionRecord, list[StepRecord]]:
    async with opened(db, works=False) as app:
        record = await app.execution(id)
        steps = await app.steps(id) if ":" not in id else []
        return record, steps


def show_command(db: str | None, id: str, *, json: bool) -> None:
    """Show one execution."""
    record, steps = asyncio.run(_read(db, id))
    if json:
        document = record_dict(record)
        document["source"] = record.source
        document["steps"] = [step_dict(step) for step in steps]
        print(json_module.dumps(document, indent=2, ensure_ascii=False))
        return
    from rich.markup import escape
    from rich.syntax import Syntax

    console = _console()
    console.print(f"[bold]{escape(record.id)}[/bold]  {_state(record.state)}")
    console.print(
        f"function  {escape(record.name)} version {record.version}" if record.name else "a promise"
    )
    if record.filename:
        console.print(f"file      {escape(record.filename)}")
    console.print(f"created   {record.created_at:%Y-%m-%d %H:%M:%S} UTC")
    if record.settled_at is not None:
        took = _span(record.duration_ms)
        console.print(f"settled   {record.settled_at:%Y-%m-%d %H:%M:%S} UTC, after {took}")
    if record.state == "resolved":
        console.print(
            f"result    {escape(json_module.dumps(record.value_data, ensure_ascii=False))}"
        )
    elif record.state != "pending":
        console.print(f"error     {escape(record.error_text or '')}")
        print_failure(record)
    if record.source:
        console.print(
            Syntax(record.source, "python", line_numbers=True, background_color="default")
        )
    if steps:
        console.print(_steps_table(steps))


def _steps_table(steps: list[StepRecord]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "name", "state", "took", "error"):
        table.add_column(column)
    for step in steps:
        table.add_row(
            escape(step.id),
            escape(step.name),
            _state(step.state),
            _span(step.duration_ms),
            escape(step.error_text or str(step.details.get("error") or "")),
        )
    return table


def tree_command(db: str | None, id: str, *, json: bool) -> None:
    """Show the call graph of an execution."""
    record, steps = asyncio.run(_read(db, id))
    nodes = _nest(record, steps)
    if json:
        print(json_module.dumps(nodes, indent=2, ensure_ascii=False))
        return
    from rich.tree import Tree

    root = Tree(_label(nodes))
    _grow(root, nodes)
    _console().print(root)


def _nest(record: ExecutionRecord, steps: list[StepRecord]) -> dict[str, Any]:
    root: dict[str, Any] = {**record_dict(record), "children": []}
    by_id: dict[str, dict[str, Any]] = {record.id: root}
    for step in steps:
        by_id[step.id] = {**step_dict(step), "children": []}
    for step in steps:
        by_id.get(step.parent_id, root)["children"].append(by_id[step.id])
    return root


def _label(node: dict[str, Any]) -> str:
    from rich.markup import escape

    name = escape(str(node.get("name") or ""))
    took = _span(node.get("duration_ms"))
    error = f"  [red]{escape(node['error'])}[/red]" if node.get("error") else ""
    return f"{name}  [dim]{escape(node['id'])}[/dim]  {_state(node['state'])}  {took}{error}"


def _grow(branch: Any, node: dict[str, Any]) -> None:
    for child in node["children"]:
        _grow(branch.add(_label(child)), child)
