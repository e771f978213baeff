"""Opens a database and makes one promise; says which error came, if one did.

Usage: read_only.py DATABASE
"""

from __future__ import annotations

import asyncio
import sys

from peer import Peer, say
from resonate_base import ConnectorError


async def main(database: str) -> None:
    try:
        async with Peer(database, "p1") as peer:
            say(status=await peer.create("a"))
    except ConnectorError as error:
        say(error=type(error).__name__, text=str(error))


asyncio.run(main(*sys.argv[1:]))
