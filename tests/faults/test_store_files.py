"""Files that are full, foreign, damaged, locked, read-only or gone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Self

import pytest
from processes import running, sandbox
from programs.peer import Peer
from resonate_base import ConnectorError

from store.connection import LIVENESS_S

pytestmark = pytest.mark.faults

LOOP_STALL_S = 0.5
BOUNDED_WAL_BYTES = 32_000_000
"""The WAL must come back under this by itself once no reader holds it."""


def content(path: Path) -> dict[str, str]:
    """Digest of every file beside the database, itself included."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.parent.iterdir())
    }


async def filled(path: Path, count: int = 50) -> None:
    async with Peer(str(path), "p1") as peer:
        for number in range(count):
            assert await peer.create(f"a:{number}", target=True) == 200


def assert_names_file_and_remedy(error: BaseException, path: Path) -> None:
    assert isinstance(error, ConnectorError)
    assert type(error) is not ConnectorError, "a subclass says which failure it was"
    assert str(path) in str(error)
    assert len(str(error)) > len(str(path)) + 30, "it says what to do"


async def refusal(path: Path) -> ConnectorError:
    """The error that opening the file, or its first request, raises."""
    peer = Peer(str(path), "p1")
    with pytest.raises(ConnectorError) as raised:
        try:
            await peer.connection.start()
            await peer.create("b")
        finally:
            await peer.connection.stop()
    return raised.value


@pytest.mark.parametrize("limit", ["disk", "fsize"])
async def test_a_full_disk_is_reported_loses_nothing_and_passes(tmp_path, limit):
    prefix: list[str] = []
    if limit == "disk":
        prefix = sandbox(f"mount -t tmpfs -o size=24m tmpfs {tmp_path}") or []
        if not prefix:
            pytest.skip("this system lets the test mount no file system of its own")
    async with running("full_disk.py", tmp_path, limit, prefix=prefix) as program:
        said = await program.hear("written", 120)
    assert said["written"] > 5
    assert str(tmp_path / "full.db") in said["text"]
    assert said["error"] not in ("ConnectorError", "")
    assert said["readable"], "reading goes on while the disk is full"
    assert said["after"] == [200, 200], "work goes on when there is room again"
    assert said["lost"] == []
    assert said["half"] == []


@pytest.mark.parametrize("existing", [True, False])
async def test_a_read_only_directory_is_reported(tmp_path, existing):
    directory = tmp_path / "media"
    directory.mkdir()
    source = tmp_path / "source"
    source.mkdir()
    if existing:
        await filled(source / "ro.db", 3)
    bind = f"mount --bind {source} {directory}; mount -o remount,bind,ro {directory}"
    prefix = sandbox(bind)
    if prefix is None:
        pytest.skip("this system lets the test mount no file system of its own")
    async with running("read_only.py", directory / "ro.db", prefix=prefix) as program:
        said = await program.hear("at")
    assert "error" in said, said
    assert said["error"] != "ConnectorError"
    assert str(directory) in said["text"]


async def test_a_missing_directory_is_reported_by_name(tmp_path):
    path = tmp_path / "nowhere" / "a.db"
    assert_names_file_and_remedy(await refusal(path), path.parent)


async def test_a_deleted_file_is_noticed_before_anything_more_is_acknowledged(tmp_path):
    path = tmp_path / "deleted.db"
    async with Peer(str(path), "p1") as peer:
        assert await peer.create("a") == 200
        for file in tmp_path.iterdir():
            if file.name.startswith("deleted.db"):
                file.unlink()
        with pytest.raises(ConnectorError) as raised:
            await peer.create("b")
    assert_names_file_and_remedy(raised.value, path)
    async with Peer(str(path), "p2") as peer:
        assert await peer.create("c") == 200


async def test_a_replaced_file_is_noticed_before_anything_more_is_acknowledged(tmp_path):
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    await filled(other, 2)
    async with Peer(str(path), "p1") as peer:
        assert await peer.create("a") == 200
        other.replace(path)
        with pytest.raises(ConnectorError) as raised:
            await peer.create("b")
    assert_names_file_and_remedy(raised.value, path)


async def test_an_emptied_file_is_noticed_before_anything_more_is_acknowledged(tmp_path):
    path = tmp_path / "a.db"
    async with Peer(str(path), "p1") as peer:
        assert await peer.create("a") == 200
        os.truncate(path, 0)
        with pytest.raises(ConnectorError) as raised:
            await peer.create("b", external=True)
        assert_names_file_and_remedy(raised.value, path)
        await asyncio.sleep(2 * LIVENESS_S)
        with pytest.raises(ConnectorError):
            await peer.create("c")


async def test_a_file_that_was_moved_away_takes_no_more_writes_until_it_is_back(tmp_path):
    path, elsewhere = tmp_path / "a.db", tmp_path / "b.db"
    async with Peer(str(path), "p1") as peer:
        assert await peer.create("a") == 200
        await asyncio.sleep(2 * LIVENESS_S)
        path.rename(elsewhere)
        await asyncio.sleep(2 * LIVENESS_S)
        with pytest.raises(ConnectorError) as raised:
            await peer.create("b")
        assert_names_file_and_remedy(raised.value, path)
        elsewhere.rename(path)
        await asyncio.sleep(2 * LIVENESS_S)
        assert await peer.create("b") == 200


