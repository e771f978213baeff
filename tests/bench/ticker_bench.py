"""How late a 1 ms ticker on the host's loop is while cells run in threads; prints JSON.

Lateness on a loaded machine is mostly the machine's: the row without any cell, measured in the
same run, says how much.

    python tests/bench/ticker_bench.py [seconds per row]
"""

import asyncio
import json
import sys
import time

from executor import AsyncExecutor

UNTIL = "import time\ntime.sleep(0)\nend = time.monotonic() + {seconds}\n"
CELLS = {
    "sleeping": "import time\ntime.sleep({seconds})\n",
    "computing": UNTIL + "n = 0\nwhile time.monotonic() < end:\n    n += 1\n",
    "writing files": UNTIL
    + "while time.monotonic() < end:\n    open('/dev/null', 'w').write('x' * 100)\n",
}


async def lateness(work):
    """Milliseconds the ticker was late while the work ran: worst, 99th percentile, median."""
    late_s = []
    done = False

    async def tick():
        while not done:
            due_s = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late_s.append(time.perf_counter() - due_s)

    ticker = asyncio.create_task(tick())
    await work
    done = True
    await ticker
    late_s.sort()
    return {
        "worst_ms": round(late_s[-1] * 1e3, 2),
        "p99_ms": round(late_s[len(late_s) * 99 // 100] * 1e3, 2),
        "median_ms": round(late_s[len(late_s) // 2] * 1e3, 2),
        "ticks": len(late_s),
    }


async def main(seconds):
    rows = {"no cell": await lateness(asyncio.sleep(seconds))}
    for name, source in CELLS.items():
        for count in (1, 2, 4):
            executors = [AsyncExecutor() for _ in range(count)]
            cell = source.format(seconds=seconds)
            work = asyncio.gather(*(each.execute(cell) for each in executors))
            rows[f"{name}, {count} cells" if count > 1 else f"{name}, 1 cell"] = await lateness(
                work
            )
            for each in executors:
                await each.aclose()
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))
