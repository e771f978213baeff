"""Holds a task, forks, and lets the child try the inherited connection.

The child says what became of its request, opens a connection of its own, and lives on, so that
the test can kill the parent alone.

Usage: forker.py DATABASE TASK
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from peer import Peer, say

LIVES_ON_S = 60


def in_child(peer: Peer, database: str) -> None:
    async def inherited() -> tuple[int, object]:
        async with asyncio.timeout(10):
            return await peer.ask("promise.get", id="anything")

    async def own() -> int:
        async with Peer(database, "child", "children") as mine:
            return await mine.create("of-the-child")

    try:
        say(child=os.getpid(), inherited=str(asyncio.run(inherited())))
    except Exception as error:
        say(child=os.getpid(), inherited=type(error).__mro__[1].__name__, text=str(error))
    say(own=asyncio.run(own()))
    time.sleep(LIVES_ON_S)


async def main(database: str, id_: str) -> int:
    async with Peer(database, "forker", "holders") as peer:
        await peer.acquire(id_, 0, 60_000)
        child = os.fork()
        if child == 0:
            # A fresh loop needs a thread of its own: this one still believes it is running.
            import threading

            thread = threading.Thread(target=in_child, args=(peer, database))
            thread.start()
            thread.join()
            os._exit(0)
        for number in range(20):
            assert await peer.create(f"of-the-parent-{number}") == 200
        say(parent=os.getpid())
        await asyncio.sleep(LIVES_ON_S)
    return 0


asyncio.run(main(*sys.argv[1:]))
