"""Listens on every promise it is told of and says when each one's settlement arrived.

Usage: waiter.py DATABASE
"""

from __future__ import annotations

import asyncio
import sys

from peer import Peer, say, typed


async def hear(peer: Peer) -> None:
    while True:
        at, message = await peer.messages.get()
        if message["kind"] == "unblock":
            say(settled=message["data"]["promise"]["id"], heard_at=at)


async def main(database: str) -> None:
    async with Peer(database, "waiter", "waiters") as peer:
        hearing = asyncio.create_task(hear(peer))
        say(ready=True)
        while id_ := await typed():
            address = peer.connection.unicast()
            await peer.ask("promise.register_listener", awaited=id_, address=address)
            say(listening=id_)
        hearing.cancel()


asyncio.run(main(*sys.argv[1:]))
