"""The wall clock jumps by an hour, either way, under running work."""

from __future__ import annotations

import asyncio

import pytest
from programs.peer import Peer, now_ms

pytestmark = pytest.mark.faults

HOUR_MS = 3_600_000


class JumpingClock:
    def __init__(self) -> None:
        self.offset_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.offset_ms


async def state_of(peer: Peer, kind: str, id_: str) -> str:
    _, data = await peer.ask(f"{kind}.get", id=id_)
    return data[kind]["state"]


async def works(peer: Peer, id_: str) -> None:
    """A new task is offered, claimed, suspended, woken and fulfilled without delay."""
    assert await peer.create(id_, target=True) == 200
    _, version = await peer.execute(id_, 2.0)
    assert await peer.acquire(id_, version, 60_000) == 200
    far = {"timeoutAt": 2**62, "tags": {"resonate:external": "true"}}
    status, _ = await peer.fence(id_, version + 1, "promise.create", id=f"{id_}:1", **far)
    assert status == 200
    assert await peer.suspend(id_, version + 1, [f"{id_}:1"]) == 200
    await peer.settle(f"{id_}:1", "go")
    _, version = await peer.execute(id_, 2.0)
    assert await peer.acquire(id_, version, 60_000) == 200
    assert await peer.fulfill(id_, version + 1, "done") == 200


@pytest.mark.parametrize("jumps_ms", [(HOUR_MS, -HOUR_MS), (-HOUR_MS, HOUR_MS)])
async def test_work_goes_on_when_the_clock_jumps_an_hour_and_back(tmp_path, jumps_ms):
    clock = JumpingClock()
    async with Peer(str(tmp_path / "jump.db"), "p1", clock=clock) as peer:
        soon = {"timeoutAt": clock() + 60_000, "tags": {"resonate:external": "true"}}
        await peer.ask("promise.create", id="soon", **soon)
        await works(peer, "start")
        for number, jump_ms in enumerate(jumps_ms):
            clock.offset_ms += jump_ms
            await peer.connection.tick()
            await works(peer, f"jump{number}")
            assert await state_of(peer, "promise", "start") == "resolved"
        if jumps_ms[0] > 0:
            assert await state_of(peer, "promise", "soon") == "rejected_timedout", "final is final"


async def test_a_lease_that_lapsed_in_a_jump_is_not_given_back_by_the_jump_back(tmp_path):
    clock = JumpingClock()
    async with Peer(str(tmp_path / "lease.db"), "p1", clock=clock) as peer:
        await peer.create("t", target=True)
        _, version = await peer.execute("t", 2.0)
        assert await peer.acquire("t", version, 60_000) == 200
        clock.offset_ms = HOUR_MS
        await peer.connection.tick()
        _, again = await peer.execute("t", 2.0)
        clock.offset_ms = 0
        assert await peer.acquire("t", again, 60_000) == 200
        assert await peer.fulfill("t", 1, "late") == 409
        assert await peer.fulfill("t", again + 1, "mine") == 200


async def test_processes_whose_clocks_disagree_keep_each_task_in_one_hand(tmp_path):
    path = str(tmp_path / "skew.db")
    ahead = JumpingClock()
    ahead.offset_ms = HOUR_MS
    async with Peer(path, "p1") as here, Peer(path, "p2", clock=ahead) as there:
        claims: list[tuple[str, int]] = []

        async def serve(peer: Peer) -> None:
            while True:
                _, message = await peer.messages.get()
                task = message["data"]["task"]
                if await peer.acquire(task["id"], task["version"], 60_000) == 200:
                    claims.append((task["id"], task["version"] + 1))
                    await peer.fulfill(task["id"], task["version"] + 1, "done")

        serving = [asyncio.create_task(serve(peer)) for peer in (here, there)]
        ids = [f"t{number}" for number in range(40)]
        for id_ in ids:
            await here.create(id_, target=True)
        async with asyncio.timeout(30):
            for id_ in ids:
                while await state_of(here, "promise", id_) == "pending":
                    await asyncio.sleep(0.01)
        for task in serving:
            task.cancel()
    assert len(claims) == len(set(claims))
