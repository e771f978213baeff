"""A process killed in the middle of upkeep leaves a sound file and loses nothing acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from pathlib import Path

import pytest
from processes import start
from programs.peer import Peer
from store_versions import TO_VERSION_1

from store import schema, upkeep

pytestmark = pytest.mark.faults

KILLS = int(os.environ.get("SOSTENUTO_UPKEEP_KILLS", "10"))
PROMISES = 2_000


def ids_in(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute("SELECT id FROM promises")}
    finally:
        connection.close()


async def fill(path: Path) -> set[str]:
    """A file with pending and settled promises, some with tasks; the ids to be kept."""
    async with Peer(str(path), "filler", "nobody") as peer:
        ids = [f"kept{number:05}" for number in range(PROMISES)]
        for start_at in range(0, PROMISES, 100):
            await asyncio.gather(
                *(
                    peer.create(id_, external=number % 3 == 0, target=number % 3 == 1)
                    for number, id_ in enumerate(ids[start_at : start_at + 100])
                )
            )
    return set(ids)


async def kill_during(path: Path, what: str, log: Path, rng: random.Random) -> None:
    worker = await start("upkeep_worker.py", path, what, log)
    await worker.hear("begun")
    if rng.random() < 0.3:
        await worker.hear("begun")
    await asyncio.sleep(rng.random() ** 2 * 0.2)
    await worker.kill()


def acknowledged(log: Path) -> set[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {line["id"] for line in lines if line["kept"]}


@pytest.mark.parametrize("what", ["open", "backup", "gc", "vacuum", "checkpoint"])
async def test_a_kill_in_the_middle_of_upkeep_loses_nothing(tmp_path, what):
    path, log, rng = tmp_path / "a.db", tmp_path / "log", random.Random(what)
    kept = await fill(path)
    async with Peer(str(path), "writer", "writers") as peer:
        for number in range(KILLS):
            await kill_during(path, what, log, rng)
            assert await peer.create(f"between{number}") == 200
            kept.add(f"between{number}")
            assert await upkeep.check(str(path)) == []
            if what == "backup" and (path.parent / "a.db.copy").exists():
                assert await upkeep.check(f"{path}.copy") == []
    assert (kept | acknowledged(log)) - ids_in(path) == set()


async def test_a_kill_in_the_middle_of_a_migration_leaves_it_done_or_to_be_done(tmp_path):
    rng = random.Random(7)
    path = tmp_path / "a.db"
    kept = await fill(path)
    copy = tmp_path / "a.db.v1.bak"
    done = 0
    for _ in range(KILLS):
        older = sqlite3.connect(path)
        if older.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION:
            older.executescript(TO_VERSION_1)
        older.close()
        worker = await start("upkeep_worker.py", path, "migrate", tmp_path / "log")
        await worker.hear("begun")
        await asyncio.sleep(rng.random() * 0.06)
        await worker.kill()
        with sqlite3.connect(path) as found:
            version = found.execute("PRAGMA user_version").fetchone()[0]
        found.close()
        assert version in {1, schema.VERSION}
        done += version == schema.VERSION
        if version == schema.VERSION:
            assert ids_in(copy) == kept, "a migrated file has been copied whole"
            assert await upkeep.check(str(path)) == []
        assert ids_in(path) == kept
    schema.prepare(str(path))
    assert ids_in(path) == ids_in(copy) == kept
    print(f"{done} of {KILLS} migrations were through when they were killed")


@pytest.mark.parametrize("older", [True, False])
async def test_of_many_processes_that_open_a_file_at_once_all_succeed(tmp_path, older):
    path = tmp_path / "a.db"
    kept = set()
    if older:
        kept = await fill(path)
        connection = sqlite3.connect(path)
        connection.executescript(TO_VERSION_1)
        connection.close()
    workers = [
        await start("upkeep_worker.py", path, "open", tmp_path / "log", "until_told")
        for _ in range(MANY)
    ]
    try:
        for worker in workers:
            await worker.hear("waits", 120)
        for worker in workers:
            worker.tell()
        for worker in workers:
            await worker.hear("done", 120)
    finally:
        for worker in workers:
            await worker.kill()
    assert await upkeep.check(str(path)) == []
    assert len(acknowledged(tmp_path / "log")) == MANY
    assert (kept | acknowledged(tmp_path / "log")) - ids_in(path) == set()


#: How many processes open one file at once.
MANY = 64
