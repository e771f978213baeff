"""Does every task of its group that it is handed, and logs each message and what came of it.

Usage: sharing_worker.py DATABASE LOG NAME GROUP
"""

from __future__ import annotations

import asyncio
import sys

from peer import Log, Peer, say


async def main(database: str, log_path: str, name: str, group: str) -> None:
    log = Log(log_path)
    async with Peer(database, name, group) as peer:
        say(ready=True)
        while True:
            _, message = await peer.messages.get()
            task = message["data"]["task"]
            claimed = await peer.acquire(task["id"], task["version"], 60_000)
            log.write("handed", id=task["id"], version=task["version"], claimed=claimed, by=name)
            if claimed == 200:
                ended = await peer.fulfill(task["id"], task["version"] + 1, name)
                log.write("ended", id=task["id"], status=ended)


asyncio.run(main(*sys.argv[1:]))
