"""Replay runs recorded code against its record: it writes nothing and executes no step."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tenacity

from durable import Durable
from durable.errors import (
    InvalidArgumentError,
    NotRegisteredError,
    ReplayDivergenceError,
    UnknownExecutionError,
)
from durable.histories import load_history, read_history, write_history
from durable.testing import crash_once, replay, replay_all

pytestmark = pytest.mark.integration

EXECUTED: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_executed() -> None:
    EXECUTED.clear()


async def fetch(url: str) -> str:
    EXECUTED.append(url)
    return f"page of {url}"


async def fetch_anew(url: str) -> str:
    EXECUTED.append(url)
    return f"page of {url}"


async def parse(page: str) -> int:
    EXECUTED.append(page)
    return len(page)


async def crawl(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch, f"u{i}") for i in range(n)))
    return [await ctx.run(parse, page) for page in pages]


def app_of(path: Path, function: Callable[..., Any] = crawl, **options: Any) -> Durable:
    app = Durable(path / "runs.db", **options)
    app.register(function, name="crawl")
    return app


async def recorded(path: Path, function: Callable[..., Any] = crawl, *args: Any) -> None:
    async with app_of(path, function) as app:
        await app.run("x", "crawl", *(args or (2,)))
    EXECUTED.clear()


def fingerprint(path: Path) -> tuple[str, list[Any]]:
    """The file's bytes and everything that is in it."""
    database = path / "runs.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type='table' ORDER BY name"
            ).fetchall()
        ]
    connection.close()
    return hashlib.sha256(database.read_bytes()).hexdigest(), rows


# -- identical --------------------------------------------------------------------


async def test_unchanged_code_is_identical_and_nothing_is_written_or_executed(
    tmp_path: Path,
) -> None:
    await recorded(tmp_path)
    before = fingerprint(tmp_path)
    report = await replay(app_of(tmp_path), "x")
    assert report.identical
    assert bool(report) is True
    assert report.complete
    assert report.steps == 4
    assert str(report) == "x (crawl): identical, 4 steps"
    assert str(msgspec.structs.replace(report, steps=1)) == "x (crawl): identical, 1 step"
    report.check()
    assert EXECUTED == []
    assert fingerprint(tmp_path) == before


def test_replay_needs_no_event_loop(tmp_path: Path) -> None:
    asyncio.run(recorded(tmp_path))
    assert replay(app_of(tmp_path), "x").identical
    assert [report.identical for report in replay_all(app_of(tmp_path))] == [True]
    assert EXECUTED == []


async def test_an_open_app_replays_beside_its_work(tmp_path: Path) -> None:
    async with app_of(tmp_path) as app:
        await app.run("x", "crawl", 1)
        EXECUTED.clear()
        assert await replay(app, "x")
        assert await app.run("y", "crawl", 1) == [10]
    assert EXECUTED == ["u0", "page of u0"]


# -- divergences ------------------------------------------------------------------


async def renamed(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch_anew, f"u{i}") for i in range(n)))
    return [await ctx.run(parse, page) for page in pages]


async def other_arguments(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch, f"v{i}") for i in range(n)))
    return [await ctx.run(parse, page) for page in pages]


async def added(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch, f"u{i}") for i in range(n)))
    sizes = [await ctx.run(parse, page) for page in pages]
    await ctx.run(parse, "one more")
    return sizes


async def missing(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch, f"u{i}") for i in range(n)))
    return [await ctx.run(parse, pages[0]), 10]


async def other_result(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch, f"u{i}") for i in range(n)))
    return [await ctx.run(parse, page) + 1 for page in pages]


async def raises_now(ctx: Any, n: int) -> list[int]:
    await crawl(ctx, n)
    raise ValueError("new")


async def slept_instead(ctx: Any, n: int) -> list[int]:
    pages = await asyncio.gather(*(ctx.run(fetch, f"u{i}") for i in range(n)))
    await ctx.sleep(1)
    return [await ctx.run(parse, page) for page in pages]


@pytest.mark.parametrize(
    ("function", "kinds", "recorded_call", "new_call"),
    [
        (renamed, {"renamed"}, "run fetch(", "run fetch_anew("),
        (other_arguments, {"arguments"}, "run fetch(", "run fetch("),
        (added, {"added"}, None, "run parse("),
        (missing, {"missing"}, "run parse(", None),
        (other_result, {"result"}, "resolved: [10, 10]", "resolved: [11, 11]"),
        (raises_now, {"result"}, "resolved: [10, 10]", "rejected: builtins.ValueError: new"),
        (slept_instead, {"renamed"}, "run parse(", "sleep sleep("),
    ],
)
async def test_changed_code_is_told_with_both_calls_side_by_side(
    tmp_path: Path,
    function: Callable[..., Any],
    kinds: set[str],
    recorded_call: str | None,
    new_call: str | None,
) -> None:
    await recorded(tmp_path)
    before = fingerprint(tmp_path)
    report = await replay(app_of(tmp_path, function), "x")
    assert not report.identical
    assert report.divergence is not None
    assert report.divergence.kind in kinds
    assert report.divergence.step_id.startswith("x")
    for shown, expected in (
        (report.divergence.recorded, recorded_call),
        (report.divergence.asked, new_call),
    ):
        assert shown is None if expected is None else expected in str(shown)
    assert "recorded:" in str(report)
    with pytest.raises(ReplayDivergenceError, match="recorded"):
        report.check()
    assert EXECUTED == []
    assert fingerprint(tmp_path) == before


