"""``sostenuto resolve``, ``reject`` and ``cancel``."""

from __future__ import annotations

import asyncio
import json as json_module
from typing import Any

from durable.cli.documents import print_json
from durable.cli.exits import Exit, ExitCode
from durable.cli.generations import current_id
from durable.cli.stores import opened

__all__ = ["settle_command"]

#: Characters of a refused value that are repeated.
_VALUE_SHOWN = 60

_DONE = {"resolve": "resolved", "reject": "rejected", "cancel": "cancelled"}


def settle_command(db: str | None, id: str, verb: str, value: str | None, *, json: bool) -> None:
    """Settle a promise.

    Raises:
        Exit: No such promise, settled already, or a value that is no JSON.
    """
    parsed: Any = value if verb == "cancel" else _parsed(value)
    settled, state = asyncio.run(_settle(db, id, verb, parsed))
    if json:
        print_json({"id": id, "settled": settled, "state": state}, indent=None)
    elif settled:
        print(f"{_DONE[verb]} {id}")
    if not settled:
        text = "" if json else f"{id!r} is {state} already: the first settlement stands"
        raise Exit(ExitCode.RAISED, text)


def _parsed(value: str | None) -> Any:
    if value is None:
        return None
    try:
        return json_module.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        shown = value if len(value) <= _VALUE_SHOWN else f"{value[:_VALUE_SHOWN]}..."
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise Exit(
            ExitCode.USAGE,
            f"--value {shown!r} is not JSON: {why}. Quote a string twice, --value '\"yes\"'",
        ) from None


def _refuse_constant(name: str) -> None:
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is no JSON value")


async def _settle(db: str | None, id: str, verb: str, value: Any) -> tuple[bool, str]:
    async with opened(db) as app:
        match verb:
            case "resolve":
                settled = await app.resolve(id, value)
            case "reject":
                settled = await app.reject_with(id, value)
            case _:
                id = await current_id(app, id)
                settled = await app.cancel(id, value or "")
        return settled, (await app.execution(id)).state
