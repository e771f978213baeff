"""Does one kind of upkeep on a file over and over, until it is killed; says when each begins."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from datetime import timedelta

from peer import Log, Peer, say, typed

from store import schema, upkeep


async def once(path: str, what: str, number: int, log: Log) -> None:
    """One round; what it acknowledged goes to the log."""
    if what == "migrate":
        await asyncio.to_thread(schema.prepare, path)
        return
    async with Peer(path, f"p{number}") as peer:
        id_ = f"{what}{number}-{os.getpid()}"
        if await peer.create(id_) == 200:
            log.write("created", id=id_, kept=what != "gc")
        if what == "backup":
            await peer.connection.backup(f"{path}.copy")
        elif what == "gc":
            await peer.settle(id_, "done")
            await peer.connection.gc(timedelta(0))
        elif what == "vacuum":
            await upkeep.shrink(path)
        elif what == "checkpoint":
            await asyncio.to_thread(truncate, path)


def truncate(path: str) -> None:
    """Move the whole log into the file, as the last one that closes does."""
    connection = sqlite3.connect(path, timeout=5.0)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


async def main(path: str, what: str, log_path: str, until_told: str = "") -> None:
    log = Log(log_path)
    number = 0
    if until_told:
        say(waits=True)
        await typed()
        await once(path, what, number, log)
        say(done=True)
        await typed()
        return
    while True:
        say(begun=number)
        await once(path, what, number, log)
        number += 1


asyncio.run(main(*sys.argv[1:]))
