"""The plain Resonate SDK on one SQLite file: no server, and nothing of Sostenuto but the store.

    python examples/plain_sdk.py

The program is what one would write for a Resonate server; only `network=` differs. Kill it and
start it again: charge() is not called twice for an order that was charged.

PLAIN_DB names the database (plain.db); PLAIN_LOG, optional, a file to which every step that really
runs appends a line.
"""

import asyncio
import os
import time
from datetime import timedelta

from resonate.context import Context
from resonate.resonate import Resonate
from store import SqliteConnection


def log_step(name: str) -> None:
    """Append one line to PLAIN_LOG, whole even if several processes write at once."""
    if path := os.environ.get("PLAIN_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


async def charge(ctx: Context, order: str, cents: int) -> str:
    log_step(f"charge-{order}")
    return f"receipt-{order}-{cents}"


async def ship(ctx: Context, order: str) -> str:
    log_step(f"ship-{order}")
    return f"parcel-{order}"


async def fulfil(ctx: Context, order: str, cents: int) -> dict[str, str]:
    receipt = await ctx.run(charge, order, cents)
    await ctx.sleep(timedelta(milliseconds=200))
    parcel = await ctx.run(ship, order)
    return {"receipt": receipt, "parcel": parcel}


async def main() -> None:
    resonate = Resonate(network=SqliteConnection(os.environ.get("PLAIN_DB", "plain.db")))
    for function in (charge, ship, fulfil):
        resonate.register(function, name=function.__name__)
    try:
        handles = [
            resonate.run(f"order-{number}", fulfil, f"A{number}", 100 * number)
            for number in range(1, 6)
        ]
        for handle in handles:
            print(await handle.result())
    finally:
        await resonate.stop()


if __name__ == "__main__":
    asyncio.run(main())
