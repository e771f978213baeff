"""Random programs, killed at random moments several times in a row, end like unkilled ones.

Asserted of every program: the result is that of a run that nobody killed, and no step that the
store had as done when a process died runs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kill_harness import decoded
from random_source import LABEL, random_source

from durable import Durable
from durable.errors import UnknownExecutionError

pytestmark = pytest.mark.faults

RUN_S = 120.0
KILLS = 4

#: What ends a process: mostly the signal that lets it do nothing about it.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Place:
    """A program with a database and a log of its own."""

    def __init__(self, directory: Path, source: str) -> None:
        directory.mkdir()
        self.directory = directory
        self.database, self.log = directory / "runs.db", directory / "steps.log"
        (directory / "program.py").write_text(source)

    async def start(self) -> asyncio.subprocess.Process:
        with (self.directory / "output.txt").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "durable", "run", "program.py", "--id", "x"),
                *("--db", str(self.database), "--wait", "forever", "--quiet"),
                cwd=self.directory,
                env={**os.environ, "STEP_LOG": str(self.log)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def finish(self) -> tuple[str, Any]:
        """Run it to its end; returns its state and result."""
        process = await self.start()
        try:
            async with asyncio.timeout(RUN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise AssertionError(f"no end: {self.output()}") from None
        async with Durable(self.database, group="readers") as app:
            record = await app.execution("x")
        return record.state, record.result

    def output(self) -> str:
        return (self.directory / "output.txt").read_text(errors="replace")[-3000:]

    def started(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def done(self) -> set[str]:
        """Labels of the steps whose end the store has, a value or an error.

        Read from a copy of the files as the kill left them. Another process makes it: to close
        a database's file in this one would drop the locks of its open connections.
        """
        copies = self.directory / "copy"
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        files = [f"{self.database}{suffix}" for suffix in ("", "-wal")]
        subprocess.run(["cp", *files, str(copies)], check=False, stderr=subprocess.DEVNULL)
        with contextlib.closing(sqlite3.connect(copies / "runs.db")) as connection:
            try:
                found = connection.execute(
                    "SELECT value FROM promises WHERE state IN (1, 2) AND id LIKE 'x:%'"
                ).fetchall()
            except sqlite3.OperationalError:  # killed before there was a table
                return set()
        return {label for (value,) in found for label in LABEL.findall(json.dumps(decoded(value)))}


@contextlib.asynccontextmanager
async def answering(place: Place) -> AsyncIterator[None]:
    """Settle the program's promises from this process, as somebody else would."""

    async def answer() -> None:
        while not place.database.exists():
            await asyncio.sleep(0.05)
        async with Durable(place.database, group="people") as app:
            while True:
                with contextlib.suppress(UnknownExecutionError):  # not begun yet
                    for step in await app.steps("x"):
                        if step.kind == "promise" and step.state == "pending":
                            await app.resolve(step.id, {"answered": {step.id}})
                await asyncio.sleep(0.05)

    task = asyncio.create_task(answer())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def strike(place: Place, steps: int, dice: random.Random) -> None:
    """Start or resume the program, and end its process once so many steps have started."""
    process = await place.start()
    while len(place.started()) < steps and process.returncode is None:
        await asyncio.sleep(0.002)
    await asyncio.sleep(dice.choice((0.0, 0.003, 0.02)))
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(dice.choice(SIGNALS))
    await process.wait()


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_program_killed_again_and_again_ends_like_an_unkilled_one(
    tmp_path: Path, seed: int
) -> None:
    source = random_source(seed)
    unkilled, place = Place(tmp_path / "unkilled", source), Place(tmp_path / "killed", source)
    async with answering(unkilled):
        expected = await unkilled.finish()
    assert expected[0] == "resolved", unkilled.output()
    total = len(unkilled.started())
    dice = random.Random(seed)
    async with answering(place):
        for moment in sorted(dice.randint(1, total) for _ in range(KILLS)):
            before, done = place.started(), place.done()
            await strike(place, max(moment, len(before) + 1), dice)
            again = done & set(place.started()[len(before) :])
            assert not again, f"recorded as done, and run again: {sorted(again)}"
        before, done = place.started(), place.done()
        assert done, "the store was read wrongly: some step was done at the last kill"
        result = await place.finish()
    assert result == expected
    again = done & set(place.started()[len(before) :])
    assert not again, f"recorded as done, and run again: {sorted(again)}"
