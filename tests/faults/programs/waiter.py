"""Listens on every promise it is told of and says when each one's settlement arrived.

Told ``cpu?`` instead, it says how much processor time it has used.

Usage: waiter.py DATABASE [NAME]
"""

from __future__ import annotations

import asyncio
import sys
import time

from peer import Peer, say, typed


async def hear(peer: Peer) -> None:
    while True:
        at, message = await peer.messages.get()
        if message["kind"] == "unblock":
            say(settled=message["data"]["promise"]["id"], heard_at=at)


async def main(database: str, name: str = "waiter") -> None:
    async with Peer(database, name, "waiters") as peer:
        hearing = asyncio.create_task(hear(peer))
        say(ready=True)
        while id_ := await typed():
            if id_ == "cpu?":
                say(cpu_s=time.process_time())
                continue
            address = peer.connection.unicast()
            await peer.ask("promise.register_listener", awaited=id_, address=address)
            say(listening=id_)
        hearing.cancel()


asyncio.run(main(*sys.argv[1:]))