async def test_swapped_steps_are_reordered(tmp_path: Path) -> None:
    async def first(ctx: Any, n: int) -> list[Any]:
        return [await ctx.run(fetch, "a"), await ctx.run(parse, "b")]

    async def second(ctx: Any, n: int) -> list[Any]:
        b = await ctx.run(parse, "b")
        return [await ctx.run(fetch, "a"), b]

    await recorded(tmp_path, first)
    report = await replay(app_of(tmp_path, second), "x")
    assert report.divergence is not None
    assert report.divergence.kind == "reordered"


async def test_code_that_runs_for_real_meets_a_divergence_before_a_wrong_answer(
    tmp_path: Path,
) -> None:
    """A changed program on an open execution: a typed error, and the record stays as it is."""

    async def old(ctx: Any, n: int) -> Any:
        await ctx.run(fetch, "a")
        return await ctx.promise()

    async def new(ctx: Any, n: int) -> Any:
        return await ctx.run(parse, "a")

    async with app_of(tmp_path, old) as app:
        handle = app.run("x", "crawl", 1)
        while len(await app.steps("x") if await _exists(app) else []) < 2:
            await asyncio.sleep(0.01)
        _ = handle
    EXECUTED.clear()
    async with app_of(tmp_path, new) as app:
        with pytest.raises(ReplayDivergenceError) as caught:
            await app.run("x", "crawl", 1)
        assert caught.value.recorded["step"] == "fetch"
        assert caught.value.asked["step"] == "parse"
        assert EXECUTED == []
        assert (await app.execution("x")).state == "pending"
    async with app_of(tmp_path, old) as app:  # the old code goes on with it
        await app.resolve("x:2", "done")
        assert await app.get("x") == "done"


async def _exists(app: Durable) -> bool:
    try:
        await app.execution("x")
    except UnknownExecutionError:
        return False
    return True


# -- other kinds of execution -----------------------------------------------------


async def test_failed_executions_and_failed_steps_replay(tmp_path: Path) -> None:
    async def fails(url: str) -> None:
        EXECUTED.append(url)
        raise ConnectionError("refused")

    async def program(ctx: Any, n: int) -> None:
        try:
            await ctx.run(fails, "first")
        except ConnectionError:
            await ctx.run(fails, "second")

    async def forgiving(ctx: Any, n: int) -> str:
        try:
            await program(ctx, n)
        except ConnectionError:
            return "forgiven"
        return "fine"

    async with app_of(tmp_path, program) as app:
        with pytest.raises(ConnectionError):
            await app.run("x", "crawl", 1)
    EXECUTED.clear()
    assert await replay(app_of(tmp_path, program), "x")
    report = await replay(app_of(tmp_path, forgiving), "x")
    assert report.divergence is not None
    assert report.divergence.kind == "result"
    assert EXECUTED == []


async def test_attempts_sleeps_promises_calls_and_nested_steps_replay(tmp_path: Path) -> None:
    tries: list[int] = []

    async def flaky() -> str:
        EXECUTED.append("flaky")
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "third"

    async def outer(ctx: Any) -> list[str]:
        EXECUTED.append("outer")
        return [await ctx.run(fetch, "inner"), await ctx.run(fetch, "inner 2")]

    async def everything(ctx: Any, n: int) -> list[Any]:
        retry = {"stop": tenacity.stop_after_attempt(5), "wait": tenacity.wait_none()}
        return [
            await ctx.options(retry=retry).run(flaky),
            await ctx.run(outer),
            await ctx.sleep(0.01),
            await ctx.rpc("child", n),
            await ctx.options(key="named").run(fetch, "named"),
            await ctx.promise(),
        ]

    async def child(ctx: Any, n: int) -> int:
        return await ctx.run(parse, "x" * n)

    def full(path: Path) -> Durable:
        app = app_of(path, everything)
        app.register(child)
        return app

    async with full(tmp_path) as app:
        handle = app.run("x", "crawl", 3)
        async with asyncio.timeout(20):
            while True:
                await asyncio.sleep(0.02)
                open_ones = [s.id for s in await app.steps("x") if s.kind == "promise"]
                if open_ones:
                    await app.resolve(open_ones[0], {"ok": True})
                    break
        assert (await handle)[-1] == {"ok": True}
    EXECUTED.clear()
    report = await replay(full(tmp_path), "x")
    assert report, str(report)
    assert EXECUTED == []


