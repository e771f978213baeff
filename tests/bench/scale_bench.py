"""The cost of each operation of the store by the number of promises in its file; JSON.

Files with 10^3 to 10^5 promises (10^6 with --full), nine in ten of them finished, are asked the
same operations in turn; a figure is the median, and ``ratio`` what it is of the smallest file's.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import level, progress
from store_bench import HEAD, fill, operations

from store import SqliteConnection

#: (rounds, sizes)
SIZES = {
    "quick": (10, (100, 1_000)),
    "normal": (200, (1_000, 10_000, 100_000)),
    "full": (400, (1_000, 10_000, 100_000, 1_000_000)),
}


async def ask(connection: SqliteConnection, kind: str, data: dict[str, Any]) -> float:
    """Microseconds of one operation."""
    text = json.dumps({"kind": kind, "head": HEAD, "data": data})
    began_s = time.perf_counter()
    answer = await connection.send(text)
    took_us = (time.perf_counter() - began_s) * 1e6
    assert json.loads(answer)["head"]["status"] == 200, (kind, answer)
    return took_us


async def measure(directory: Path, rounds: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Medians of every operation at every size, the sizes taking turns."""
    connections, opening_ms, size_bytes = {}, {}, {}
    for size in sizes:
        progress(f"a file with {size:,} promises")
        path = directory / f"{size}.db"
        fill(path, size * 9 // 10, size // 10)
        size_bytes[str(size)] = path.stat().st_size
        connections[size] = SqliteConnection(path)
        began_s = time.perf_counter()
        await connections[size].start()
        opening_ms[str(size)] = round((time.perf_counter() - began_s) * 1e3, 1)
    progress("operations")
    times_us: dict[str, dict[int, list[float]]] = {}
    for number in range(rounds):
        for size, connection in connections.items():
            for position, (kind, data) in enumerate(operations(number)):
                took_us = await ask(connection, kind, data)
                name = f"{position + 1:02} {kind}"
                times_us.setdefault(name, {}).setdefault(size, []).append(took_us)
                await asyncio.sleep(0)
    for connection in connections.values():
        await connection.stop()
    table = {
        name: {str(size): round(statistics.median(found), 1) for size, found in by_size.items()}
        for name, by_size in times_us.items()
    }
    smallest, largest = str(sizes[0]), str(sizes[-1])
    return {
        "rounds": rounds,
        "sizes": list(sizes),
        "size_bytes": size_bytes,
        "opening_ms": opening_ms,
        "us": table,
        "ratio": {name: round(row[largest] / row[smallest], 2) for name, row in table.items()},
    }


def main() -> None:
    rounds, sizes = SIZES[level(__doc__)]
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(asyncio.run(measure(Path(directory), rounds, sizes)), indent=2))


if __name__ == "__main__":
    main()
