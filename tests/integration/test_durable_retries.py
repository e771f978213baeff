"""Attempts are recorded one by one, survive a crash between them, and stop when told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import tenacity

from durable import Durable
from durable.errors import ExecutionCancelledError, ExecutionTimeoutError
from durable.testing import crash_at_every_operation, crash_once

pytestmark = pytest.mark.integration

QUICK = tenacity.AsyncRetrying(
    stop=tenacity.stop_after_attempt(4),
    wait=tenacity.wait_fixed(0.01),
    retry=tenacity.retry_if_exception_type(ConnectionError),
)


class Flaky:
    """Fails as often as told; knows how often it was called."""

    def __init__(self, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"failure {self.calls}")
        return f"call {self.calls}"


def make(path: Path, flaky: Any, retry: Any = QUICK, intercept: Any = None) -> Durable:
    app = Durable(path / "runs.db", intercept=intercept)

    @app.register
    async def steps(ctx: Any) -> Any:
        return await ctx.options(retry=retry).run(flaky)

    @app.register(retry=retry)
    async def whole(ctx: Any) -> Any:
        kept = await ctx.run(lambda: "kept")
        return [kept, ctx.attempt, await flaky()]

    return app


async def test_a_step_is_retried_and_every_attempt_recorded(tmp_path: Path) -> None:
    flaky = Flaky(2)
    async with make(tmp_path, flaky) as app:
        assert await app.run("r", "steps") == "call 3"
        attempts = [step for step in await app.steps("r") if step.kind == "attempt"]
    assert [attempt.details["attempt"] for attempt in attempts] == [1, 2]
    assert [attempt.details["error"] for attempt in attempts] == [
        "ConnectionError: failure 1",
        "ConnectionError: failure 2",
    ]
    for attempt in attempts:
        assert attempt.details["wait_s"] == pytest.approx(0.01, abs=0.002)
        assert attempt.details["ended_at"] >= attempt.details["started_at"]
    async with make(tmp_path, flaky) as app:
        assert await app.run("r", "steps") == "call 3"
    assert flaky.calls == 3


async def test_a_registered_function_is_retried_as_a_whole(tmp_path: Path) -> None:
    flaky = Flaky(2)
    async with make(tmp_path, flaky) as app:
        assert await app.run("r", "whole") == ["kept", 3, "call 3"]
        attempts = [step for step in await app.steps("r") if step.kind == "attempt"]
    assert [attempt.details["attempt"] for attempt in attempts] == [1, 2]


async def test_the_last_error_is_raised_with_the_attempts_in_its_notes(tmp_path: Path) -> None:
    for name in ("steps", "whole"):
        flaky = Flaky(99)
        async with make(tmp_path, flaky) as app:
            with pytest.raises(ConnectionError, match="failure 4") as caught:
                await app.run(name, name)
        assert flaky.calls == 4
        assert any("attempt 4" in note and "3 retried" in note for note in caught.value.__notes__)
        async with make(tmp_path, flaky) as app:
            with pytest.raises(ConnectionError, match="failure 4") as caught:
                await app.get(name)
            assert any("3 retried" in note for note in caught.value.__notes__)
            assert any("3 retried" in note for note in (await app.execution(name)).notes)
        assert flaky.calls == 4


async def test_a_permanent_error_is_not_retried(tmp_path: Path) -> None:
    for name in ("steps", "whole"):
        flaky = Flaky(99, ValueError)
        async with make(tmp_path, flaky) as app:
            with pytest.raises(ValueError, match="failure 1"):
                await app.run(name, name)
            assert [step.kind for step in await app.steps(name)].count("attempt") == 0
        assert flaky.calls == 1


async def test_a_result_can_be_refused_and_asked_for_again(tmp_path: Path) -> None:
    calls = []

    async def counts() -> int:
        calls.append(1)
        return len(calls)

    retry = {
        "retry": tenacity.retry_if_result(lambda value: value < 3),
        "wait": tenacity.wait_none(),
        "stop": tenacity.stop_after_attempt(9),
    }
    async with make(tmp_path, counts, retry) as app:
        assert await app.run("r", "steps") == 3


@pytest.mark.parametrize("name", ["steps", "whole"])
@pytest.mark.parametrize("at", range(1, 9))
async def test_attempts_go_on_after_a_crash_where_they_were(
    tmp_path: Path, name: str, at: int
) -> None:
    """No attempt whose failure was recorded is made again, and the limit counts them all."""
    flaky = Flaky(99)

    def app_of(intercept: Any) -> Durable:
        return make(tmp_path, flaky, intercept=intercept)

    await crash_once(app_of, lambda app: app.run("r", name), at, "after")
    before = flaky.calls
    async with make(tmp_path, flaky) as app:
        recorded = [s for s in await app.steps("r") if s.kind == "attempt"] if at > 0 else []
        _ = recorded
        with pytest.raises(ConnectionError):
            await app.run("r", name)
        attempts = [step for step in await app.steps("r") if step.kind == "attempt"]
    assert [attempt.details["attempt"] for attempt in attempts] == [1, 2, 3]
    assert 4 <= flaky.calls <= 5  # at most the one under way at the crash is made again
    assert flaky.calls >= before


@pytest.mark.parametrize("name", ["steps", "whole"])
async def test_retries_end_alike_whatever_operation_the_crash_hits(
    tmp_path: Path, name: str
) -> None:
    flakies: list[Flaky] = []

    def new_database() -> None:
        flakies.append(Flaky(2))
        (tmp_path / str(len(flakies))).mkdir()

    def app_of(intercept: Any = None) -> Durable:
        return make(tmp_path / str(len(flakies)), flakies[-1], intercept=intercept)

    def check(result: Any) -> None:
        value = result if name == "steps" else result[2]
        assert value in {"call 3", "call 4"}
        assert flakies[-1].calls in {3, 4}

    assert (
        await crash_at_every_operation(app_of, lambda app: app.run("r", name), check, new_database)
        > 3
    )


async def test_a_wait_that_a_crash_interrupts_is_only_finished(tmp_path: Path) -> None:
    flaky = Flaky(1)
    slow = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_fixed(1.0)}

    def app_of(intercept: Any = None) -> Durable:
        return make(tmp_path, flaky, slow, intercept)

    began = time.monotonic()
    # Task, step, and the record of the first attempt, whose answer is lost.
    await crash_once(app_of, lambda app: app.run("r", "steps"), 3)
    assert flaky.calls == 1
    async with app_of() as app:
        assert await app.run("r", "steps") == "call 2"
    assert 0.95 < time.monotonic() - began < 2.0


@pytest.mark.parametrize("name", ["steps", "whole"])
async def test_cancelling_and_timing_out_during_a_wait_work(tmp_path: Path, name: str) -> None:
    forever = {"wait": tenacity.wait_fixed(60)}
    flaky = Flaky(99)
    async with make(tmp_path, flaky, forever) as app:
        handle = app.run("c", name)
        while flaky.calls == 0:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        assert await handle.cancel()
        with pytest.raises(ExecutionCancelledError):
            await handle
        with pytest.raises(ExecutionTimeoutError):
            await app.options(timeout=0.3).run("t", name)
        assert time.monotonic() - began < 1.0
    assert flaky.calls == 2


async def test_the_total_time_of_a_policy_counts_from_the_first_attempt(tmp_path: Path) -> None:
    flaky = Flaky(99)
    policy = {"stop": tenacity.stop_after_delay(0.3), "wait": tenacity.wait_fixed(0.05)}

    def app_of(intercept: Any = None) -> Durable:
        return make(tmp_path, flaky, policy, intercept)

    await crash_once(app_of, lambda app: app.run("r", "steps"), 4)
    await asyncio.sleep(0.4)
    made = flaky.calls
    async with app_of() as app:
        with pytest.raises(ConnectionError):
            await app.run("r", "steps")
    assert flaky.calls <= made + 1
