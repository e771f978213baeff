"""Opening files of other versions: what is refused, what is migrated, what is left beside them."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_support import FAR_MS, START_MS, Clock, ask, claim, fence, promise, settle
from store_versions import TO_VERSION_1

import store
from store import SqliteConnection, errors, schema

pytestmark = pytest.mark.unit

#: A next version such as a release may bring: a column with a value for old rows, an index.
FIRST = schema.VERSION
MIGRATIONS = {
    FIRST: """
    ALTER TABLE promises ADD COLUMN colour TEXT NOT NULL DEFAULT 'red; or blue';
    CREATE INDEX promises_colour ON promises (colour) WHERE state = 0;
    """,
    FIRST + 1: "UPDATE promises SET colour = id;",
}

WRITES_AND_IS_KILLED = """
    import asyncio, os, signal, sys
    from store import SqliteConnection
    from store_support import ask, promise

    async def main():
        connection = SqliteConnection(sys.argv[1])
        for number in range(300):
            status, _ = await ask(connection, "promise.create", **promise(f"p{number:03}"))
            assert status == 200
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def version(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def write_and_kill(path):
    """Leave a file whose latest commits are in its log alone, as a killed process does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = textwrap.dedent(WRITES_AND_IS_KILLED)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-wal").stat().st_size > 0


async def test_a_refused_file_in_use_mode_gets_nothing_beside_it(tmp_path):
    path = tmp_path / "newer.db"
    schema.prepare(str(path))
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    assert names(tmp_path) == ["newer.db"]
    before = path.read_bytes()
    assert before[18] == 2, "the file is in WAL mode"
    with pytest.raises(store.NewerSchemaError):
        await SqliteConnection(path).start()
    assert names(tmp_path) == ["newer.db"]
    assert path.read_bytes() == before


async def test_another_programs_file_in_wal_mode_gets_nothing_beside_it(tmp_path):
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE promises (id)")
    other.commit()
    other.close()
    with pytest.raises(store.ForeignFileError):
        await SqliteConnection(path).start()
    assert names(tmp_path) == ["other.db"]


async def test_a_newer_version_that_is_only_in_the_log_is_seen(tmp_path):
    path = tmp_path / "newer.db"
    schema.prepare(str(path))
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    with pytest.raises(store.NewerSchemaError):
        await SqliteConnection(path).start()
    newer.close()


async def test_a_file_behind_a_link_is_looked_at_with_its_log(tmp_path):
    path = tmp_path / "newer.db"
    schema.prepare(str(path))
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    with pytest.raises(store.NewerSchemaError):
        await SqliteConnection(link).start()
    newer.close()


def test_what_a_killed_process_wrote_is_in_the_copy_and_in_the_migrated_file(tmp_path):
    path = tmp_path / "a.db"
    write_and_kill(path)
    schema.prepare(str(path), version=FIRST + 2, migrations=MIGRATIONS)
    with sqlite3.connect(path) as migrated:
        rows = migrated.execute("SELECT id, colour FROM promises").fetchall()
    assert rows == [(f"p{number:03}", f"p{number:03}") for number in range(300)]
    copy = tmp_path / f"a.db.v{FIRST}.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert version(copy) == FIRST
    with sqlite3.connect(copy) as old:
        assert old.execute("SELECT count(*) FROM promises").fetchone() == (300,)
        columns = [row[1] for row in old.execute("PRAGMA table_info(promises)")]
    assert "colour" not in columns


async def test_work_goes_on_in_a_migrated_file(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    connection = SqliteConnection(path)
    await claim(connection, "run")
    created = fence("run", "promise.create", **promise("run:1", origin="run", branch="run"))
    assert (await ask(connection, "task.fence", **created))[0] == 200
    await connection.stop()
    migrations = {FIRST: "CREATE TABLE colours (id TEXT PRIMARY KEY);"}
    monkeypatch.setattr(
        schema.prepare, "__kwdefaults__", {"version": FIRST + 1, "migrations": migrations}
    )
    connection = SqliteConnection(path)
    settled = fence("run", "promise.settle", **settle("run:1"))
    assert (await ask(connection, "task.acquire", id="run", version=1, pid="w", ttl=1000))[0] == 200
    settled["version"] = 2
    assert (await ask(connection, "task.fence", **settled))[0] == 200
    assert await connection.integrity_check() == []
    await connection.stop()
    assert version(path) == FIRST + 1
    assert version(tmp_path / f"a.db.v{FIRST}.bak") == FIRST


def test_of_many_that_open_an_old_file_at_once_one_migrates_it(tmp_path):
    """The copy is of the old version, whoever comes second."""
    path = tmp_path / "a.db"
    write_and_kill(path)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda _: schema.prepare(str(path), version=FIRST + 2, migrations=MIGRATIONS),
                range(24),
            )
        )
    assert version(path) == FIRST + 2
    assert version(tmp_path / f"a.db.v{FIRST}.bak") == FIRST


def test_a_migration_that_fails_changes_nothing_and_can_be_tried_again(tmp_path):
    path = tmp_path / "a.db"
    write_and_kill(path)
    broken = {
        **MIGRATIONS,
        FIRST + 1: "UPDATE promises SET colour = id; INSERT INTO nowhere VALUES (1);",
    }
    with pytest.raises(errors.StoreError, match=r"a\.db.*nowhere"):
        schema.prepare(str(path), version=FIRST + 2, migrations=broken)
    assert version(path) == FIRST
    with sqlite3.connect(path) as unchanged:
        columns = [row[1] for row in unchanged.execute("PRAGMA table_info(promises)")]
    assert "colour" not in columns
    schema.prepare(str(path), version=FIRST + 2, migrations=MIGRATIONS)
    assert version(path) == FIRST + 2


def test_a_copy_that_cannot_be_written_stops_the_migration(tmp_path):
    path = tmp_path / "a.db"
    schema.prepare(str(path))
    (tmp_path / f"a.db.v{FIRST}.bak").mkdir()
    (tmp_path / f"a.db.v{FIRST}.bak" / "keep").touch()
    with pytest.raises(errors.StoreError):
        schema.prepare(str(path), version=FIRST + 2, migrations=MIGRATIONS)
    assert version(path) == FIRST
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


async def test_a_directory_is_named_as_one(tmp_path):
    path = tmp_path / "a.db"
    path.mkdir()
    with pytest.raises(store.UnwritableError, match=r"a\.db.*directory"):
        await SqliteConnection(path).start()


async def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    path = tmp_path / "a.db"
    os.mkfifo(path)
    with pytest.raises(store.ForeignFileError, match=r"a\.db.*pipe"):
        await SqliteConnection(path).start()


async def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    path = tmp_path / "a.db"
    path.symlink_to(tmp_path / "missing" / "b.db")
    with pytest.raises(store.UnwritableError, match=r"a\.db"):
        await SqliteConnection(path).start()
    assert names(tmp_path) == ["a.db"]


async def test_a_file_that_another_has_to_itself_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    """Whoever closes a file last folds its log away, and keeps others out meanwhile."""
    prepare = schema.prepare

    def prepare_and_be_overtaken(path):
        prepare(path)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(0.3, other.close).start()

    monkeypatch.setattr(schema, "prepare", prepare_and_be_overtaken)
    connection = SqliteConnection(tmp_path / "a.db")
    status, _ = await ask(connection, "promise.create", **promise("p"))
    assert status == 200
    await connection.stop()


async def test_a_file_is_opened_while_the_last_who_has_it_open_closes_it(tmp_path):
    """Whoever closes a file last folds its log away, and keeps others out meanwhile."""

    async def open_and_close(name):
        for number in range(25):
            connection = SqliteConnection(tmp_path / "a.db", pid=name)
            status, _ = await ask(connection, "promise.create", **promise(f"{name}{number}"))
            assert status == 200
            await connection.stop()

    await asyncio.gather(*(open_and_close(name) for name in "abcd"))


async def test_a_file_of_version_1_keeps_every_promise_and_its_deadline(tmp_path):
    path, clock = tmp_path / "a.db", Clock()
    connection = SqliteConnection(path, clock=clock)
    await claim(connection, "run")
    await ask(connection, "promise.create", **promise("plain", START_MS + 50))
    for number, timeout_at in ((1, START_MS + 50), (2, START_MS + 10**9), (3, FAR_MS)):
        given = promise(f"run:{number}", timeout_at, origin="run", branch="run", parent="run")
        created = await ask(connection, "task.fence", **fence("run", "promise.create", **given))
        assert created[0] == 200
    await ask(connection, "task.fence", **fence("run", "promise.settle", **settle("run:3")))
    before = (await ask(connection, "promise.search"))[1]
    await connection.stop()
    with sqlite3.connect(path) as older:
        older.executescript(TO_VERSION_1)
    older.close()
    connection = SqliteConnection(path, clock=clock)
    assert (await ask(connection, "promise.search"))[1] == before
    assert version(tmp_path / "a.db.v1.bak") == 1
    clock.now_ms += 50
    assert await ids(connection, "rejected_timedout") == ["plain", "run:1"]
    assert await ids(connection, "pending") == ["run", "run:2"]
    await connection.tick()
    assert await ids(connection, "rejected_timedout") == ["plain", "run:1"]
    await ask(connection, "task.acquire", id="run", version=1, pid="w", ttl=1000)
    await ask(connection, "task.fence", **fence("run", "promise.settle", 2, **settle("run:2")))
    assert await ids(connection, "resolved") == ["run:2", "run:3"]
    assert await connection.integrity_check() == []
    await connection.stop()


async def ids(connection, state):
    page = (await ask(connection, "promise.search", state=state))[1]
    return [record["id"] for record in page["promises"]]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_at_once(tmp_path, monkeypatch, number):
    def refuse(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(schema.fcntl, "lockf", refuse)
    with pytest.raises(store.UnwritableError, match=r"a\.db.*locks.*local disk"):
        schema.prepare(str(tmp_path / "a.db"))
    assert names(tmp_path) == []
