"""Opens, migrates, copies, collects and shrinks a file on a disk that is full, then with room.

Usage: full_upkeep.py DIRECTORY WHAT, where DIRECTORY is the root of a small file system.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path

from peer import Peer, say
from resonate_base import ConnectorError

from store import schema, upkeep

PROMISES = 1_500
PAYLOAD = "x" * 500
LEFT_BYTES = 16_384


async def fill(path: Path) -> list[str]:
    ids = [f"p{number:05}" for number in range(PROMISES)]
    async with Peer(str(path), "filler") as peer:
        for id_ in ids:
            assert await peer.create(id_, note=PAYLOAD) == 200
        for id_ in ids[::2]:
            await peer.settle(id_, PAYLOAD)
    return ids


def ballast(directory: Path, left_bytes: int) -> Path:
    """Fill the file system up to a few bytes."""
    path = directory / "ballast"
    with path.open("wb", buffering=0) as file:
        chunk = b"x" * 4096
        try:
            while True:
                file.write(chunk)
        except OSError:
            pass
        size_bytes = file.tell()
        file.truncate(max(0, size_bytes - left_bytes))
    return path


async def work(path: Path, what: str, version: int) -> None:
    if what == "open":
        fresh = path.with_name("fresh.db")
        async with Peer(str(fresh), "late") as peer:
            assert await peer.create("first", note=PAYLOAD) == 200
    elif what == "migrate":
        migrations = {schema.VERSION: "UPDATE promises SET tags = tags || '        ';"}
        await asyncio.to_thread(schema.prepare, str(path), version=version, migrations=migrations)
    elif what == "backup":
        await upkeep.back_up(str(path), path.with_name("copy.db"))
    elif what == "gc":
        async with Peer(str(path), "collector") as peer:
            await peer.connection.gc(timedelta(0))
    elif what == "vacuum":
        await upkeep.shrink(str(path))


def stored(reader: sqlite3.Connection) -> list[str]:
    return [row[0] for row in reader.execute("SELECT id FROM promises ORDER BY id")]


async def main(directory: str, what: str) -> None:
    path = Path(directory, "a.db")
    ids = await fill(path)
    reader = sqlite3.connect(path)  # another process that has the file open
    assert stored(reader) == ids
    heavy = ballast(Path(directory), LEFT_BYTES)
    version = schema.VERSION + 1
    error: BaseException | None = None
    try:
        await work(path, what, version)
    except ConnectorError as raised:
        error = raised
    kept = [id_ for id_ in ids if id_ not in stored(reader)]
    left = sorted(file.name for file in Path(directory).iterdir())
    heavy.unlink()
    await work(path, what, version)
    if what != "migrate":
        async with Peer(str(path), "after") as peer:
            after = await peer.create("after")
    else:
        after = 200
    say(
        error=type(error).__name__ if error else "",
        text=str(error),
        missing=kept,
        left=left,
        after=after,
        problems=await upkeep.check(str(path)),
        stored=len(stored(reader)),
    )


asyncio.run(main(*sys.argv[1:]))
