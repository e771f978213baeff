"""How code fails: what is recorded of it, who is told, and who goes on."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from resonate_base import ConnectorError

from durable import Durable
from durable.errors import (
    ExecutionCancelledError,
    ExecutionTimeoutError,
    ReplayDivergenceError,
    SigningKeyError,
)
from durable.supervision import is_own_exit

pytestmark = pytest.mark.integration


class StockError(Exception):
    pass


def fails_with_a_cause() -> None:
    try:
        {}["rows"]
    except KeyError as error:
        raise StockError("nothing there") from error


def fails_while_handling() -> None:
    try:
        {}["rows"]
    except KeyError:
        raise StockError("nothing there")  # noqa: B904 - the context is what is tested


async def cancels_itself() -> None:
    raise asyncio.CancelledError("given up")


def make(path: Path) -> Durable:
    app = Durable(path / "runs.db")

    @app.register
    async def one_step(ctx: Any, name: str) -> Any:
        step = {"cause": fails_with_a_cause, "context": fails_while_handling}[name]
        await ctx.run(step)

    @app.register
    async def survives_a_cancelled_step(ctx: Any) -> str:
        try:
            await ctx.run(cancels_itself)
        except asyncio.CancelledError as error:
            return f"went on after: {error}"
        return "was not cancelled"

    @app.register
    async def cancelled_by_itself(ctx: Any) -> None:
        await cancels_itself()

    @app.register
    async def leaves(ctx: Any, how: str) -> None:
        if how == "interrupt":
            raise KeyboardInterrupt
        sys.exit(3)

    @app.register
    async def patient(ctx: Any) -> str:
        await asyncio.sleep(0.1)
        return "still here"

    @app.register
    def blocks(ctx: Any) -> None:
        time.sleep(0.6)  # in a thread

    return app


@pytest.mark.parametrize("name", ["cause", "context"])
async def test_a_failed_steps_error_keeps_what_it_was_raised_from(
    tmp_path: Path, name: str
) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(StockError) as now:
            await app.run("failed", "one_step", name)
    async with make(tmp_path) as later:
        with pytest.raises(StockError) as then:
            await later.get("failed")
    for error in (now.value, then.value):
        assert isinstance(error.__context__, KeyError)
        assert isinstance(error.__cause__, KeyError) == (name == "cause")
        assert error.__suppress_context__ == (name == "cause")


async def test_a_step_that_cancels_itself_is_a_failed_step_and_is_not_run_again(
    tmp_path: Path,
) -> None:
    async with make(tmp_path) as app:
        assert await app.run("cut", "survives_a_cancelled_step") == "went on after: given up"
        steps = await app.steps("cut")
    assert [(step.name, step.state) for step in steps] == [("cancels_itself", "rejected")]


async def test_code_that_cancels_itself_is_told_apart_from_a_cancelled_awaiter(
    tmp_path: Path,
) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(ExceptionGroup) as group:
            # A task group takes a CancelledError of its task for a cancellation, and says nothing.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(app.run("own", "cancelled_by_itself").result())
    assert isinstance(group.value.exceptions[0], ExecutionCancelledError)
    assert isinstance(group.value.exceptions[0].__cause__, asyncio.CancelledError)


@pytest.mark.parametrize(("how", "kind"), [("exit", SystemExit), ("interrupt", KeyboardInterrupt)])
async def test_a_function_that_leaves_the_program_fails_alone(
    tmp_path: Path, how: str, kind: type[BaseException]
) -> None:
    async with make(tmp_path) as app:
        other = app.run("other", "patient")
        with pytest.raises(kind):
            await app.run("leaves", "leaves", how)
        assert (await app.execution("leaves")).state == "rejected"
        assert await other == "still here"


def test_an_interrupt_by_a_signal_is_none_that_code_has_raised() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as struck:
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not is_own_exit(struck.value)
    with pytest.raises(KeyboardInterrupt) as raised:
        raise KeyboardInterrupt
    assert is_own_exit(raised.value)


async def test_the_notes_of_failed_source_have_limit_source_and_place(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(ZeroDivisionError) as failed:
            await app.run_source("failed", "x = 1\nx / 0", timeout=20)
        record = await app.execution("failed")
    assert record.notes == failed.value.__notes__
    for expected in (
        "Execution ID: failed",
        "limit: 20 s",
        "source: x = 1\nx / 0",
        "the code stood at <sostenuto failed cell 1>:2, in <module>: x / 0",
    ):
        assert expected in record.notes


@pytest.mark.parametrize(
    ("execution_id", "source", "place"),
    [
        (
            "late-await",
            "import asyncio\nawait asyncio.sleep(20)",
            ":2, in <module>: await asyncio.sleep(20)",
        ),
        (
            "late-function",
            "import asyncio\nasync def f():\n    await asyncio.sleep(20)\nawait f()",
            ":3, in f: await asyncio.sleep(20)",
        ),
        ("late-thread", "import time\ntime.sleep(1)", ":2, in <module>: time.sleep(1)"),
    ],
)
async def test_the_notes_of_timed_out_source_say_where_it_stood(
    tmp_path: Path, execution_id: str, source: str, place: str
) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(ExecutionTimeoutError) as late:
            await app.run_source(execution_id, source, timeout=0.3)
    assert f"the code stood at <sostenuto {execution_id} cell 1>{place}" in late.value.__notes__


async def test_the_notes_of_a_timed_out_synchronous_function_say_where_it_stood(
    tmp_path: Path,
) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(ExecutionTimeoutError) as late:
            await app.options(timeout=0.2).run("late", "blocks")
    assert any(
        note.startswith("the code stood at ") and note.endswith("time.sleep(0.6)  # in a thread")
        for note in late.value.__notes__
    )


def versions(path: Path, *, has_changed: bool) -> Durable:
    app = Durable(path / "runs.db")

    def old() -> str:
        return "old"

    def new() -> str:
        return "new"

    @app.register
    async def work(ctx: Any) -> str:
        done: str = await ctx.run(new if has_changed else old)
        await ctx.promise()
        return done

    return app


async def test_a_process_with_other_code_gives_the_execution_to_one_with_the_right_code(
    tmp_path: Path,
) -> None:
    async with versions(tmp_path, has_changed=False) as first:
        await first.run("job", "work").started()
        while len(await first.steps("job")) < 2:
            await asyncio.sleep(0.01)
    async with versions(tmp_path, has_changed=True) as changed:
        with pytest.raises(ReplayDivergenceError):
            await asyncio.wait_for(changed.run("job", "work").result(), 5)
        async with versions(tmp_path, has_changed=False) as right:
            assert await right.resolve("job:2", None)
            assert await asyncio.wait_for(right.run("job", "work").result(), 5) == "old"


async def test_a_function_that_no_worker_here_has_is_told_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with make(tmp_path) as app:
            await app.rpc("elsewhere", "only_elsewhere").started()
            await asyncio.sleep(0.4)
    told = [record for record in caplog.records if "only_elsewhere" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"]
    assert told[0].exc_info is None
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_a_signing_key_that_is_too_short_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOSTENUTO_SIGNING_KEY", "short")
    app = Durable(tmp_path / "runs.db")
    with pytest.raises(SigningKeyError, match=r"SOSTENUTO_SIGNING_KEY has 5 bytes.*unset it"):
        await app.start()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SOSTENUTO_SIGNING_KEY", "a key that is long enough")
    async with app:
        assert await app.run_source("x", "{1, 2}") == {1, 2}


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o600, "is empty"),
        (b"not a key\n", 0o600, "is corrupt"),
        (b"sostenuto-key-1 " + b"0" * 63 + b"\n", 0o600, "is corrupt"),
        (b"sostenuto-key-1 " + b"0" * 64 + b"\n", 0o644, "chmod 600"),
    ],
)
async def test_a_key_file_that_cannot_be_used_is_refused_before_anything_runs(
    tmp_path: Path, content: bytes, mode: int, said: str
) -> None:
    ran: list[str] = []

    async def value() -> set[int]:
        ran.append("value")
        return {1, 2}

    def app_of() -> Durable:
        app = Durable(tmp_path / "runs.db")

        @app.register
        async def program(ctx: Any) -> set[int]:
            await ctx.sleep(0.3)
            result: set[int] = await ctx.run(value)
            return result

        return app

    async with app_of() as app:
        await app.run("x", "program").started()
    key = tmp_path / "runs.db.key"
    key.unlink(missing_ok=True)
    key.write_bytes(content)
    key.chmod(mode)
    with pytest.raises(SigningKeyError, match=said):
        await app_of().start()
    assert ran == []
    key.unlink()
    async with app_of() as app:
        assert await app.get("x") == {1, 2}


async def test_where_the_database_cannot_be_the_error_names_it_and_not_its_key(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConnectorError, match=r"runs\.db") as caught:
        await Durable(tmp_path / "file" / "runs.db").start()
    assert ".key" not in str(caught.value)
