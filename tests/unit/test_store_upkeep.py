"""Garbage collection, backup, checks, figures and listings."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from datetime import timedelta

import pytest
from store_support import GROUP, START_MS, Clock, ask, claim, fence, promise, settle

from store import SqliteConnection, UnwritableError, queries
from store.reader import Reader

pytestmark = pytest.mark.unit

DAY_MS = 86_400_000
DAY = timedelta(days=1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(tmp_path, clock):
    connection = SqliteConnection(tmp_path / "a.db", clock=clock)
    yield connection
    await connection.stop()


async def run(store, id_, steps=3):
    """A finished execution of some steps."""
    await claim(store, id_)
    for step in range(steps):
        child = f"{id_}:{step}"
        created = fence(id_, "promise.create", **promise(child, origin=id_, branch=id_))
        assert (await ask(store, "task.fence", **created))[0] == 200
        settled = fence(id_, "promise.settle", **settle(child))
        assert (await ask(store, "task.fence", **settled))[0] == 200
    done = {"kind": "promise.settle", "head": {}, "data": settle(id_)}
    assert (await ask(store, "task.fulfill", id=id_, version=1, action=done))[0] == 200


async def exists(store, id_):
    return (await ask(store, "promise.get", id=id_))[0] == 200


async def test_old_executions_are_deleted_whole_and_young_ones_kept(store, clock):
    await run(store, "old", steps=450)
    clock.now_ms += 2 * DAY_MS
    await run(store, "young")
    assert await store.gc(DAY) == 451
    assert not await exists(store, "old")
    assert not await exists(store, "old:449")
    assert await exists(store, "young:2")
    assert await store.integrity_check() == []


async def test_an_execution_with_something_open_in_it_is_kept(store, clock):
    await run(store, "root")
    far = START_MS + 100 * DAY_MS
    await ask(store, "promise.create", **promise("root:detached", far, target=GROUP, origin="root"))
    clock.now_ms += 2 * DAY_MS
    assert await store.gc(DAY) == 0
    await ask(store, "promise.settle", **settle("root:detached"))
    assert await store.gc(DAY) == 5
    assert not await exists(store, "root")


async def test_an_open_execution_is_never_deleted(store, clock):
    await claim(store, "root")
    await ask(store, "promise.create", **promise("plain"))
    clock.now_ms += 5 * DAY_MS
    assert await store.gc(DAY) == 0
    assert await exists(store, "root")
    assert await exists(store, "plain")


async def test_a_plain_promise_past_its_deadline_is_deleted_too(store, clock):
    await ask(store, "promise.create", **promise("plain", START_MS + 1000))
    clock.now_ms += 2 * DAY_MS
    assert await store.gc(DAY) == 1


async def test_ids_that_only_begin_alike_are_not_swept_up(store, clock):
    await run(store, "a")
    for near in ("a;b", "ab", "a.b", "a9:1"):
        await ask(store, "promise.create", **promise(near))
    clock.now_ms += 2 * DAY_MS
    assert await store.gc(DAY) == 4
    for near in ("a;b", "ab", "a.b", "a9:1"):
        assert await exists(store, near)


async def test_what_lies_below_a_root_that_never_was_is_deleted_when_the_last_of_it_is_old(
    store, clock
):
    for id_ in ("lost:1", "lost:1.1", "lost:2", "late:1", "late:2", "far:1", "open:1", ":1"):
        await ask(store, "promise.create", **promise(id_))
    for id_ in ("lost:1", "lost:1.1", "lost:2", "late:1", "far:1", ":1"):
        await ask(store, "promise.settle", **settle(id_))
    await ask(store, "promise.create", **promise("far:2", clock.now_ms + 3 * DAY_MS))
    await ask(store, "promise.create", **promise("lost;1"))
    clock.now_ms += 2 * DAY_MS
    await ask(store, "promise.settle", **settle("late:2"))
    assert await store.gc(DAY) == 4
    for id_ in ("lost:1", "lost:1.1", "lost:2", ":1"):
        assert not await exists(store, id_)
    for id_ in ("late:1", "late:2", "far:1", "far:2", "open:1", "lost;1"):
        assert await exists(store, id_)
    clock.now_ms += 3 * DAY_MS
    assert await store.gc(DAY) == 4
    assert await exists(store, "open:1")


async def test_every_orphan_is_found_between_thousands_of_executions(store, clock):
    """More of them than are looked up at once, among roots with and without steps."""
    for number in range(300):
        await ask(store, "promise.create", **promise(f"r{number}"))
        await ask(store, "promise.create", **promise(f"r{number}:1", origin=f"r{number}"))
        for step in (1, 2):
            await ask(store, "promise.create", **promise(f"x{number}:{step}"))
            await ask(store, "promise.settle", **settle(f"x{number}:{step}"))
    clock.now_ms += 2 * DAY_MS
    assert await store.gc(DAY) == 600
    assert sum((await store.stats()).promises.values()) == 600


async def test_a_promise_created_while_its_execution_is_deleted_is_kept(store, clock, monkeypatch):
    await run(store, "old", steps=450)
    clock.now_ms += 2 * DAY_MS
    far = clock.now_ms + 100 * DAY_MS

    async def create_in_between(_seconds):
        await ask(store, "promise.create", **promise("old:9z", far, external="true"))

    monkeypatch.setattr("store.upkeep._pause", create_in_between)
    await store.gc(DAY)
    assert await exists(store, "old:9z")
    assert await exists(store, "old")


async def test_requests_are_answered_while_garbage_is_collected(store, clock):
    for number in range(30):
        await run(store, f"old{number}", steps=20)
    clock.now_ms += 2 * DAY_MS
    collecting = asyncio.create_task(store.gc(DAY))
    answered = 0
    while not collecting.done():
        assert (await ask(store, "promise.create", **promise(f"new{answered}")))[0] == 200
        answered += 1
        await asyncio.sleep(0)
    assert await collecting == 30 * 21
    assert answered > 30


async def test_a_backup_is_one_moment_of_the_store_and_opens_like_it(store, tmp_path):
    await run(store, "a")
    copy = tmp_path / "copy.db"
    writing = asyncio.create_task(run(store, "b", steps=50))
    await store.backup(copy)
    await writing
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    other = SqliteConnection(copy)
    assert await exists(other, "a:2")
    assert await other.integrity_check() == []
    await other.stop()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


async def test_a_backup_that_cannot_be_written_says_so_and_leaves_nothing(store, tmp_path):
    await run(store, "a")
    with pytest.raises(UnwritableError, match="nowhere"):
        await store.backup(tmp_path / "nowhere" / "copy.db")


async def test_the_check_names_what_does_not_fit_together(store, tmp_path):
    await run(store, "a")
    assert await store.integrity_check() == []
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE tasks SET state = 2 WHERE id = 'a'")
    problems = await store.integrity_check()
    assert "settled promise whose task is not fulfilled: a" in problems
    assert "suspended task that waits for nothing: a" in problems


async def test_the_figures_count_by_state(store):
    await run(store, "a")
    await claim(store, "b")
    figures = await store.stats()
    assert figures.promises == {
        "pending": 1,
        "resolved": 4,
        "rejected": 0,
        "rejected_canceled": 0,
        "rejected_timedout": 0,
    }
    assert figures.tasks["acquired"] == 1
    assert figures.tasks["fulfilled"] == 1
    assert figures.size_bytes > 4096
    assert figures.members == 1


async def test_executions_are_listed_newest_first_in_pages(store, clock, tmp_path):
    for number in range(7):
        clock.now_ms += 1000
        await run(store, f"run{number}", steps=1)
    await claim(store, "open")
    reader = Reader(str(tmp_path / "a.db"))
    seen, cursor = [], None
    while True:
        page = await queries.executions(reader, clock.now_ms, limit=3, cursor=cursor)
        seen += [record.id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen[:2]) == ["open", "run6"]
    assert seen[2:] == [f"run{number}" for number in range(5, -1, -1)]
    page = await queries.executions(reader, clock.now_ms, state="pending")
    assert [record.id for record in page.records] == ["open"]
    page = await queries.executions(
        reader, clock.now_ms, prefix="run", created_until_ms=START_MS + 2000
    )
    assert [record.id for record in page.records] == ["run1", "run0"]
    page = await queries.children(reader, clock.now_ms, "run3")
    assert [record.id for record in page.records] == ["run3:0"]
    with pytest.raises(ValueError, match="state must be one of"):
        await queries.executions(reader, clock.now_ms, state="done")
    with pytest.raises(ValueError, match="cursor"):
        await queries.executions(reader, clock.now_ms, cursor="x")
    await reader.close()
