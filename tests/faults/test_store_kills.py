"""Whatever was acknowledged survives SIGKILL, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from processes import Program, start
from programs.peer import Peer

pytestmark = pytest.mark.faults

WORKFLOWS_PER_LIFE = 6
SETTLE_S = 60.0
KILLS = int(os.environ.get("SOSTENUTO_KILLS", "200"))


class Crew:
    """Two workers on one file, each replaced when it is killed."""

    def __init__(self, directory: Path, rng: random.Random, synchronous: str) -> None:
        self.database, self.directory, self.rng = directory / "killed.db", directory, rng
        self.synchronous = synchronous
        self.lives = 0
        self.workers: list[Program] = []

    async def hire(self) -> None:
        self.lives += 1
        log = self.directory / f"log{self.lives}.jsonl"
        numbers = (f"p{self.lives}", WORKFLOWS_PER_LIFE, self.lives)
        worker = await start("mixed_worker.py", self.database, log, *numbers, self.synchronous)
        await worker.hear("ready")
        self.workers.append(worker)

    async def kill_one(self) -> None:
        await asyncio.sleep(self.rng.random() * 0.15)
        victim = self.workers.pop(self.rng.randrange(len(self.workers)))
        if self.rng.random() < 0.2:
            victim.signal(signal.SIGSTOP)
            await asyncio.sleep(self.rng.random() * 0.2)
            victim.signal(signal.SIGCONT)
        await victim.kill()

    async def stop(self) -> None:
        for worker in self.workers:
            await worker.kill()

    def logged(self) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for log in self.directory.glob("log*.jsonl")
            for line in log.read_text().splitlines()
        ]
        assert lines
        return lines


class Audience:
    """Listens on every workflow from a process that is never killed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.waiting: set[str] = set()
        self.known: set[str] = set()

    async def listen(self, ids: set[str]) -> None:
        for id_ in ids - self.known:
            address = self.peer.connection.unicast()
            registration = {"awaited": id_, "address": address}
            status, data = await self.peer.ask("promise.register_listener", **registration)
            assert status == 200
            self.known.add(id_)
            if data["promise"]["state"] == "pending":
                self.waiting.add(id_)

    async def hear_all(self) -> None:
        """Every promise that was pending when it was listened on must be heard of, once."""
        async with asyncio.timeout(SETTLE_S):
            while self.waiting:
                _, message = await self.peer.messages.get()
                assert message["kind"] == "unblock"
                self.waiting.remove(message["data"]["promise"]["id"])


async def all_tasks(peer: Peer) -> list[dict[str, Any]]:
    tasks, cursor = [], None
    while True:
        query = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
        _, data = await peer.ask("task.search", **query)
        tasks += data["tasks"]
        cursor = data.get("cursor")
        if cursor is None:
            return tasks


async def open_tasks(peer: Peer) -> list[dict[str, Any]]:
    return [task for task in await all_tasks(peer) if task["state"] != "fulfilled"]


async def wait_until_done(peer: Peer) -> list[dict[str, Any]]:
    """Every task must end by itself: one that does not has lost its callback or its message."""
    async with asyncio.timeout(SETTLE_S):
        while await open_tasks(peer):
            await asyncio.sleep(0.1)
    return await all_tasks(peer)


def assert_sound(database: Path) -> None:
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


async def assert_acknowledged_is_present(peer: Peer, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if line["what"] not in ("created", "settled"):
            continue
        status, data = await peer.ask("promise.get", id=line["id"])
        assert status == 200, line
        if line["what"] == "settled":
            promise = data["promise"]
            found = {"state": promise["state"], "value": promise["value"].get("data")}
            assert found == {"state": line["state"], "value": line["value"]}, line


def assert_in_one_hand(lines: list[dict[str, Any]]) -> None:
    """No version of a task was claimed twice, and no task was fulfilled twice."""
    claims = Counter((line["id"], line["version"]) for line in lines if line["what"] == "acquired")
    assert [claim for claim, count in claims.items() if count > 1] == []
    ends = Counter(line["id"] for line in lines if line["what"] == "fulfilled")
    assert [id_ for id_, count in ends.items() if count > 1] == []


@pytest.mark.parametrize(
    "kills", [8, pytest.param(KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]
)
@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_two_processes_killed_at_random_lose_and_repeat_nothing(tmp_path, kills, synchronous):
    crew = Crew(tmp_path, random.Random(kills), synchronous)
    try:
        for _ in range(2):
            await crew.hire()
        async with Peer(str(crew.database), "judge", "judges") as judge:
            audience = Audience(judge)
            for _ in range(kills):
                await crew.kill_one()
                await audience.listen({task["id"] for task in await open_tasks(judge)})
                await crew.hire()
                await audience.listen({task["id"] for task in await open_tasks(judge)})
            tasks = await wait_until_done(judge)
            await audience.hear_all()
            lines = crew.logged()
            await assert_acknowledged_is_present(judge, lines)
    finally:
        await crew.stop()
    assert_in_one_hand(lines)
    assert_sound(crew.database)
    kinds = Counter(line["what"] for line in lines)
    print(f"{kills} kills, {len(tasks)} tasks, {len(audience.known)} listened on, {dict(kinds)}")
    assert kinds["acquired"] > kills
