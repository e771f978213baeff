"""``sostenuto show`` and ``tree``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import PurePath
from typing import Any

from durable.cli.documents import json_text, print_json
from durable.cli.generations import current_id, generations
from durable.cli.render import print_failure, record_dict, step_dict
from durable.cli.stores import opened
from durable.cli.terminal import console, print_table, printable, span, state_markup
from durable.records import SOURCE_FUNCTION, ExecutionRecord, StepRecord
from durable.runtime import Durable

__all__ = ["show_command", "tree_command"]

#: Seconds between two looks of ``tree --watch`` at an execution that others run.
_WATCH_S = 0.25


async def _read(app: Durable, id: str) -> tuple[ExecutionRecord, list[StepRecord]]:
    record = await app.execution(id)
    return record, await app.steps(id) if ":" not in id else []


def show_command(db: str | None, id: str, *, json: bool) -> None:
    """Show one execution."""

    async def read() -> tuple[ExecutionRecord, list[StepRecord], list[ExecutionRecord]]:
        async with opened(db) as app:
            shown = await current_id(app, id)
            history = [run for run in await generations(app, id) if run.id != shown]
            return *await _read(app, shown), history

    record, steps, history = asyncio.run(read())
    if json:
        document = record_dict(record)
        document["history"] = [record_dict(run) for run in history]
        document["source"] = record.source
        document["steps"] = [step_dict(step) for step in steps]
        print_json(document)
        return
    _show_head(record)
    for number, run in enumerate(history, 1):
        print(f"earlier   {run.state}, {run.created_at:%Y-%m-%d %H:%M:%S} UTC: {id}@{number}")
    if record.source:
        _show_source(record.source)
    if steps:
        print()
        _show_steps(steps)
    if record.state not in {"pending", "resolved"}:
        print()
        print_failure(record, sys.stdout)


def _show_head(record: ExecutionRecord) -> None:
    from rich.markup import escape

    out = console()
    out.print(f"[bold]{escape(printable(record.id))}[/bold]  {state_markup(record.state)}")
    named = record.name and record.name != SOURCE_FUNCTION
    lines = [("function", f"{record.name} version {record.version}" if named else "")]
    lines.append(("file", record.filename or ""))
    lines.append(("created", f"{record.created_at:%Y-%m-%d %H:%M:%S} UTC"))
    if record.settled_at is not None:
        took = span(record.duration_ms)
        lines.append(("settled", f"{record.settled_at:%Y-%m-%d %H:%M:%S} UTC, after {took}"))
    elif record.timeout_at is not None and record.timeout_at.year < record.created_at.year + 99:
        lines.append(("deadline", f"{record.timeout_at:%Y-%m-%d %H:%M:%S} UTC"))
    if record.state == "resolved":
        lines.append(("result", json_text(record.value_data, indent=None)))
    lines.append(("error", record.error_text or ""))
    for name, text in lines:
        if text:
            out.print(f"{name:9} {escape(printable(text))}")


def _show_source(source: str) -> None:
    out = console()
    if out.is_terminal:
        from rich.syntax import Syntax

        out.print()
        # The terminal's own sixteen colours: others vanish on a light background.
        out.print(Syntax(source, "python", line_numbers=True, theme="ansi_dark"))
        return
    print()
    for number, line in enumerate(source.rstrip("\n").split("\n"), 1):
        print(f"{number:>4}  {line}".rstrip())


def _show_steps(steps: list[StepRecord]) -> None:
    attempts: dict[str, int] = {}
    for step in steps:
        if step.kind == "attempt":
            attempts[step.parent_id] = attempts.get(step.parent_id, 0) + 1
    rows = []
    for step in steps:
        details = step.details
        if step.kind == "attempt":
            name, took = f"{step.name}, attempt {details.get('attempt')}", ""
            error = str(details.get("error") or "")
            if details.get("wait_s"):
                error += f"; waits {details['wait_s']:g} s"
        else:
            name, took, error = step.name, span(step.duration_ms), step.error_text or ""
        tried = attempts.get(step.id)
        rows.append((step.id, step.state, name, str(tried + 1) if tried else "", took, error))
    print_table(("step", "state", "name", "attempts", "took", "error"), rows)


def tree_command(db: str | None, id: str, *, json: bool, watch: bool) -> None:
    """Show the call graph of an execution; with ``watch``, until it has ended."""
    asyncio.run(_tree(db, id, json=json, watch=watch))


async def _tree(db: str | None, id: str, *, json: bool, watch: bool) -> None:
    async with opened(db) as app:
        id = await current_id(app, id)
        root = _nest(*await _read(app, id))
        if not watch:
            _print_tree(root, json=json)
            return
        if json or not console().is_terminal:
            await _watch_lines(app, id, root, json=json)
        else:
            await _watch_live(app, id, root)


async def _watch_lines(app: Durable, id: str, root: dict[str, Any], *, json: bool) -> None:
    """Print every change as a line of its own: text, or a JSON document."""
    shown: dict[str, str] = {}
    while True:
        for depth, node in _walk(root):
            if shown.get(node["id"]) == node["state"]:
                continue
            shown[node["id"]] = node["state"]
            if json:
                line = {key: value for key, value in node.items() if key != "children"}
                print_json(line, indent=None)
            else:
                print("  " * depth + _plain_label(node), flush=True)
        if root["state"] != "pending":
            return
        await asyncio.sleep(_WATCH_S)
        root = _nest(*await _read(app, id))


async def _watch_live(app: Durable, id: str, root: dict[str, Any]) -> None:
    from rich.live import Live

    out = console()
    with Live(_rendered(root), console=out, auto_refresh=False, vertical_overflow="crop") as live:
        while root["state"] == "pending":
            await asyncio.sleep(_WATCH_S)
            root = _nest(*await _read(app, id))
            live.update(_rendered(root), refresh=True)


def _nest(record: ExecutionRecord, steps: list[StepRecord]) -> dict[str, Any]:
    root: dict[str, Any] = {**record_dict(record), "children": []}
    by_id: dict[str, dict[str, Any]] = {record.id: root}
    shown = [step for step in steps if step.kind != "notes"]
    for step in shown:
        by_id[step.id] = {**step_dict(step), "children": []}
    for step in shown:
        by_id.get(step.parent_id, root)["children"].append(by_id[step.id])
    return root


def _walk(root: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Every node with its depth, parents first; without recursion, as steps may nest deeply."""
    found: list[tuple[int, dict[str, Any]]] = []
    stack = [(0, root)]
    while stack:
        depth, node = stack.pop()
        found.append((depth, node))
        stack += [(depth + 1, child) for child in reversed(node["children"])]
    return found


