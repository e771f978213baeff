"""Source that never gives the event loop back is stopped at its durable deadline all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from processes import running

from durable import Durable

pytestmark = pytest.mark.faults

SOURCES = {
    "at once": "while True: pass",
    "after an await": "import asyncio\nawait asyncio.sleep(0.01)\nwhile True: pass",
    "in a step": "async def f():\n    while True: pass\nawait ctx.run(f)",
    "in a gathered step": (
        "import asyncio\n"
        "async def f(n):\n"
        "    while n: await asyncio.sleep(0)\n"
        "    while True: pass\n"
        "await asyncio.gather(ctx.run(f, 0), ctx.run(f, 1))"
    ),
    "in a sleep that blocks": "import time\ntime.sleep(20)",
}


@pytest.mark.parametrize("where", SOURCES)
async def test_frozen_source_is_stopped_and_its_sibling_goes_on(tmp_path: Path, where: str) -> None:
    source = SOURCES[where]
    database = tmp_path / "runs.db"
    async with running("durable_frozen.py", database, source, 0.5, prefix=["timeout", "25"]) as it:
        said = await it.hear("state", 20)
    assert said["error"] == "ExecutionTimeoutError"
    assert said["state"] == "rejected_timedout"
    assert said["sibling"] == "sibling"
    assert said["told_after_s"] < 2
    text = "\n".join(said["notes"])
    assert "limit of 0.5 s" in text
    assert "Execution ID: frozen" in text
    async with Durable(database) as app:
        record = await app.execution("frozen")
        assert record.settled_at == record.timeout_at
        assert record.notes == said["notes"]


async def test_the_finally_blocks_of_frozen_source_run_within_a_quarter_of_a_second(
    tmp_path: Path,
) -> None:
    left = tmp_path / "left"
    source = (
        "import time, pathlib\n"
        "try:\n"
        "    while True: pass\n"
        "finally:\n"
        f"    pathlib.Path({str(left)!r}).write_text(str(time.time()))\n"
    )
    database = tmp_path / "runs.db"
    async with running("durable_frozen.py", database, source, 0.5, prefix=["timeout", "25"]) as it:
        await it.hear("state", 20)
    async with Durable(database) as app:
        record = await app.execution("frozen")
    assert record.timeout_at is not None
    assert float(left.read_text()) - record.timeout_at.timestamp() < 0.25


HELD = [where for where in SOURCES if where != "in a sleep that blocks"]


@pytest.mark.parametrize("where", HELD)
async def test_frozen_source_hears_of_its_cancellation_in_another_process(
    tmp_path: Path, where: str
) -> None:
    left, database = tmp_path / "left", tmp_path / "runs.db"
    source = f"open({str(left)!r}, 'w').close()\n{SOURCES[where]}"
    async with running("durable_frozen.py", database, source, 20, prefix=["timeout", "40"]) as it:
        async with Durable(database, group="others") as app:
            async with asyncio.timeout(20):
                while not left.exists():
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # the loop is held by now
            cancelled_at = time.monotonic()
            assert await app.cancel("frozen", "enough")
        said = await it.hear("state", 10)
        heard_s = time.monotonic() - cancelled_at
    assert said["error"] == "ExecutionCancelledError"
    assert said["state"] == "rejected_canceled"
    assert said["sibling"] == "sibling"  # which had most of its second to go
    assert said["notes"][:2] == ["cancelled while it ran", "Execution ID: frozen"]
    assert heard_s < 5
