"""Another process: settles each promise that it is told of, and says when."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from durable import Durable


async def main(database: str) -> None:
    async with Durable(database, group="settlers") as app:
        print(json.dumps({"open": True}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            promise_id = line.strip()
            # What it needs for itself is done before the time is taken.
            await app.promise(promise_id).started()
            began_s = time.time()
            await app.resolve(promise_id, promise_id)
            print(json.dumps({"settled": promise_id, "at_s": began_s}), flush=True)


asyncio.run(main(sys.argv[1]))
