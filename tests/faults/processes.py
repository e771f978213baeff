"""Starting the programs of the fault tests, and hearing what they say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import store

PROGRAMS = Path(__file__).parent / "programs"
START_S = 30.0


class Program:
    """A running program whose lines are JSON objects."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.pid = process, process.pid

    async def hear(self, key: str, timeout_s: float = START_S) -> dict[str, Any]:
        """The next line that says ``key``.

        Raises:
            AssertionError: the program ended first.
        """
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            while line := await self.process.stdout.readline():
                said: dict[str, Any] = json.loads(line)
                if key in said:
                    return said
        raise AssertionError(f"the program ended without saying {key!r}: {await self.errors()}")

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode(errors="replace")

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended in this very moment
                self.process.kill()
        # Reading to the end closes the pipes, which a forked child may still hold.
        await self.process.communicate()


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAMS / name), *map(str, arguments)]


async def start(name: str, *arguments: object, prefix: Sequence[str] = ()) -> Program:
    installed = Path(store.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{PROGRAMS}{os.pathsep}{installed}"}
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *command(name, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    return Program(process)


@asynccontextmanager
async def running(
    name: str, *arguments: object, prefix: Sequence[str] = ()
) -> AsyncIterator[Program]:
    """Run a program; it is killed at the end if it still lives."""
    program = await start(name, *arguments, prefix=prefix)
    try:
        yield program
    finally:
        await program.kill()


def sandbox(script: str) -> list[str] | None:
    """A command prefix that runs ``script`` in a mount namespace first, or None if not allowed."""
    for flags in ("-m", "-Urm"):
        probe = ["unshare", flags, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        try:
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return ["unshare", flags, "sh", "-ec", f'{script}\nexec "$@"', "sh"]
        except FileNotFoundError:
            return None
    return None
