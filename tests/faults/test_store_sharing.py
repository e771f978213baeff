"""Many processes of several groups share the work of one file."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict

import pytest
from processes import start
from programs.peer import Peer

from store import upkeep

pytestmark = pytest.mark.faults

GROUPS = ("red", "green", "blue", "grey")
MEMBERS = 5
TASKS = 150
DONE_S = 60.0


async def until_done(peer: Peer) -> None:
    async with asyncio.timeout(DONE_S):
        for state in ("pending", "acquired", "suspended"):
            while (await peer.ask("task.search", state=state, limit=1))[1]["tasks"]:
                await asyncio.sleep(0.05)


async def test_every_message_reaches_one_member_of_its_group_and_every_member_gets_some(tmp_path):
    path, log = str(tmp_path / "a.db"), tmp_path / "log"
    names = [f"{group}{number}" for group in GROUPS for number in range(MEMBERS)]
    workers = [
        await start("sharing_worker.py", path, log, name, name.rstrip("0123456789"))
        for name in names
    ]
    try:
        for worker in workers:
            await worker.hear("ready", 120)
        async with Peer(path, "giver", "givers") as peer:
            for number in range(TASKS):
                for group in GROUPS:
                    target = peer.connection.resolve_target(group)
                    tags = {"resonate:target": target}
                    assert await peer.create(f"{group}-{number}", **tags) == 200
            await until_done(peer)
    finally:
        for worker in workers:
            await worker.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    handed = [line for line in lines if line["what"] == "handed"]
    times = Counter((line["id"], line["version"]) for line in handed)
    assert len(times) == TASKS * len(GROUPS)
    assert {message: count for message, count in times.items() if count > 1} == {}
    assert {line["claimed"] for line in handed} == {200}
    assert {line["status"] for line in lines if line["what"] == "ended"} == {200}
    shares: defaultdict[str, set[str]] = defaultdict(set)
    for line in handed:
        assert line["by"].startswith(line["id"].partition("-")[0])
        shares[line["id"].partition("-")[0]].add(line["by"])
    assert {group: len(members) for group, members in shares.items()} == dict.fromkeys(
        GROUPS, MEMBERS
    )
    assert await upkeep.check(path) == []
