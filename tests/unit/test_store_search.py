"""Searches find exactly the promises whose records say so, whichever index they go by."""

from __future__ import annotations

import random
import sqlite3
from datetime import timedelta

import pytest
from store_support import GROUP, START_MS, Clock, ask, fence, promise, settle

from store import SqliteConnection

pytestmark = pytest.mark.unit

STATES = ("pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout")
LINEAGE = ("resonate:origin", "resonate:branch", "resonate:parent")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(tmp_path, clock):
    connection = SqliteConnection(tmp_path / "a.db", clock=clock)
    yield connection
    await connection.stop()


def lineage(rng, id_):
    root, _, below = id_.partition(":")
    segments = below.split(".") if below else []
    ancestors = [root]
    ancestors += [f"{root}:{'.'.join(segments[:end])}" for end in range(1, len(segments) + 1)]
    return {name: rng.choice(ancestors) for name in LINEAGE[1:]} | {LINEAGE[0]: root}


async def populate(store, rng):
    """Promises of every kind and state, some past their deadline without anyone's notice."""
    roots = ["a", "a!", "a;", "ab", "b", "b.c", "c", "ü", "a\U0010ffff"]
    ids = [*roots]
    for root in roots:
        ids += [f"{root}:{n}" for n in (1, 2, 12)] + [f"{root}:1.{n}" for n in (1, 2)]
        ids += [f"{root}:1.2.3", f"{root}:1/", f"{root}:1-"]
    for id_ in ids:
        given = promise(id_, START_MS + rng.choice((5, 1000, 10**9)))
        kind = rng.choice(({}, {}, {"timer": "true"}, {"external": "true"}))
        given["tags"] |= {f"resonate:{name}": value for name, value in kind.items()}
        if rng.random() < 0.7:
            given["tags"] |= lineage(rng, id_)
        if rng.random() < 0.3:
            given["tags"]["colour"] = rng.choice(("red", 'r"ed', "blue"))
        assert (await ask(store, "promise.create", **given))[0] == 200
        if rng.random() < 0.5:
            state = rng.choice(STATES[1:4])
            assert (await ask(store, "promise.settle", **settle(id_) | {"state": state}))[0] == 200
    return ids


async def pages(store, limit, **data):
    """All the records of a search, page by page."""
    found, cursor = [], None
    while True:
        given = dict(data, limit=limit) | ({"cursor": cursor} if cursor else {})
        status, page = await ask(store, "promise.search", **given)
        assert status == 200
        assert len(page["promises"]) <= limit
        found += page["promises"]
        cursor = page.get("cursor")
        if cursor is None:
            return found
        assert cursor == page["promises"][-1]["id"]


@pytest.mark.parametrize("seed", range(4))
async def test_every_search_finds_what_the_records_say_in_the_order_of_ids(store, clock, seed):
    rng = random.Random(seed)
    ids = await populate(store, rng)
    clock.now_ms += rng.choice((1, 10, 5000))
    records = [(await ask(store, "promise.get", id=id_))[1]["promise"] for id_ in ids]
    records.sort(key=lambda record: record["id"].encode())
    filters = [None, {"colour": "red"}, {"colour": 'r"ed'}, {"resonate:origin": "nobody"}]
    filters += [
        {name: id_} for name in LINEAGE for id_ in ("a", "b.c", "a:1", "ü:1.2", "a\U0010ffff")
    ]
    filters += [lineage(rng, rng.choice(ids)) for _ in range(6)]
    for state in (None, *STATES):
        for tags in filters:
            data = ({} if state is None else {"state": state}) | ({"tags": tags} if tags else {})
            wanted = [
                record
                for record in records
                if state in (None, record["state"])
                and (tags or {}).items() <= record["tags"].items()
            ]
            assert await pages(store, rng.choice((1, 3, 1000)), **data) == wanted, data


async def test_a_cursor_may_lie_anywhere(store):
    for id_ in ("a", "b", "b:1", "b:2", "c"):
        await ask(store, "promise.create", **promise(id_, origin=id_[0]))
    for cursor, wanted in (("", 3), ("a", 3), ("b", 2), ("b:1", 1), ("b:2", 0), ("zz", 0)):
        data = {"cursor": cursor, "tags": {"resonate:origin": "b"}}
        assert len((await ask(store, "promise.search", **data))[1]["promises"]) == wanted


async def test_more_tags_than_a_statement_has_conditions_are_compared(store):
    many = {f"tag{number}": "v" for number in range(3000)}
    await ask(store, "promise.create", **promise("p") | {"tags": many})
    status, page = await ask(store, "promise.search", tags=many)
    assert (status, [record["id"] for record in page["promises"]]) == (200, ["p"])
    status, page = await ask(store, "promise.search", tags=many | {"tag2999": "w"})
    assert (status, page["promises"]) == (200, [])


