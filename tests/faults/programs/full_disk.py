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
AT_ONCE = 5
PAYLOAD = "x" * 20_000


async def create_task(peer: Peer, id_: str) -> int:
    spec = {
        "id": id_,
        "timeoutAt": now_ms() + DAY_MS,
        "tags": {"resonate:target": peer.target},
        "param": {"data": PAYLOAD},
    }
    action = {"kind": "promise.create", "head": {}, "data": spec}
    return (await peer.ask("task.create", pid=peer.pid, ttl=DAY_MS, action=action))[0]


async def fill(peer: Peer, written: list[str], refused: list[str]) -> ConnectorError:
    """Create tasks, a few at a time, until the store refuses."""
    for number in range(0, 10_000, AT_ONCE):
        ids = [f"t{number + offset}" for offset in range(AT_ONCE)]
        outcomes = await asyncio.gather(
            *(create_task(peer, id_) for id_ in ids), return_exceptions=True
        )
        written += [id_ for id_, outcome in zip(ids, outcomes, strict=True) if outcome == 200]
        errors = [outcome for outcome in outcomes if isinstance(outcome, ConnectorError)]
        if len(errors) + outcomes.count(200) != AT_ONCE:
            raise AssertionError(outcomes)
        refused += [id_ for id_ in ids if id_ not in written]
        if errors:
            return errors[0]
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
        refused: list[str] = []
        error = await fill(peer, written, refused)
        readable = not await missing(peer, written)
        if limit == "disk":
            ballast.unlink()
        else:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        after = await peer.create("after")
        half = await halves(peer, [*written, *refused])
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