async def test_an_open_execution_replays_as_far_as_its_history_goes(tmp_path: Path) -> None:
    for at in range(1, 8):
        path = tmp_path / str(at)
        path.mkdir()
        await crash_once(
            lambda intercept, path=path: app_of(path, intercept=intercept),
            lambda app: app.run("x", "crawl", 2),
            at,
        )
        EXECUTED.clear()
        before = fingerprint(path)
        report = await replay(app_of(path), "x")
        assert report, str(report)
        assert not report.complete
        assert "open history" in str(report)
        assert EXECUTED == []
        assert fingerprint(path)[1] == before[1]


async def test_source_replays_by_its_database_alone(tmp_path: Path) -> None:
    side = tmp_path / "side"
    source = "\n".join(
        [
            "import asyncio, pathlib",
            "from dataclasses import dataclass",
            "@dataclass",
            "class Point:",
            "    x: int",
            "class OwnError(Exception): pass",
            "def make(n):",
            f"    pathlib.Path({str(side)!r}).open('a').write('made ')",
            "    return Point(n)",
            "def fails():",
            "    raise OwnError('no')",
            "points = await asyncio.gather(*(ctx.run(make, n) for n in range(3)))",
            "try:",
            "    await ctx.run(fails)",
            "except OwnError as error:",
            "    points.append(Point(len(str(error))))",
            "points",
        ]
    )
    database = tmp_path / "runs.db"
    async with Durable(database) as app:
        assert [point.x for point in await app.run_source("s", source)] == [0, 1, 2, 2]
    made = side.read_text()
    for subject in (database, str(database), f"sqlite:///{database}"):
        report = await replay(subject, "s")
        assert report, str(report)
    assert side.read_text() == made == "made made made "
    reports = await replay_all(database)
    assert [report.execution_id for report in reports] == ["s"]


async def test_what_cannot_be_replayed_is_a_typed_error(tmp_path: Path) -> None:
    await recorded(tmp_path)
    with pytest.raises(UnknownExecutionError, match="nowhere"):
        await replay(app_of(tmp_path), "nowhere")
    with pytest.raises(InvalidArgumentError, match="execution_id"):
        await replay(app_of(tmp_path))
    with pytest.raises(NotRegisteredError, match="crawl"):
        await replay(tmp_path / "runs.db", "x")
    absent = tmp_path / "absent.db"
    with pytest.raises(Exception, match=r"absent\.db"):
        await replay(Durable(absent), "x")
    assert not absent.exists()


async def test_code_that_waits_outside_steps_is_given_up_on(tmp_path: Path) -> None:
    async def stuck(ctx: Any, n: int) -> None:
        await asyncio.Event().wait()

    await recorded(tmp_path)
    report = await replay(app_of(tmp_path, stuck), "x", limit_s=0.2)
    assert report.divergence is not None
    assert report.divergence.kind == "stuck"


# -- histories --------------------------------------------------------------------


async def test_histories_are_kept_as_files_and_replayed_in_ci(tmp_path: Path) -> None:
    directory = tmp_path / "histories"
    directory.mkdir()
    async with app_of(tmp_path) as app:
        for n in (1, 2, 3):
            await app.run(f"run-{n}", "crawl", n)
            history = await read_history(app.engine, f"run-{n}")
            (directory / f"run-{n}.json").write_text(history.to_json())
    EXECUTED.clear()
    document = json.loads((directory / "run-1.json").read_text())
    assert document["execution"]["id"] == "run-1"
    assert document["promises"][0]["param"]["step"] == "fetch"
    clean = Durable("memory:")
    clean.register(crawl, name="crawl")
    reports = await replay_all(clean, histories=directory, name="crawl")
    assert [report.execution_id for report in reports] == ["run-1", "run-2", "run-3"]
    assert all(reports)
    assert await replay_all(clean, histories=directory, name="other") == []
    changed = Durable("memory:")
    changed.register(renamed, name="crawl")
    reports = await replay_all(changed, histories=directory)
    assert not any(reports)
    assert EXECUTED == []
    history = load_history(directory / "run-2.json")
    assert history.to_json() == (directory / "run-2.json").read_text()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"sostenuto_history": 99}', '{"sostenuto_history": 1}']
)
async def test_a_damaged_history_is_a_typed_error_that_names_the_file(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=r"broken\.json"):
        await replay(path)


@pytest.mark.parametrize("at", [2, 4, 6, 99])
async def test_open_and_finished_executions_move_to_another_database(
    tmp_path: Path, at: int
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    await crash_once(
        lambda intercept: app_of(old, intercept=intercept), lambda app: app.run("x", "crawl", 3), at
    )
    reader = app_of(old).reader("readers")
    async with reader:
        history = await read_history(reader.engine, "x")
    done = {promise.id for promise in history.promises if promise.state == "resolved"}
    EXECUTED.clear()
    exported = load_history(json.loads(history.to_json()))
    async with app_of(new) as app:
        assert app._app is not None
        target = app._app.connections.sources[0].resolve_target("default")
        await write_history(app.engine, exported, target=target)
        assert await asyncio.wait_for(app.get("x").result(), 20) == [10, 10, 10]
        kept = {step.id for step in await app.steps("x")}
    assert done <= kept
    assert len(EXECUTED) == 6 - len(done)
    assert await replay(app_of(new), "x")