async def test_a_tag_of_ones_own_is_found_however_its_promise_was_made_and_gone_with_it(
    store, clock
):
    colour = {"colour": "red"}
    await ask(store, "promise.create", **promise("plain") | {"tags": colour})
    rooted = promise("run", START_MS + 10**7, target=GROUP)
    rooted["tags"] |= colour
    action = {"kind": "promise.create", "head": {}, "data": rooted}
    await ask(store, "task.create", pid="w", ttl=60_000, action=action)
    step = promise("run:1", origin="run", branch="run", parent="run")
    step["tags"] |= colour
    await ask(store, "task.fence", **fence("run", "promise.create", **step))
    await ask(
        store,
        "schedule.create",
        id="s",
        cron="* * * * *",
        promiseId="cron.{{.timestamp}}",
        promiseTimeout=10**6,
        promiseParam={},
        promiseTags={"resonate:target": GROUP, **colour},
    )
    clock.now_ms += 60_000
    await store.tick()
    found = [record["id"] for record in await pages(store, 100, tags=colour)]
    assert [id_.split(".")[0] for id_ in found] == ["cron", "plain", "run", "run:1"]
    for id_ in found:
        await ask(store, "promise.settle", **settle(id_))
    clock.now_ms += 10**8
    assert await store.gc(timedelta(seconds=1)) >= 4
    assert await pages(store, 100, tags=colour) == []
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT count(*) FROM labels").fetchone() == (0,)


async def run_with_steps(store, rng, root, deadlines_ms):
    """A task and steps that it made in fences, some below a task of its own; all their ids."""
    given = promise(root, rng.choice(deadlines_ms), target=GROUP)
    action = {"kind": "promise.create", "head": {}, "data": given}
    held = await ask(store, "task.create", pid="w", ttl=10**12, action=action)
    assert held[0] == 200
    ids = [root]
    for number in range(1, 7):
        step = f"{root}:{number}" if rng.random() < 0.9 else f"elsewhere-{root}-{number}"
        data = promise(step, rng.choice(deadlines_ms))
        if rng.random() < 0.2:
            data["tags"]["colour"] = "red"
        assert (await ask(store, "task.fence", **fence(root, "promise.create", **data)))[0] == 200
        ids.append(step)
    nested = f"{root}:9"
    action = {"kind": "promise.create", "head": {}, "data": promise(nested, target=GROUP)}
    action["data"]["timeoutAt"] = rng.choice(deadlines_ms)
    await ask(store, "task.create", pid="w", ttl=10**12, action=action)
    ids.append(nested)
    for number in range(1, 4):
        step = f"{nested}.{number}"
        data = promise(step, rng.choice(deadlines_ms))
        await ask(store, "task.fence", **fence(nested, "promise.create", **data))
        ids.append(step)
    return ids


@pytest.mark.parametrize("seed", range(12))
async def test_steps_past_their_deadline_are_found_whatever_became_of_the_task_above(
    store, clock, seed
):
    rng = random.Random(seed)
    deadlines_ms = [START_MS + delay_ms for delay_ms in (20, 20, 40, 60, 10**9)]
    ids = [
        id_
        for root in ("a", "b", "c", "d", "e")
        for id_ in await run_with_steps(store, rng, root, deadlines_ms)
    ]
    for _ in range(5):
        for id_ in rng.sample(ids, 4):
            await ask(store, "promise.settle", **settle(id_))
        watched = {"awaited": rng.choice(ids), "address": GROUP}
        await ask(store, "promise.register_listener", **watched)
        clock.now_ms += rng.choice((0, 7, 13, 20))
        if rng.random() < 0.4:
            await store.tick()
        records = [(await ask(store, "promise.get", id=id_))[1]["promise"] for id_ in ids]
        records.sort(key=lambda record: record["id"].encode())
        for state in (None, *STATES):
            for tags in (None, {"colour": "red"}):
                data = ({} if state is None else {"state": state}) | (
                    {"tags": tags} if tags else {}
                )
                wanted = [
                    record
                    for record in records
                    if state in (None, record["state"])
                    and (tags or {}).items() <= record["tags"].items()
                ]
                assert await pages(store, rng.choice((2, 1000)), **data) == wanted, data
    assert await store.integrity_check() == []


async def test_the_timeouts_of_steps_are_written_and_send_nothing(store, clock):
    heard = []
    store.recv(heard.append)
    await store.start()
    for number in range(500):
        given = promise(f"p{number:03}", START_MS + 10 + number % 7)
        await ask(store, "promise.create", **given)
    await ask(store, "promise.register_listener", awaited="p007", address=store.unicast())
    clock.now_ms += 100
    await store.tick()
    with sqlite3.connect(store.path) as other:
        counts = dict(other.execute("SELECT state, count(*) FROM promises GROUP BY state"))
    assert counts == {0: 1, 4: 499}, "one that is listened to is left to be read as timed out"
    assert heard == []
    record = (await ask(store, "promise.get", id="p005"))[1]["promise"]
    assert (record["state"], record["settledAt"]) == ("rejected_timedout", START_MS + 15)
    found = await pages(store, 100, state="rejected_timedout")
    assert len(found) == 500
