"""Holds one task with a heartbeat; on a line from the test, tries to write with it.

Usage: holder.py DATABASE TASK TTL_MS
"""

from __future__ import annotations

import asyncio
import sys

from peer import DAY_MS, Peer, now_ms, say, typed


async def beat(peer: Peer, id_: str, version: int, period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s)
        await peer.ask("task.heartbeat", pid=peer.pid, tasks=[{"id": id_, "version": version}])


async def main(database: str, id_: str, ttl_ms: str) -> None:
    async with Peer(database, f"holder-{id_}", "holders") as peer:
        _, data = await peer.ask("task.get", id=id_)
        version = data["task"]["version"]
        status = await peer.acquire(id_, version, int(ttl_ms))
        heart = asyncio.create_task(beat(peer, id_, version + 1, int(ttl_ms) / 5_000))
        say(acquired=status, version=version + 1)
        await typed()
        late = {"id": f"{id_}:late", "timeoutAt": now_ms() + DAY_MS}
        fenced, _ = await peer.fence(id_, version + 1, "promise.create", **late)
        fulfilled = await peer.fulfill(id_, version + 1, "late")
        say(fence=fenced, fulfill=fulfilled)
        heart.cancel()


asyncio.run(main(*sys.argv[1:]))
