"""Messages: who gets them, when, and what becomes of those nobody takes."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from store_support import GROUP, START_MS, Clock, ask, claim, promise, settle

from store import SqliteConnection
from store.outbox import FREE_RELEASES, LONGEST_HOLD_MS, hold_ms

pytestmark = pytest.mark.unit


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def connect(tmp_path, clock):
    opened = []

    async def open_one(pid, group="default", *, start=True, listen=True, clock=clock):
        connection = SqliteConnection(tmp_path / "a.db", pid=pid, group=group, clock=clock)
        connection.heard = []
        if listen:
            connection.recv(lambda text: connection.heard.append(json.loads(text)))
        opened.append(connection)
        if start:
            await connection.start()
        return connection

    yield open_one
    for connection in opened:
        await connection.stop()


def executes(connection):
    return [
        (message["data"]["task"]["id"], message["data"]["task"]["version"])
        for message in connection.heard
        if message["kind"] == "execute"
    ]


async def until(condition, timeout_s=5.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_message_arrives_without_a_tick_once_started(connect):
    a = await connect("a")
    await ask(a, "promise.create", **promise("p", target=GROUP))
    await until(lambda: executes(a) == [("p", 0)])


async def test_a_message_waits_until_somebody_listens(connect):
    a = await connect("a", listen=False)
    await ask(a, "promise.create", **promise("p", target=GROUP))
    await ask(a, "promise.create", **promise("q", target="poll://any@later"))
    b = await connect("b")
    await until(lambda: executes(b) == [("p", 0)])
    c = await connect("c", "later")
    await until(lambda: executes(c) == [("q", 0)])


async def test_a_message_to_one_process_reaches_it_alone(connect):
    a, b = await connect("a"), await connect("b")
    await ask(a, "promise.create", **promise("p", target=b.unicast()))
    await until(lambda: executes(b) == [("p", 0)])
    await a.tick()
    assert executes(a) == []


async def test_every_member_of_a_group_gets_a_share_and_no_message_twice(connect):
    members = [await connect(pid) for pid in "abc"]
    for number in range(90):
        await ask(members[0], "promise.create", **promise(f"p{number}", target=GROUP))
    await until(lambda: sum(len(member.heard) for member in members) >= 90)
    shares = [executes(member) for member in members]
    assert sorted(itertools.chain(*shares)) == sorted((f"p{number}", 0) for number in range(90))
    assert all(len(share) >= 10 for share in shares)


async def test_a_listener_in_another_connection_is_unblocked(connect):
    a, b = await connect("a"), await connect("b")
    await ask(a, "promise.create", **promise("p"))
    await ask(b, "promise.register_listener", awaited="p", address=b.unicast())
    await ask(a, "promise.settle", **settle("p"))
    await until(lambda: b.heard != [])
    (message,) = b.heard
    assert message["kind"] == "unblock"
    assert message["data"]["promise"]["value"] == {"data": "MQ=="}
    assert None not in message["data"]["promise"].values()
    assert a.heard == []


async def test_settling_takes_back_the_message_of_the_task(connect):
    a = await connect("a", listen=False)
    await ask(a, "promise.create", **promise("p", target=GROUP))
    await ask(a, "promise.settle", **settle("p"))
    b = await connect("b")
    await b.tick()
    assert b.heard == []


async def test_a_task_released_again_and_again_is_held_back_longer_and_longer(connect, clock):
    a = await connect("a")
    await claim(a, "p")
    version = 1
    for round_ in range(FREE_RELEASES + 4):
        heard = len(a.heard)
        assert (await ask(a, "task.release", id="p", version=version))[0] == 200
        if round_ >= FREE_RELEASES:
            await asyncio.sleep(0.05)
            assert len(a.heard) == heard, f"round {round_} was not held back"
            clock.now_ms += hold_ms(round_ + 1)
        await until(lambda heard=heard: len(a.heard) == heard + 1)
        answer = await ask(a, "task.acquire", id="p", version=version, pid="w", ttl=60_000)
        version = answer[1]["task"]["version"]
    assert (await a.stats()).troubled == 1


async def test_a_tick_delivers_what_is_held_back(connect):
    a = await connect("a")
    await claim(a, "p")
    for version in range(1, FREE_RELEASES + 4):
        await ask(a, "task.release", id="p", version=version)
        await a.tick()
        assert executes(a)[-1] == ("p", version)
        await ask(a, "task.acquire", id="p", version=version, pid="w", ttl=60_000)


def test_the_hold_doubles_up_to_a_cap():
    holds = [hold_ms(releases) for releases in range(1, 40)]
    assert set(holds[:FREE_RELEASES]) == {0}
    assert holds[FREE_RELEASES : FREE_RELEASES + 4] == [100, 200, 400, 800]
    assert max(holds) == holds[-1] == LONGEST_HOLD_MS


async def test_another_member_is_preferred_for_a_released_task(connect):
    a, b = await connect("a"), await connect("b")
    await claim(a, "p")
    await ask(a, "task.release", id="p", version=1)
    await until(lambda: executes(b) == [("p", 1)])
    assert a.heard == []


async def test_pausing_hands_unclaimed_work_to_others_and_answers_on(connect):
    a = await connect("a")
    await claim(a, "mine")
    await ask(a, "promise.create", **promise("p", target=GROUP))
    await until(lambda: executes(a) == [("p", 0)])
    b = await connect("b")
    a.pause_delivery()
    a.pause_delivery()
    await until(lambda: executes(b) == [("p", 0)])
    await ask(a, "promise.create", **promise("q", target=GROUP))
    await until(lambda: ("q", 0) in executes(b))
    assert executes(a) == [("p", 0)]
    assert (await ask(a, "task.get", id="mine"))[1]["task"]["state"] == "acquired"


async def test_stopping_hands_over_what_was_held_at_once(connect, clock):
    a, b = await connect("a"), await connect("b", listen=False)
    await claim(a, "p")
    await ask(a, "promise.create", **promise("q", target=GROUP))
    await a.stop()
    assert (await ask(b, "task.get", id="p"))[1]["task"]["state"] == "pending"
    c = await connect("c")
    await until(lambda: sorted(executes(c)) == [("p", 1), ("q", 0)])


async def test_a_receiver_that_fails_does_not_keep_messages_from_the_others(connect):
    a = await connect("a", start=False)

    def fail(text):
        raise RuntimeError(text)

    a._callbacks.insert(0, fail)
    await ask(a, "promise.create", **promise("p", target=GROUP))
    await a.tick()
    assert executes(a) == [("p", 0)]


async def test_a_clock_set_by_hand_moves_nothing_until_the_tick(connect, clock):
    a = await connect("a")
    await ask(a, "promise.create", **promise("p", START_MS + 1000, external="true"))
    await ask(a, "promise.register_listener", awaited="p", address=a.unicast())
    clock.now_ms += 5000
    await asyncio.sleep(0.1)
    assert a.heard == []
    await a.tick()
    assert [message["kind"] for message in a.heard] == ["unblock"]


async def test_a_shifted_clock_that_runs_drives_the_timers(connect):
    from store.clocks import now_ms

    a = await connect("a", clock=lambda: now_ms() + 3_600_000)
    soon = now_ms() + 3_600_000 + 50
    await ask(a, "promise.create", **promise("p", soon, external="true"))
    await ask(a, "promise.register_listener", awaited="p", address=a.unicast())
    await until(lambda: [message["kind"] for message in a.heard] == ["unblock"])


async def test_the_missed_runs_of_a_schedule_come_before_those_of_the_next(connect, clock):
    a = await connect("a")
    for id_ in ("s", "t"):
        await ask(
            a,
            "schedule.create",
            id=id_,
            cron="* * * * *",
            promiseId="{{.id}}.{{.timestamp}}",
            promiseTimeout=10**9,
            promiseTags={"resonate:target": GROUP},
        )
    clock.now_ms += 150 * 60_000
    await a.tick()
    first_ms = START_MS // 60_000 * 60_000 + 60_000
    wanted = [f"{id_}.{first_ms + run * 60_000}" for id_ in "st" for run in range(150)]
    assert [id_ for id_, _ in executes(a)] == wanted
    for id_ in ("s", "t"):
        schedule = (await ask(a, "schedule.get", id=id_))[1]["schedule"]
        assert schedule["lastRunAt"] == first_ms + 149 * 60_000
        assert schedule["nextRunAt"] == first_ms + 150 * 60_000
