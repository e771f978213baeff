"""The life of a connection: loops, forks, closing, and the errors of its file."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import signal
import sqlite3
import stat
import threading
import traceback

import pytest
from resonate_base import ConnectorError, Network, Source
from store_support import Clock, ask, claim, envelope, fence, promise, settle

import store
from store import SqliteConnection, errors, schema
from store.clocks import ClockWatch
from store.syncing import Syncer

pytestmark = pytest.mark.unit


@pytest.fixture
async def connection(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db", clock=Clock())
    yield connection
    await connection.stop()


def test_it_is_a_network_and_a_source(tmp_path):
    connection = SqliteConnection(str(tmp_path / "a.db"), pid="me", group="workers")
    assert isinstance(connection, Network)
    assert isinstance(connection, Source)
    assert connection.unicast() == "poll://uni@workers/me"
    assert connection.resolve_target("other") == "poll://any@other"
    assert not (tmp_path / "a.db").exists()


def test_an_unknown_synchronous_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="normal"):
        SqliteConnection(tmp_path / "a.db", synchronous="off")


async def test_every_file_is_the_owners_alone(connection, tmp_path):
    await claim(connection, "p")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes) == {"a.db", "a.db-wal", "a.db-shm", "a.db-members"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "null", '"promise.get"', "{}", '{"kind":1,"head":{},"data":{}}'),
        *('{"kind":"promise.get"}', '{"kind":"promise.get","head":{"corrId":"c"}}'),
        '{"kind":"promise.get","head":{"corrId":7,"version":"2026-04-01"},"data":{"id":"a"}}',
        '{"kind":"promise.get","head":{"corrId":"c","version":"1999-01-01"},"data":{"id":"a"}}',
        '{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":[]}',
        '{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":{"id":null}}',
        '{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":{"id":"\\ud800"}}',
        '{"kind":"debug.snap","head":{"corrId":"c","version":"2026-04-01"},"data":{}}',
        "[" * 100_000,
    ],
)
async def test_whatever_arrives_is_answered_with_400_and_a_text(connection, text):
    answer = json.loads(await connection.send(text))
    assert answer["head"]["status"] == 400
    assert isinstance(answer["data"], str)


async def test_unknown_head_members_are_ignored(connection):
    head = {
        "corrId": "c",
        "version": "2026-04-01",
        "auth": "t",
        "resonate:origin": "a",
        "resonate:debug_time": 1,
    }
    text = json.dumps({"kind": "promise.get", "head": head, "data": {"id": "a"}})
    answer = json.loads(await connection.send(text, {"resonate:origin": "a"}))
    assert (answer["head"]["status"], answer["head"]["corrId"]) == (404, "c")


async def test_requests_at_once_share_transactions_and_get_their_own_answers(connection):
    await claim(connection, "w")
    commits = 0
    transact = connection._engine.transact

    def counted(calls):
        nonlocal commits
        commits += 1
        return transact(calls)

    connection._engine.transact = counted
    connection._lanes.clear()
    ids = [f"w:{number}" for number in range(300)]
    answers = await asyncio.gather(
        *(
            ask(connection, "task.fence", **fence("w", "promise.create", **promise(id_)))
            for id_ in ids
        )
    )
    assert [data["action"]["data"]["promise"]["id"] for _, data in answers] == ids
    assert commits < 60


async def test_one_bad_request_in_a_group_fails_alone(connection, monkeypatch):
    await claim(connection, "w")
    prepared = store.protocol.OPERATIONS["promise.get"]

    def explode(tx, data):
        if data.id == "bad":
            raise sqlite3.OperationalError("boom")
        return prepared.apply(tx, data)

    monkeypatch.setitem(store.protocol.OPERATIONS, "promise.get", prepared._replace(apply=explode))
    ids = ["w", "x", "bad", "w"]
    results = await asyncio.gather(
        *(ask(connection, "promise.get", id=id_) for id_ in ids), return_exceptions=True
    )
    assert [result[0] for result in (results[0], results[1], results[3])] == [200, 404, 200]
    assert isinstance(results[2], errors.StoreError)


async def test_a_caller_that_goes_away_disturbs_nobody(connection):
    await claim(connection, "w")
    asking = [asyncio.create_task(ask(connection, "promise.get", id="w")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    done = await asyncio.gather(*asking, return_exceptions=True)
    assert all(result[0] == 200 for result in done[1::2])


async def test_closing_with_requests_in_flight_answers_or_fails_each_of_them(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db")
    await connection.start()
    asking = [
        asyncio.create_task(ask(connection, "promise.create", **promise(f"p{number}")))
        for number in range(200)
    ]
    await asyncio.sleep(0)
    await connection.stop()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*asking, return_exceptions=True)
    acknowledged = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
    assert all(
        isinstance(result, store.ClosedError) for result in results if isinstance(result, Exception)
    )
    assert acknowledged
    again = SqliteConnection(tmp_path / "a.db")
    for number in acknowledged:
        assert (await ask(again, "promise.get", id=f"p{number}"))[0] == 200
    await again.stop()


@pytest.mark.parametrize("seed", range(12))
async def test_closing_at_any_moment_leaves_nothing_open(tmp_path, seed):
    """Also while the file is still being opened, by `start()` or by the first request."""
    rng = random.Random(seed)
    others = set(threading.enumerate())
    connection = SqliteConnection(
        tmp_path / "a.db", synchronous=rng.choice(["normal", "full"]), pid="closing"
    )
    starting = asyncio.create_task(connection.start()) if rng.random() < 0.5 else None
    if starting is not None and rng.random() < 0.5:
        await starting

    async def go(number: int) -> None:
        for turn in range(20):
            await ask(connection, "promise.create", **promise(f"p{number}.{turn}"))
            await ask(connection, "promise.search")
            await ask(connection, "promise.settle", **settle(f"p{number}.{turn}"))

    asking = [asyncio.create_task(go(number)) for number in range(rng.randint(1, 8))]
    for _ in range(rng.choice([0, 1, 3, 10, 50, 200])):
        await asyncio.sleep(0)
    await connection.stop()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*asking, *filter(None, [starting]), return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), store.ClosedError}
    with pytest.raises(store.ClosedError):
        await ask(connection, "promise.get", id="p")
    assert set(threading.enumerate()) - others <= {
        thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")
    }
    with sqlite3.connect(tmp_path / "a.db") as other:
        tables = other.execute("SELECT count(*) FROM sqlite_master WHERE name = 'members'")
        if tables.fetchone() == (1,):
            assert other.execute("SELECT count(*) FROM members").fetchone() == (0,)


async def test_a_stopped_connection_refuses_until_it_is_started_again(connection):
    await claim(connection, "p")
    await connection.stop()
    await connection.stop()
    with pytest.raises(store.ClosedError, match="start it again"):
        await ask(connection, "promise.get", id="p")
    await connection.start()
    assert (await ask(connection, "promise.get", id="p"))[0] == 200


def test_a_connection_serves_two_event_loops_at_once(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db")
    failures = []

    async def work(name):
        for number in range(100):
            status, _ = await ask(connection, "promise.create", **promise(f"{name}{number}"))
            assert status == 200

    def run(name):
        try:
            asyncio.run(work(name))
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def count():
        found = (await ask(connection, "promise.search", limit=1000))[1]["promises"]
        await connection.stop()
        return len(found)

    assert failures == []
    assert asyncio.run(count()) == 200


async def test_connections_of_one_process_do_not_end_each_others_life(tmp_path):
    path = tmp_path / "a.db"
    a, b = SqliteConnection(path, pid="a"), SqliteConnection(path, pid="b")
    await a.start()
    await b.start()
    await claim(a, "p")
    c = SqliteConnection(path, pid="c")
    await c.start()
    await c.stop()
    await b.tick()
    assert (await ask(b, "task.get", id="p"))[1]["task"]["state"] == "acquired"
    await a.stop()
    await b.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_forked_child_works_on_its_own_and_leaves_the_parent_alone(tmp_path):
    parent = SqliteConnection(tmp_path / "a.db", pid="parent")
    await parent.start()
    await claim(parent, "p")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.set_event_loop(None)
            asyncio.events._set_running_loop(None)

            async def work():
                assert (await ask(parent, "promise.get", id="p"))[0] == 200
                assert (await ask(parent, "promise.create", **promise("child")))[0] == 200
                await parent.stop()

            asyncio.run(work())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    async with asyncio.timeout(20):
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    other = SqliteConnection(tmp_path / "a.db", pid="other")
    await other.tick()
    task = (await ask(other, "task.get", id="p"))[1]["task"]
    assert (task["state"], task["version"]) == ("acquired", 1)
    assert (await ask(parent, "promise.get", id="child"))[0] == 200
    await other.stop()
    await parent.stop()


async def test_a_child_that_outlives_its_parent_does_not_keep_its_tasks(tmp_path):
    program = (
        "import asyncio, os, sys, time\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from store import SqliteConnection\n"
        "from store_support import claim\n"
        "async def main():\n"
        "    connection = SqliteConnection(sys.argv[1])\n"
        "    await connection.start()\n"
        "    await claim(connection, 'p')\n"
        "    if os.fork() == 0:\n"
        "        os.close(1)\n"
        "        time.sleep(30)\n"
        "        os._exit(0)\n"
        "    print('ready', flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    import sys
    from pathlib import Path

    here = Path(__file__).parent
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, tmp_path / "a.db", str(here), str(here.parents[1])),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert await process.stdout.readline() == b"ready\n"
    try:
        assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL
        other = SqliteConnection(tmp_path / "a.db")
        await other.start()
        task = (await ask(other, "task.get", id="p"))[1]["task"]
        assert (task["state"], task["version"]) == ("pending", 1)
        await other.stop()
    finally:
        os.killpg(process.pid, signal.SIGKILL)


async def refusal(path):
    before = path.read_bytes()
    connection = SqliteConnection(path)
    with pytest.raises(errors.StoreError) as raised:
        await connection.start()
    assert path.read_bytes() == before
    assert str(path) in str(raised.value)
    assert isinstance(raised.value, ConnectorError)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (type(copy), str(copy)) == (type(raised.value), str(raised.value))
    return raised.value


async def test_a_file_that_is_no_database_is_left_untouched(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("just some notes\n" * 500)
    error = await refusal(path)
    assert type(error) is store.ForeignFileError
    assert not error.transient


async def test_another_programs_database_is_left_untouched(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE promises (id)")
    assert type(await refusal(path)) is store.ForeignFileError


async def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "newer.db"
    schema.prepare(str(path))
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA journal_mode = DELETE")
        newer.execute("PRAGMA user_version = 99")
    error = await refusal(path)
    assert type(error) is store.NewerSchemaError
    assert "upgrade" in str(error)


async def test_an_older_schema_is_copied_and_then_migrated(tmp_path):
    path = tmp_path / "older.db"
    connection = SqliteConnection(path)
    await claim(connection, "p")
    await connection.stop()
    now = schema.VERSION
    migrations = {now: "CREATE TABLE added (x);", now + 1: "INSERT INTO added VALUES (3);"}
    schema.prepare(str(path), version=now + 2, migrations=migrations)
    with sqlite3.connect(path) as migrated:
        assert migrated.execute("SELECT x FROM added").fetchall() == [(3,)]
        assert migrated.execute("PRAGMA user_version").fetchone() == (now + 2,)
    copy = tmp_path / f"older.db.v{now}.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (now,)
        assert old.execute("SELECT id FROM promises").fetchall() == [("p",)]


async def test_a_migration_that_fails_leaves_the_old_schema(tmp_path):
    path = tmp_path / "older.db"
    schema.prepare(str(path))
    now = schema.VERSION
    migrations = {now: "CREATE TABLE added (x); INSERT INTO nowhere VALUES (1);"}
    with pytest.raises(errors.StoreError):
        schema.prepare(str(path), version=now + 1, migrations=migrations)
    with sqlite3.connect(path) as unchanged:
        assert unchanged.execute("PRAGMA user_version").fetchone() == (now,)
        tables = unchanged.execute("SELECT name FROM sqlite_schema WHERE name = 'added'")
        assert tables.fetchall() == []


async def test_a_write_lock_held_by_another_is_waited_for_asleep(connection, tmp_path):
    await claim(connection, "p")
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    asking = asyncio.create_task(ask(connection, "promise.settle", **settle("p")))
    longest, last = 0.0, asyncio.get_running_loop().time()
    for _ in range(100):
        await asyncio.sleep(0.001)
        now = asyncio.get_running_loop().time()
        longest, last = max(longest, now - last), now
    assert not asking.done()
    holder.execute("COMMIT")
    holder.close()
    assert (await asyncio.wait_for(asking, 5))[0] == 200
    assert longest < 0.1, "the loop was blocked while waiting"


async def test_a_write_lock_that_is_never_given_up_is_an_error(connection, tmp_path, monkeypatch):
    monkeypatch.setattr("store.lanes.LOCK_WAIT_S", 0.2)
    await claim(connection, "p")
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(store.LockedError) as raised:
        await ask(connection, "promise.settle", **settle("p"))
    assert raised.value.transient
    holder.execute("COMMIT")
    holder.close()
    assert (await ask(connection, "promise.settle", **settle("p")))[0] == 200


async def test_full_synchronous_syncs_once_for_a_step(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db", synchronous="full")
    await claim(connection, "w")
    before = connection._syncer.syncs
    for number in range(20):
        created = fence("w", "promise.create", **promise(f"w:{number}", origin="w", branch="w"))
        await ask(connection, "task.fence", **created)
        await ask(connection, "task.fence", **fence("w", "promise.settle", **settle(f"w:{number}")))
    assert connection._syncer.syncs - before == 20
    await connection.stop()


QUICK_S, SLOW_S = 0.0002, 0.02


@pytest.mark.parametrize(
    ("sync_s", "by_the_loop"),
    [
        pytest.param([QUICK_S] * 90, 60, id="quick"),
        pytest.param([SLOW_S] * 90, 0, id="slow"),
        pytest.param([QUICK_S] * 80 + [SLOW_S] + [QUICK_S] * 9, 51, id="a hiccup"),
    ],
)
async def test_only_a_quick_disk_is_synced_by_the_loop_itself(
    tmp_path, monkeypatch, sync_s, by_the_loop
):
    now_s, ours, durations = 0.0, 0, iter(sync_s)

    def sync(descriptor):
        nonlocal now_s, ours
        now_s += next(durations)
        ours += threading.current_thread() is threading.main_thread()

    monkeypatch.setattr("store.syncing._sync_data", sync)
    (tmp_path / "log").touch()
    syncer = Syncer(str(tmp_path / "log"), lambda: now_s)
    for _ in range(30):  # whether the disk is quick is learnt from the first
        await syncer.sync()
    for _ in range(60):
        if not syncer.at_once():
            await syncer.sync()
    assert (syncer.syncs, ours) == (90, by_the_loop)
    syncer.close()


async def test_the_log_of_full_synchronous_has_its_size_from_the_start(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db", synchronous="full")
    await claim(connection, "w")
    reserved = (tmp_path / "a.db-wal").stat().st_size
    assert reserved >= 4 << 20
    for number in range(50):
        await ask(connection, "promise.create", **promise(f"p{number}"))
    assert (tmp_path / "a.db-wal").stat().st_size == reserved
    await connection.stop()


async def test_requests_at_once_share_a_sync(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db", synchronous="full")
    await claim(connection, "w")
    before = connection._syncer.syncs
    created = [ask(connection, "promise.create", **promise(f"p{number}")) for number in range(200)]
    assert {status for status, _ in await asyncio.gather(*created)} == {200}
    assert connection._syncer.syncs - before < 60
    await connection.stop()


def test_a_clock_counts_as_running_only_when_it_keeps_pace_with_real_time():
    real = [0]
    shown = [1_000_000]
    watch = ClockWatch(lambda: shown[0], lambda: real[0])
    for _ in range(50):
        real[0] += 60_000_000
        assert not watch.observe()
    for step in (10, 500, 60, 7000, 59, 60, 60, 61, 2):
        real[0] += 60_000_000
        shown[0] += step
        assert not watch.observe()
    for _ in range(6):
        real[0] += 60_000_000
        shown[0] += 60
        watch.observe()
    assert watch.runs


async def test_the_log_stays_bounded_under_continuous_writing(tmp_path, monkeypatch):
    monkeypatch.setattr("store.checkpoints.COPY_BYTES", 1 << 18)
    monkeypatch.setattr("store.checkpoints.RESTART_BYTES", 1 << 19)
    connection = SqliteConnection(tmp_path / "a.db")
    await connection.start()
    largest = 0
    for number in range(3000):
        await ask(connection, "promise.create", **promise(f"p{number}"))
        if number % 50 == 0:
            largest = max(largest, (tmp_path / "a.db-wal").stat().st_size)
            await asyncio.sleep(0.002)
    await connection.stop()
    assert largest < 1 << 23, "half of what was written, on the slowest disk"


async def test_requests_are_plain_texts_with_any_characters(connection):
    odd = 'ü"\\\n\u2028🎈' + "x" * 5000
    status, data = await ask(connection, "promise.create", **promise(odd, a=odd))
    assert status == 200
    assert data["promise"]["id"] == odd
    assert data["promise"]["tags"]["resonate:a"] == odd
    status, data = await ask(connection, "promise.search", tags={"resonate:a": odd})
    assert [found["id"] for found in data["promises"]] == [odd]


async def test_an_envelope_is_echoed(connection):
    text = envelope("promise.get", {"id": "x"})
    answer = json.loads(await connection.send(text))
    assert answer["head"]["corrId"] == json.loads(text)["head"]["corrId"]
    assert answer["head"]["version"] == "2026-04-01"


async def test_a_heartbeat_of_a_version_no_task_can_have_is_refused(connection):
    for version in (1 << 63, 1 << 200):
        tasks = [{"id": "c", "version": version}]
        status, why = await ask(connection, "task.heartbeat", pid="p", tasks=tasks)
        assert (status, "version" in why) == (400, True)