@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_a_file_behind_a_link_is_as_good_as_any(tmp_path, monkeypatch, synchronous):
    monkeypatch.setattr("store.checkpoints.COPY_BYTES", 1 << 16)
    monkeypatch.setattr("store.checkpoints.RESTART_BYTES", 1 << 17)
    monkeypatch.setattr("store.checkpoints.TRUNCATE_BYTES", 1 << 18)
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.db", tmp_path / "link.db"
    link.symlink_to(real)
    async with Peer(str(link), "p1", synchronous=synchronous) as peer:
        log = tmp_path / "real" / "a.db-wal"
        for number in range(500):
            assert await peer.create(f"a:{number}", target=True) == 200
        async with asyncio.timeout(10):
            while log.stat().st_size > 1 << 20:  # it is cut once the thread gets its turn
                await peer.create(f"b:{log.stat().st_size}:{time.monotonic_ns()}")
                await asyncio.sleep(0.01)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.db", "real"]


def tear_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def tear_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(100))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


@pytest.mark.parametrize("damage", [tear_page, tear_header, truncate])
async def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path, damage):
    path = tmp_path / "damaged.db"
    await filled(path)
    damage(path)
    before = content(path)
    assert_names_file_and_remedy(await refusal(path), path)
    assert content(path)["damaged.db"] == before["damaged.db"]


async def test_a_text_file_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("buy milk\n" * 1_000)
    before = content(path)
    assert_names_file_and_remedy(await refusal(path), path)
    assert content(path) == before


@pytest.mark.parametrize("version", [0, 1])
async def test_another_program_s_database_is_refused_and_left_as_it_is(tmp_path, version):
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE promises (id TEXT PRIMARY KEY, broken INTEGER)")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    before = content(path)
    assert_names_file_and_remedy(await refusal(path), path)
    assert content(path) == before


async def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "newer.db"
    await filled(path)
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    assert version > 0
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.close()
    before = content(path)
    error = await refusal(path)
    assert_names_file_and_remedy(error, path)
    assert str(version + 1) in str(error)
    assert content(path)["newer.db"] == before["newer.db"]


async def test_files_are_readable_by_their_owner_alone(tmp_path):
    path = tmp_path / "mine.db"
    async with Peer(str(path), "p1") as peer:
        await peer.create("a")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes["mine.db"] == 0o600
    assert set(modes.values()) == {0o600}


class Ticker:
    """Measures the event loop's longest stall."""

    async def __aenter__(self) -> Self:
        self.longest_s = 0.0
        self._task = asyncio.create_task(self._tick())
        return self

    async def _tick(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


@pytest.mark.parametrize("held_s", [1.0, pytest.param(15.0, marks=pytest.mark.slow)])
async def test_a_locked_database_is_waited_for_without_blocking_the_loop(tmp_path, held_s):
    path = tmp_path / "locked.db"
    async with Peer(str(path), "p1") as peer:
        await peer.create("before")
        async with running("keeper.py", path, "write", held_s) as keeper:
            await keeper.hear("held")
            async with Ticker() as ticker:
                try:
                    status = await asyncio.wait_for(peer.create("during"), held_s + 30)
                except ConnectorError as error:
                    assert_names_file_and_remedy(error, path)
                    status = 0
            assert ticker.longest_s < LOOP_STALL_S
            await keeper.process.wait()
        assert await peer.create("after") == 200
        expected = 200 if status == 200 else 404
        assert (await peer.ask("promise.get", id="during"))[0] == expected


@pytest.mark.parametrize(
    "held_s", [2.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
async def test_a_reader_that_holds_its_transaction_stops_no_writer(tmp_path, held_s):
    path = tmp_path / "read.db"
    wal = tmp_path / "read.db-wal"
    async with Peer(str(path), "p1") as peer:
        await peer.create("before")
        async with running("keeper.py", path, "read", held_s) as keeper:
            await keeper.hear("held")
            written, until = 0, time.monotonic() + held_s - 0.5
            async with Ticker() as ticker:
                while time.monotonic() < until:
                    assert await peer.create(f"during:{written}", note="x" * 500) == 200
                    written += 1
                    if held_s > 10:
                        await asyncio.sleep(0.002)
            held_bytes = wal.stat().st_size
            await keeper.process.wait()
        number = 0
        async with asyncio.timeout(30):
            while wal.stat().st_size > BOUNDED_WAL_BYTES:
                number += 1
                assert await peer.create(f"after:{number}", note="x" * 500) == 200
                await asyncio.sleep(0.002)
        status, _ = await peer.ask("promise.get", id=f"during:{written - 1}")
    print(
        f"{written} writes, WAL {held_bytes} bytes, stall {ticker.longest_s:.3f} s, bounded", end=""
    )
    print(f" again {number} writes after the reader left")
    assert status == 200
    assert written > 100
    assert ticker.longest_s < LOOP_STALL_S
