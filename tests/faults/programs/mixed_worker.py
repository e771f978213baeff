"""A worker with a mixed load, made to be killed at any moment.

Each workflow ``w<n>`` creates an external child and a child task, suspends until both are settled
and is then fulfilled. Workers make workflows, run them, run the child tasks (some are released
first) and settle the external children. Whatever was acknowledged is logged.

Usage: mixed_worker.py DATABASE LOG PID WORKFLOWS (number to make) SEED SYNCHRONOUS
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import Any

from peer import DAY_MS, Log, Peer, now_ms, say

TTL_MS = 60_000
TERMINAL = ("resolved", "rejected", "rejected_canceled", "rejected_timedout")


class Worker:
    def __init__(self, peer: Peer, log: Log, rng: random.Random) -> None:
        self.peer, self.log, self.rng = peer, log, rng
        self.running: set[asyncio.Task[None]] = set()

    def seen(self, promise: dict[str, Any]) -> None:
        if promise["state"] in TERMINAL:
            value = (promise.get("value") or {}).get("data")
            self.log.write("settled", id=promise["id"], state=promise["state"], value=value)

    async def make(self, count: int) -> None:
        for number in range(count):
            id_ = f"w{self.peer.pid}-{number}"
            if await self.peer.create(id_, target=True) == 200:
                self.log.write("created", id=id_)
            await asyncio.sleep(self.rng.random() * 0.01)

    async def settle_external(self) -> None:
        while True:
            query = {"state": "pending", "tags": {"kind": "external"}, "limit": 5}
            _, data = await self.peer.ask("promise.search", **query)
            for promise in data["promises"]:
                _, data = await self.peer.settle(promise["id"], f"by {self.peer.pid}")
                self.seen(data["promise"])
            await asyncio.sleep(0.005 + self.rng.random() * 0.02)

    async def serve(self) -> None:
        while True:
            _, message = await self.peer.messages.get()
            if message["kind"] == "execute":
                task = asyncio.create_task(self.run(**message["data"]["task"]))
                self.running.add(task)
                task.add_done_callback(self.running.discard)

    async def run(self, id: str, version: int) -> None:
        if await self.peer.acquire(id, version, TTL_MS) != 200:
            return
        version += 1
        self.log.write("acquired", id=id, version=version)
        if ":" in id:
            await self.run_child(id, version)
        else:
            await self.run_workflow(id, version)

    async def run_child(self, id_: str, version: int) -> None:
        if self.rng.random() < 0.1:
            await self.peer.ask("task.release", id=id_, version=version)
            return
        claims = [{"id": id_, "version": version}]
        await self.peer.ask("task.heartbeat", pid=self.peer.pid, tasks=claims)
        await self.finish(id_, version)

    async def run_workflow(self, id_: str, version: int) -> None:
        children = {f"{id_}:1": {"kind": "external", "resonate:external": "true"}}
        children[f"{id_}:2"] = {"resonate:target": self.peer.target}
        waiting = []
        for child, tags in children.items():
            spec = {"id": child, "timeoutAt": now_ms() + DAY_MS, "tags": tags}
            status, data = await self.peer.fence(id_, version, "promise.create", **spec)
            if status != 200:
                return
            self.log.write("created", id=child)
            promise = data["action"]["data"]["promise"]
            self.seen(promise)
            if promise["state"] == "pending":
                waiting.append(child)
        if waiting:
            status = await self.peer.suspend(id_, version, waiting)
            if status == 300:
                await self.run_workflow(id_, version)
            return
        await self.finish(id_, version)

    async def finish(self, id_: str, version: int) -> None:
        text = f"{self.peer.pid}@{version}"
        if await self.peer.fulfill(id_, version, text) == 200:
            self.log.write("settled", id=id_, state="resolved", value=text)
            self.log.write("fulfilled", id=id_, version=version)


async def main(
    database: str, log: str, pid: str, workflows: str, seed: str, synchronous: str
) -> None:
    async with Peer(database, pid, synchronous=synchronous) as peer:
        worker = Worker(peer, Log(log), random.Random(int(seed)))
        say(ready=True)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(
                worker.make(int(workflows)), worker.settle_external(), worker.serve()
            )


asyncio.run(main(*sys.argv[1:]))
