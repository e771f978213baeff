"""What executions return and raise comes back with its type, in every later process."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import stat
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.errors import DurableError, ForeignPayloadError, UnserializableValueError

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class QuotaError(Exception):
    def __init__(self, limit: int, *, who: str) -> None:
        super().__init__(f"{who} is over {limit}")
        self.limit = limit
        self.who = who


VALUES: dict[str, Any] = {
    "none": None,
    "json": {"a": [1, 2.5, "x", None, True], "b": {}},
    "point": Point(1, 2),
    "time": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "set": {1, 2, 3},
    "tuple": (1, (2, "x")),
    "bytes": b"\x00\xff",
    "decimal": Decimal("1.10"),
    "delta": timedelta(days=1, microseconds=1),
    "path": Path("/etc/hosts"),
    "nested": {"points": [Point(1, 2)], "when": {datetime(2025, 1, 1, tzinfo=UTC)}},
    "big": 2**200,
    "keys": {1: "int", (1, 2): "tuple"},
    "complex": 1 + 2j,
}


def make(path: Path, **options: Any) -> Durable:
    app = Durable(path / "runs.db", **options)

    @app.register
    async def give(ctx: Any, name: str) -> Any:
        return VALUES[name]

    @app.register
    async def through_a_step(ctx: Any, name: str) -> Any:
        return [await ctx.run(lambda: VALUES[name]), await ctx.run(lambda v: v, VALUES[name])]

    @app.register
    async def echo(ctx: Any, value: Any) -> Any:
        return value

    @app.register
    async def over_quota(ctx: Any) -> None:
        raise QuotaError(5, who="anna")

    @app.register
    async def lock(ctx: Any) -> Any:
        return {"rows": [1, {"lock": threading.Lock()}]}

    @app.register
    async def lock_from_a_step(ctx: Any) -> str:
        try:
            await ctx.run(threading.Lock)
        except UnserializableValueError as error:
            return str(error)
        return "stored"

    return app


@pytest.mark.parametrize("name", VALUES)
async def test_values_come_back_with_their_types_in_every_process(
    tmp_path: Path, name: str
) -> None:
    value = VALUES[name]
    for _ in range(2):
        async with make(tmp_path) as app:
            for result in (
                await app.run("a", "give", name),
                await app.run("b", "echo", value),
                *await app.run("c", "through_a_step", name),
                (await app.execution("a")).result,
            ):
                assert result == value
                assert type(result) is type(value)


async def test_plain_json_is_stored_as_readable_json(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        await app.run("a", "give", "json")
        assert (await app.execution("a")).result == VALUES["json"]
    files = b"".join(p.read_bytes() for p in tmp_path.glob("runs.db*") if p.suffix != ".key")
    assert files
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_data_frames_and_models_round_trip(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    VALUES["frame"] = frame
    try:
        async with make(tmp_path) as app:
            await app.run("f", "give", "frame")
        async with make(tmp_path) as app:
            assert frame.equals(await app.get("f"))
    finally:
        del VALUES["frame"]


async def test_exceptions_keep_type_attributes_notes_and_cause(tmp_path: Path) -> None:
    app = make(tmp_path)

    @app.register
    async def chained(ctx: Any) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            outer = QuotaError(1, who="bo")
            outer.add_note("a note of the user's")
            raise outer from error

    async with app:
        with pytest.raises(QuotaError):
            await app.run("a", "over_quota")
        with pytest.raises(QuotaError):
            await app.run("b", chained)
    async with make(tmp_path) as app:
        with pytest.raises(QuotaError) as caught:
            await app.get("a")
        assert (caught.value.limit, caught.value.who) == (5, "anna")
        assert "Execution ID: a" in caught.value.__notes__
        with pytest.raises(QuotaError) as caught:
            await app.get("b")
        assert isinstance(caught.value.__cause__, KeyError)
        assert "a note of the user's" in caught.value.__notes__
        record = await app.execution("b")
        assert "a note of the user's" in record.notes
        assert record.error_text is not None
        assert "QuotaError: bo is over 1" in record.error_text
        assert isinstance(record.error, QuotaError)
        assert "raise outer from error" in record.traceback_text


SOURCE = """
class OwnError(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code

def fails(code):
    raise OwnError(code)

try:
    await ctx.run(fails, 1)
    seen = None
except OwnError as error:
    seen = error.code
if final:
    raise OwnError(2)
await ctx.sleep(0.1)
seen
"""


async def test_an_exception_class_of_the_source_is_caught_by_its_class_on_replay(
    tmp_path: Path,
) -> None:
    from durable.testing import crash_once

    source = "final = False\n" + SOURCE

    def app_of(intercept: Any = None) -> Durable:
        return make(tmp_path, intercept=intercept)

    # Dies once the failed step is recorded, in the sleep after it.
    assert await crash_once(app_of, lambda app: app.run_source("s", source), 4)
    async with app_of() as app:
        assert await app.run_source("s", source) == 1


async def test_an_exception_class_of_the_source_reaches_a_later_process(tmp_path: Path) -> None:
    source = "final = True\n" + SOURCE
    async with make(tmp_path) as app:
        with pytest.raises(Exception, match="code 2"):
            await app.run_source("s", source)
    async with make(tmp_path) as app:
        with pytest.raises(Exception, match="code 2") as caught:
            await app.get("s")
        assert type(caught.value).__name__ == "OwnError"
        assert caught.value.code == 2  # type: ignore[attr-defined]
        assert any("Execution ID: s" in note for note in caught.value.__notes__)
        assert any("Execution ID: s" in note for note in (await app.execution("s")).notes)


async def test_what_nothing_can_store_rejects_with_its_type_and_place(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(UnserializableValueError) as caught:
            await asyncio.wait_for(app.run("a", "lock").result(), 10)
        text = str(caught.value)
        assert "lock" in text.lower()
        assert '["rows"][1]["lock"]' in text
        assert "execution a" in text
        assert (await app.execution("a")).state == "rejected"
        told = await app.run("b", "lock_from_a_step")
        assert "step" in told
        assert "of b" in told
    async with make(tmp_path) as app:  # it is over, and not taken again and again
        with pytest.raises(UnserializableValueError):
            await app.get("a")


async def test_a_foreign_or_changed_payload_is_never_loaded(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        await app.run("a", "give", "point")
        await app.run("p", "give", "json")
    (tmp_path / "runs.db.key").unlink()  # another installation has another key
    async with make(tmp_path) as app:
        assert await app.get("p") == VALUES["json"]
        with pytest.raises(ForeignPayloadError):
            await app.get("a")
        record = await app.execution("a")
        assert record.state == "resolved"
        with pytest.raises(ForeignPayloadError):
            _ = record.result
    assert issubclass(ForeignPayloadError, DurableError)


# -- encryption -------------------------------------------------------------------


class Scramble:
    """A stand-in for a real cipher: reversible, keyed, and it notices a wrong key."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def _turn(self, data: bytes) -> bytes:
        return bytes(b ^ self.key[i % len(self.key)] for i, b in enumerate(data))

    def encrypt(self, data: bytes) -> bytes:
        return self._turn(b"MAGIC" + data)

    def decrypt(self, data: bytes) -> bytes:
        plain = self._turn(data)
        if not plain.startswith(b"MAGIC"):
            raise ValueError("wrong key")
        return plain[5:]


async def test_encrypted_payloads_round_trip_and_nothing_is_readable_in_the_file(
    tmp_path: Path,
) -> None:
    secret = "attack-at-dawn"

    async def think(ctx: Any, what: str) -> str:
        async def step(text: str) -> str:
            return f"{text}!"

        return await ctx.run(step, what)

    def app_of(key: bytes | None) -> Durable:
        encryptor = None if key is None else Scramble(key)
        app = Durable(tmp_path / "runs.db", encryptor=encryptor)
        app.register(think)
        return app

    async with app_of(b"right key") as app:
        assert await app.run("x", think, secret) == f"{secret}!"
        assert await app.run_source("s", f"{secret!r} + '?'") == f"{secret}?"
    async with app_of(b"right key") as app:
        assert await app.get("x") == f"{secret}!"
        assert (await app.execution("x")).args == (secret,)
    stored = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.name != "runs.db.key")
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        rows = connection.execute("SELECT param, value FROM promises").fetchall()
    connection.close()
    assert rows
    for shape in (secret, json.dumps(secret), "think"):
        assert shape.encode() not in stored
        assert base64.b64encode(shape.encode())[:-4] not in stored
    for key in (b"wrong", None):
        async with app_of(key) as app:
            with pytest.raises(DurableError):
                await asyncio.wait_for(app.get("x").result(), 10)
            with pytest.raises(DurableError):
                await app.execution("x")
