"""Holds a task, forks, and lets the child try the inherited connection.

The child says what became of its request, opens a connection of its own, and lives on, so that
the test can kill the parent alone.

Usage: forker.py DATABASE TASK
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

from peer import Peer, say
from resonate_base import ConnectorError

LIVES_ON_S = 60


def in_child(peer: Peer, database: str) -> None:
    async def inherited() -> int:
        async with asyncio.timeout(10):
            return await peer.create("inherited")

    async def own() -> int:
        async with Peer(database, "child", "children") as mine:
            return await mine.create("of-the-child")

    try:
        say(child=os.getpid(), inherited=asyncio.run(inherited()))
    except ConnectorError as error:
        say(child=os.getpid(), inherited="refused", text=str(error))
    say(own=asyncio.run(own()))
    time.sleep(LIVES_ON_S)


async def main(database: str, id_: str) -> None:
    async with Peer(database, "forker", "holders") as peer:
        await peer.acquire(id_, 0, 60_000)
        if os.fork() == 0:
            # A new loop needs a thread of its own: this one still believes it is running.
            thread = threading.Thread(target=in_child, args=(peer, database))
            thread.start()
            thread.join()
            os._exit(0)
        created = [await peer.create(f"of-the-parent-{number}") for number in range(20)]
        await asyncio.sleep(1)
        say(parent=os.getpid(), created=created)
        await asyncio.sleep(LIVES_ON_S)


asyncio.run(main(*sys.argv[1:]))
