"""A durable timeout settles at its deadline, stops what runs, and says why in plain text."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.errors import ExecutionTimeoutError
from durable.testing import crash_once

pytestmark = pytest.mark.integration

#: What the issue promises: running code is stopped this soon after the deadline.
STOPPED_WITHIN_S = 0.25


class Seen:
    """What stopped code left behind."""

    def __init__(self) -> None:
        self.stopped_at = 0.0
        self.cleaned: list[str] = []


def make(path: Path, seen: Seen | None = None, intercept: Any = None) -> Durable:
    app = Durable(path / "runs.db", intercept=intercept)
    left = seen if seen is not None else Seen()

    @app.register(timeout=timedelta(seconds=0.4))
    async def limited(ctx: Any) -> None:
        try:
            await asyncio.sleep(30)  # where it stands
        finally:
            left.stopped_at = time.time()
            left.cleaned.append("limited")

    @app.register
    async def patient(ctx: Any) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            left.stopped_at = time.time()

    @app.register
    async def stuck_in_a_thread(ctx: Any) -> None:
        try:
            await ctx.run(time.sleep, 3)
        finally:
            left.stopped_at = time.time()

    @app.register
    async def waits_for_a_step(ctx: Any) -> str:
        async def slow() -> None:
            try:
                await asyncio.sleep(30)
            finally:
                left.cleaned.append("slow")

        try:
            await ctx.options(timeout=0.2).run(slow)
        except ExecutionTimeoutError as error:
            return f"{type(error).__name__}: {'slow' in str(error)}"
        return "not stopped"

    @app.register
    async def waits_for_a_blocking_step(ctx: Any) -> str:
        began = time.monotonic()
        try:
            await ctx.options(timeout=0.2).run(time.sleep, 3)
        except ExecutionTimeoutError:
            return f"{time.monotonic() - began < 0.2 + STOPPED_WITHIN_S}"
        return "not stopped"

    @app.register
    async def waits_for_nobody(ctx: Any) -> str:
        try:
            await ctx.promise(timeout=0.2)
        except ExecutionTimeoutError:
            return "timed out"
        return "settled"

    return app


async def assert_timed_out(app: Durable, id: str, limit: str) -> ExecutionTimeoutError:
    with pytest.raises(ExecutionTimeoutError) as caught:
        await app.get(id)
    record = await app.execution(id)
    assert record.state == "rejected_timedout"
    for notes in (record.notes, caught.value.__notes__):
        text = "\n".join(notes)
        assert f"limit of {limit} s" in text
        assert f"Execution ID: {id}" in text
    assert isinstance(caught.value, TimeoutError)
    return caught.value


async def test_a_registered_timeout_stops_the_code_and_settles_at_the_deadline(
    tmp_path: Path,
) -> None:
    seen = Seen()
    async with make(tmp_path, seen) as app:
        with pytest.raises(ExecutionTimeoutError):
            await app.run("t", "limited")
        record = await app.execution("t")
        assert record.timeout_at is not None
        deadline = record.timeout_at.timestamp()
        assert record.settled_at == record.timeout_at
        assert abs(seen.stopped_at - deadline) < STOPPED_WITHIN_S
        assert seen.cleaned == ["limited"]
        await assert_timed_out(app, "t", "0.4")
        assert any("where it stands" in note for note in record.notes)
    async with make(tmp_path) as app:  # what a later process sees
        error = await assert_timed_out(app, "t", "0.4")
        assert any("where it stands" in note for note in error.__notes__)


async def test_a_timeout_given_at_the_start_counts_before_the_registered_one(
    tmp_path: Path,
) -> None:
    seen = Seen()
    async with make(tmp_path, seen) as app:
        began = time.monotonic()
        with pytest.raises(ExecutionTimeoutError):
            await app.options(timeout=0.2).run("t", "patient")
        assert time.monotonic() - began < 0.2 + 2 * STOPPED_WITHIN_S
        await assert_timed_out(app, "t", "0.2")


async def test_source_has_its_timeout_and_its_beginning_in_the_notes(tmp_path: Path) -> None:
    source = "import asyncio\nvalue = 1\nawait asyncio.sleep(30)"
    async with make(tmp_path) as app:
        with pytest.raises(ExecutionTimeoutError):
            await app.run_source("s", source, timeout=timedelta(seconds=0.3))
        error = await assert_timed_out(app, "s", "0.3")
        text = "\n".join(error.__notes__)
        assert "value = 1" in text
        assert "asyncio.sleep(30)" in text


async def test_code_in_a_thread_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    seen = Seen()
    async with make(tmp_path, seen) as app:
        with pytest.raises(ExecutionTimeoutError):
            await app.options(timeout=0.3).run("t", "stuck_in_a_thread")
        record = await app.execution("t")
        assert record.timeout_at is not None
        while not seen.stopped_at:
            await asyncio.sleep(0.01)
        assert seen.stopped_at - record.timeout_at.timestamp() < STOPPED_WITHIN_S


async def test_a_step_and_a_promise_time_out_on_their_own(tmp_path: Path) -> None:
    seen = Seen()
    async with make(tmp_path, seen) as app:
        assert await app.run("a", "waits_for_a_step") == "ExecutionTimeoutError: True"
        assert seen.cleaned == ["slow"]
        assert await app.run("b", "waits_for_a_blocking_step") == "True"
        assert await app.run("c", "waits_for_nobody") == "timed out"
    async with make(tmp_path) as app:  # the step's end is recorded like any other
        assert await app.run("a", "waits_for_a_step") == "ExecutionTimeoutError: True"


@pytest.mark.parametrize("how", ["function", "source"])
async def test_a_deadline_passes_while_no_process_is_alive(tmp_path: Path, how: str) -> None:
    def start(app: Durable) -> Any:
        if how == "function":
            return app.run("t", "limited")
        return app.run_source("t", "import asyncio\nawait asyncio.sleep(30)", timeout=0.4)

    def app_of(intercept: Any) -> Durable:
        return make(tmp_path, intercept=intercept)

    assert await crash_once(app_of, start, 1)
    await asyncio.sleep(0.6)
    async with make(tmp_path) as app:
        await assert_timed_out(app, "t", "0.4")
        record = await app.execution("t")
        assert record.settled_at == record.timeout_at
        if how == "source":
            assert any("asyncio.sleep(30)" in note for note in record.notes)


async def test_a_restart_does_not_move_the_deadline(tmp_path: Path) -> None:
    def start(app: Durable) -> Any:
        return app.options(timeout=0.8).run("t", "patient")

    def app_of(intercept: Any) -> Durable:
        return make(tmp_path, intercept=intercept)

    began = time.monotonic()
    assert await crash_once(app_of, start, 1)
    await asyncio.sleep(0.4)
    async with make(tmp_path) as app:
        with pytest.raises(ExecutionTimeoutError):
            await app.get("t")
    assert 0.7 < time.monotonic() - began < 0.8 + 2 * STOPPED_WITHIN_S


async def test_a_timeout_of_waiting_leaves_the_execution_alone(tmp_path: Path) -> None:
    app = make(tmp_path)

    @app.register
    async def slow(ctx: Any) -> int:
        await ctx.sleep(0.3)
        return 1

    async with app:
        handle = app.run("s", slow)
        with pytest.raises(TimeoutError, match="it goes on"):
            await handle.result(timeout=0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle, 0.05)
        assert await handle == 1


async def test_code_that_swallows_its_cancellation_is_left_behind(tmp_path: Path) -> None:
    seen = Seen()
    app = Durable(tmp_path / "runs.db", grace=timedelta(seconds=0.3))
    stop = threading.Event()

    @app.register(timeout=0.2)
    async def stubborn(ctx: Any) -> None:
        while not stop.is_set():
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.cleaned.append("again")

    async with app:
        began = time.monotonic()
        with pytest.raises(ExecutionTimeoutError):
            await app.run("s", stubborn)
        assert time.monotonic() - began < 0.2 + STOPPED_WITHIN_S
        stop.set()
    assert seen.cleaned


async def test_a_replaced_executor_of_a_function_is_stopped_like_the_code_itself(
    tmp_path: Path,
) -> None:
    app = Durable(tmp_path / "runs.db")

    @app.register
    async def analyze(ctx: Any, source: str) -> Any:
        return await ctx.get_dependency("async_executor").execute(source)

    async with app:
        assert await app.run("fine", analyze, "import asyncio\nawait asyncio.sleep(0, 42)") == 42
        began = time.monotonic()
        with pytest.raises(ExecutionTimeoutError):
            await app.options(timeout=0.3).run("late", analyze, "import time\ntime.sleep(20)")
        assert time.monotonic() - began < 2