def _print_tree(root: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(root)
        return
    out = console()
    if out.is_terminal:
        out.print(_rendered(root))
        return
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    branch, last, bar = ("├── ", "└── ", "│   ") if encoding == "utf8" else ("|-- ", "`-- ", "|   ")
    stack = [("", "", root)]
    while stack:
        lead, below, node = stack.pop()
        print(lead + _plain_label(node))
        children = node["children"]
        for number, child in reversed(list(enumerate(children, 1))):
            ends = number == len(children)
            stack.append(
                (below + (last if ends else branch), below + ("    " if ends else bar), child)
            )


def _rendered(root: dict[str, Any]) -> Any:
    from rich.tree import Tree

    top = Tree(_label(root))
    stack = [(top, root)]
    while stack:
        branch, node = stack.pop()
        stack += [(branch.add(_label(child)), child) for child in node["children"]]
    return top


def _parts(node: dict[str, Any]) -> tuple[str, str, str, str, str]:
    name = str(node.get("name") or node.get("kind") or "promise")
    if name == SOURCE_FUNCTION and "filename" in node:
        name = PurePath(node["filename"]).name if node["filename"] else "(source)"
    if node.get("kind") == "attempt":
        name = f"{name}, attempt {node.get('attempt')}"
    error = str(node.get("error") or node.get("attempt_error") or "")
    return printable(name), printable(node["id"]), node["state"], _took(node), printable(error)


def _took(node: dict[str, Any]) -> str:
    return "" if node.get("kind") == "attempt" else span(node.get("duration_ms"))


def _plain_label(node: dict[str, Any]) -> str:
    return "  ".join(part for part in _parts(node) if part)


def _label(node: dict[str, Any]) -> str:
    from rich.markup import escape

    name, id, state, took, error = _parts(node)
    red = f"  [red]{escape(error)}[/red]" if error else ""
    return f"{escape(name)}  [dim]{escape(id)}[/dim]  {state_markup(state)}  {took}{red}"
