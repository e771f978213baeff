"""What the programs of the fault tests share: a connection that is asked, and a log that survives.

A program writes a line to its log only after the store has acknowledged what the line says, with
one ``write`` to a file opened for appending: a SIGKILL leaves whole lines or nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any, Self

from store import SqliteConnection

VERSION = "2026-04-01"
DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def say(**facts: Any) -> None:
    """Tell the test process, at once, and when (monotonic seconds, the same in all processes)."""
    print(json.dumps({"at": time.monotonic(), **facts}), flush=True)


class Log:
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, **facts: Any) -> None:
        line = json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n"
        os.write(self._file, line.encode())


class Peer:
    """One connection, and its messages in a queue."""

    def __init__(self, path: str, pid: str, group: str = "workers", **options: Any) -> None:
        self.pid, self.group = pid, group
        self.connection = SqliteConnection(path, pid=pid, group=group, **options)
        self.messages: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()
        self.connection.recv(
            lambda text: self.messages.put_nowait((time.monotonic(), json.loads(text)))
        )
        self._corr_id = 0

    async def __aenter__(self) -> Self:
        await self.connection.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.stop()

    @property
    def target(self) -> str:
        return str(self.connection.resolve_target(self.group))

    async def ask(self, kind: str, **data: Any) -> tuple[int, Any]:
        self._corr_id += 1
        head = {"corrId": str(self._corr_id), "version": VERSION}
        text = await self.connection.send(json.dumps({"kind": kind, "head": head, "data": data}))
        reply = json.loads(text)
        return reply["head"]["status"], reply["data"]

    async def create(
        self, id_: str, *, target: bool = False, external: bool = False, **tags: str
    ) -> int:
        if target:
            tags["resonate:target"] = self.target
        if external:
            tags["resonate:external"] = "true"
        spec = {"id": id_, "timeoutAt": now_ms() + DAY_MS, "tags": tags}
        return (await self.ask("promise.create", **spec))[0]

    async def settle(self, id_: str, text: str) -> tuple[int, Any]:
        return await self.ask("promise.settle", id=id_, state="resolved", value={"data": text})

    async def acquire(self, id_: str, version: int, ttl_ms: int) -> int:
        claim = {"id": id_, "version": version, "pid": self.pid, "ttl": ttl_ms}
        return (await self.ask("task.acquire", **claim))[0]

    async def fence(self, id_: str, version: int, kind: str, **data: Any) -> tuple[int, Any]:
        action = {"kind": kind, "head": {}, "data": data}
        return await self.ask("task.fence", id=id_, version=version, action=action)

    async def fulfill(self, id_: str, version: int, text: str) -> int:
        data = {"id": id_, "state": "resolved", "value": {"data": text}}
        action = {"kind": "promise.settle", "head": {}, "data": data}
        return (await self.ask("task.fulfill", id=id_, version=version, action=action))[0]

    async def suspend(self, id_: str, version: int, awaited: list[str]) -> int:
        actions = [
            {
                "kind": "promise.register_callback",
                "head": {},
                "data": {"awaited": one, "awaiter": id_},
            }
            for one in awaited
        ]
        return (await self.ask("task.suspend", id=id_, version=version, actions=actions))[0]

    async def execute(self, id_: str, timeout_s: float = 30.0) -> tuple[float, int]:
        """Wait for the execute message of one task; return when it came, and its version."""
        async with asyncio.timeout(timeout_s):
            while True:
                at, message = await self.messages.get()
                if message["kind"] == "execute" and message["data"]["task"]["id"] == id_:
                    return at, message["data"]["task"]["version"]


async def typed() -> str:
    """One line from the test process."""
    return (await asyncio.to_thread(sys.stdin.readline)).strip()
