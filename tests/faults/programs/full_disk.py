"""Fills the disk it is given, frees some of it, and reports what the store made of that.

Usage: full_disk.py DIRECTORY LIMIT
LIMIT is ``disk`` (the file system is small; a ballast file is removed to make room) or ``fsize``
(files may not grow past a limit, which is then raised).
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from peer import DAY_MS, Peer, now_ms, say
from resonate_base import ConnectorError

BALLAST_BYTES = 12_000_000
LIMIT_BYTES = 600_000
PAYLOAD = "x" * 20_000


async def fill(peer: Peer, written: list[str]) -> ConnectorError:
    """Create tasks until the store refuses."""
    for number in range(10_000):
        id_ = f"t{number}"
        spec = {
            "id": id_,
            "timeoutAt": now_ms() + DAY_MS,
            "tags": {"resonate:target": peer.target},
            "param": {"data": PAYLOAD},
        }
        action = {"kind": "promise.create", "head": {}, "data": spec}
        try:
            status, _ = await peer.ask("task.create", pid=peer.pid, ttl=DAY_MS, action=action)
        except ConnectorError as error:
            return error
        assert status == 200
        written.append(id_)
    raise AssertionError("the disk never filled")


async def halves(peer: Peer, ids: list[str]) -> list[str]:
    """The ids of which only the promise or only the task exists."""
    found = []
    for id_ in ids:
        promise, _ = await peer.ask("promise.get", id=id_)
        task, _ = await peer.ask("task.get", id=id_)
        if promise != task:
            found.append(id_)
    return found


async def missing(peer: Peer, ids: list[str]) -> list[str]:
    gone = []
    for id_ in ids:
        status, data = await peer.ask("promise.get", id=id_)
        if status != 200 or data["promise"]["param"]["data"] != PAYLOAD:
            gone.append(id_)
    return gone


async def main(directory: str, limit: str) -> None:
    ballast = Path(directory, "ballast")
    database = str(Path(directory, "full.db"))
    if limit == "disk":
        ballast.write_bytes(b"x" * BALLAST_BYTES)
    async with Peer(database, "p1") as peer:
        if limit == "fsize":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))
        written: list[str] = []
        error = await fill(peer, written)
        refused = f"t{len(written)}"
        readable = not await missing(peer, written)
        if limit == "disk":
            ballast.unlink()
        else:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        after = await peer.create("after")
        half = await halves(peer, [*written, refused])
    async with Peer(database, "p2") as peer:
        lost = await missing(peer, written)
        after_again, _ = await peer.ask("promise.get", id="after")
    say(
        written=len(written),
        error=type(error).__name__,
        text=str(error),
        readable=readable,
        after=[after, after_again],
        half=half,
        lost=lost,
    )


asyncio.run(main(*sys.argv[1:]))
