"""Runs one source execution with a limit beside another one, and says how both ended."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from durable import Durable

SIBLING = "import asyncio\nfor _ in range(20):\n    await asyncio.sleep(0.05)\n'sibling'"


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def main(database: str, source: str, limit_s: float) -> None:
    async with Durable(database) as app:
        sibling = app.run_source("sibling", SIBLING)
        await sibling.started()
        handle = app.run_source("frozen", source, timeout=limit_s)
        error = ""
        try:
            await handle
        except Exception as raised:
            error = type(raised).__name__
        record = await app.execution("frozen")
        assert record.timeout_at is not None
        say(
            error=error,
            state=record.state,
            notes=record.notes,
            told_after_s=time.time() - record.timeout_at.timestamp(),
            sibling=await sibling,
        )


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
