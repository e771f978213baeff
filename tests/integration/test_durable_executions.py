"""Starting, finding, reading and refusing executions, against a real database file."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.errors import (
    AppClosedError,
    ConfigurationError,
    DurableError,
    ExecutionMismatchError,
    ExecutionOverError,
    ForeignContextError,
    InvalidArgumentError,
    NotRegisteredError,
    UnknownExecutionError,
    UnserializableValueError,
    WrongLoopError,
)

pytestmark = pytest.mark.integration


def make(path: Path, **options: Any) -> Durable:
    """An app with the functions of these tests; the same in every 'process'."""
    app = Durable(path / "runs.db", **options)

    @app.register
    async def double(ctx: Any, x: int) -> int:
        return 2 * x

    @app.register
    async def nothing(ctx: Any) -> None:
        return None

    @app.register(version=2, name="double")
    async def double_again(ctx: Any, x: int) -> int:
        return 2 * x + 1

    @app.register
    async def with_steps(ctx: Any, n: int) -> int:
        return sum([await ctx.run(square, i) for i in range(n)])

    @app.register
    def plain(ctx: Any, x: int) -> int:
        return x + threading.get_native_id() * 0

    return app


def square(x: int) -> int:
    return x * x


# -- starting and finding ---------------------------------------------------------


async def test_the_same_id_is_the_same_execution_in_every_later_process(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        assert await app.run("a", "double", 21) == 42
        assert await app.run("a", "double", 21) == 42
        assert await app.get("a") == 42
    async with make(tmp_path) as app:
        assert await app.run("a", "double", 21) == 42
        assert await app.get("a").result() == 42
        assert await app.get("a").done() is True


async def test_a_finished_execution_runs_no_step_again(tmp_path: Path) -> None:
    done: list[int] = []

    async def effect(n: int) -> int:
        done.append(n)
        return n

    async def counted(ctx: Any) -> int:
        return sum([await ctx.run(effect, n) for n in range(3)])

    for _ in range(3):
        app = Durable(tmp_path / "runs.db")
        app.register(counted)
        async with app:
            assert await app.run("once", counted) == 3
    assert done == [0, 1, 2]


async def test_an_id_that_is_in_use_for_something_else_is_a_typed_error(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        await app.run("a", "double", 1)
        for start, what in [
            (lambda: app.run("a", "nothing"), "function"),
            (lambda: app.run("a", "double", 2), "arguments"),
            (lambda: app.run("a", "double", x=1), "arguments"),
            (lambda: app.options(version=2).run("a", "double", 1), "version"),
            (lambda: app.run_source("a", "1"), "function"),
        ]:
            with pytest.raises(ExecutionMismatchError) as caught:
                await start()
            assert caught.value.what == what
            assert caught.value.execution_id == "a"
        await app.run_source("s", "x = 1\nx")
        with pytest.raises(ExecutionMismatchError, match="another id") as caught:
            await app.run_source("s", "x = 2\nx")
        assert caught.value.what == "source"
        assert "line 1" in str(caught.value)
        await app.promise("p").started()
        with pytest.raises(ExecutionMismatchError):
            await app.run("p", "double", 1)
    async with make(tmp_path) as app:
        with pytest.raises(ExecutionMismatchError):
            await app.run("a", "double", 2)


async def test_both_versions_of_a_function_can_be_started(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        assert await app.run("one", "double", 1) == 2
        assert await app.options(version=2).run("two", "double", 1) == 3
        assert (await app.execution("two")).version == 2


async def test_a_remote_call_is_run_by_a_worker_of_the_group(tmp_path: Path) -> None:
    async with make(tmp_path) as worker, Durable(tmp_path / "runs.db", group="callers") as caller:
        remote = caller.options(target="default").rpc("remote", "double", 4)
        assert await asyncio.wait_for(remote.result(), 10) == 8
        assert await worker.get("remote") == 8


async def test_executions_start_others_and_await_them(tmp_path: Path) -> None:
    app = make(tmp_path)

    @app.register
    async def parent(ctx: Any) -> list[int]:
        by_name = await ctx.rpc("double", 5)
        several = await asyncio.gather(*(ctx.rpc("double", n) for n in range(3)))
        return [by_name, *several]

    async with app:
        assert await app.run("parent", parent) == [10, 0, 2, 4]
        kinds = {step.kind for step in await app.steps("parent")}
    assert kinds == {"rpc"}


async def test_executions_are_listed_by_state_and_name(tmp_path: Path) -> None:
    app = make(tmp_path)

    @app.register
    async def broken(ctx: Any) -> None:
        raise ValueError("no")

    @app.register
    async def waiting(ctx: Any) -> None:
        await ctx.promise()

    async with app:
        for n in range(5):
            await app.run(f"ok-{n}", "double", n)
        with pytest.raises(ValueError, match="no"):
            await app.run("bad", broken)
        open_one = app.run("open", waiting)
        await open_one.started()

        async def ids(**filters: Any) -> list[str]:
            return [record.id async for record in app.executions(**filters)]

        assert await ids() == ["bad", *(f"ok-{n}" for n in range(5)), "open"]
        assert await ids(state="rejected") == ["bad"]
        assert await ids(state="pending") == ["open"]
        assert await ids(name="double") == [f"ok-{n}" for n in range(5)]
        assert await ids(state="rejected_timedout") == []
        with pytest.raises(InvalidArgumentError, match="state='done'"):
            await ids(state="done")
        await open_one.cancel()


async def test_a_record_tells_everything_about_an_execution(tmp_path: Path) -> None:
    async with make(tmp_path) as app:
        await app.run("r", "with_steps", 3)
        record = await app.execution("r")
        assert (record.id, record.state, record.name, record.result) == (
            "r", "resolved", "with_steps", 5,
        )  # fmt: skip
        assert record.args == (3,)
        assert record.error is None
        assert record.notes == []
        assert record.settled_at is not None
        assert record.created_at <= record.settled_at
        assert record.created_at.tzinfo is not None
        steps = await app.steps("r")
        assert [(step.name, step.kind, step.result) for step in steps] == [
            ("square", "run", 0), ("square", "run", 1), ("square", "run", 4),
        ]  # fmt: skip
        assert len({step.details["args"] for step in steps}) == 3
        await app.run_source("s", "40 + 2")
        assert (await app.execution("s")).source == "40 + 2"
        with pytest.raises(UnknownExecutionError, match="'nowhere'"):
            await app.execution("nowhere")
        with pytest.raises(UnknownExecutionError):
            await app.get("nowhere")
        with pytest.raises(UnknownExecutionError):
            await app.cancel("nowhere")


async def test_source_runs_with_top_level_await_and_the_context_in_its_names(
    tmp_path: Path,
) -> None:
    source = "\n".join(
        [
            "import asyncio",
            "async def add(a, b):",
            "    await asyncio.sleep(0)",
            "    return a + b",
            "first = await ctx.run(add, 1, 2)",
            "second, third = await asyncio.gather(ctx.run(add, first, 1), ctx.run(max, 8, 3))",
            "await ctx.sleep(0.01)",
            "{'sum': first + second + third, 'id': ctx.execution_id}",
        ]
    )
    async with make(tmp_path) as app:
        assert await app.run_source("s", source) == {"sum": 15, "id": "s"}
        assert [step.kind for step in await app.steps("s")] == ["run", "run", "run", "sleep"]
        with pytest.raises(SyntaxError):
            await app.run_source("bad", "def (")
        assert (await app.execution("bad")).state == "rejected"
        assert await app.run_source("nothing", "x = 1") is None


async def test_sync_functions_run_in_threads_and_do_not_hold_the_loop(tmp_path: Path) -> None:
    import time

    app = make(tmp_path)

    @app.register
    async def blocks(ctx: Any) -> int:
        await ctx.run(time.sleep, 0.3)
        return threading.get_ident()

    async with app:
        handle = app.run("b", blocks)
        loop = asyncio.get_running_loop()
        worst, last = 0.0, loop.time()
        while not await handle.done():
            await asyncio.sleep(0.005)
            worst, last = max(worst, loop.time() - last), loop.time()
        assert worst < 0.2
        assert await app.run("p", "plain", 1) == 1


async def test_one_app_can_hold_many_waiting_executions(tmp_path: Path) -> None:
    app = make(tmp_path)

    @app.register
    async def waits(ctx: Any, n: int) -> int:
        await ctx.sleep(0.2)
        return n

    async with app:
        handles = [app.run(f"w-{n}", waits, n) for n in range(200)]
        assert await asyncio.gather(*handles) == list(range(200))


# -- bad input --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("", "must not be empty"),
        ("x" * 513, "at most 512"),
        ("a:b", "':'"),
        ("a\nb", "control character"),
        ("a\x00", "control character"),
        ("a\ud800", "control character"),
        (None, "must be a string"),
        (7, "must be a string"),
    ],
)
async def test_a_bad_id_is_named_with_the_remedy(tmp_path: Path, bad: Any, match: str) -> None:
    async with make(tmp_path) as app:
        calls: list[Any] = [
            lambda: app.run(bad, "double", 1),
            lambda: app.rpc(bad, "double", 1),
            lambda: app.get(bad),
            lambda: app.run_source(bad, "1"),
        ]
        for call in calls:
            with pytest.raises(InvalidArgumentError, match=match):
                await call()
        if bad != "a:b":
            with pytest.raises(InvalidArgumentError, match=match):
                await app.promise(bad)
            with pytest.raises(InvalidArgumentError, match=match):
                await app.execution(bad)
        with pytest.raises(InvalidArgumentError, match=match):
            await app.steps(bad)
    assert issubclass(InvalidArgumentError, DurableError)


async def test_bad_calls_are_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    async def unregistered(ctx: Any) -> None: ...

    async with make(tmp_path) as app:
        with pytest.raises(NotRegisteredError, match="did you mean 'double'"):
            app.run("x", "duoble", 1)
        with pytest.raises(NotRegisteredError, match="unregistered"):
            app.run("x", unregistered)
        with pytest.raises(NotRegisteredError):
            app.options(version=9).run("x", "double", 1)
        with pytest.raises(InvalidArgumentError, match="double"):
            app.run("x", "double")
        with pytest.raises(InvalidArgumentError, match="double"):
            app.run("x", "double", 1, 2)
        with pytest.raises(InvalidArgumentError, match="double"):
            app.run("x", "double", y=1)
        for bad in (-1, timedelta(seconds=-1), 0, "soon", float("nan"), float("inf"), True, 1e12):
            with pytest.raises(InvalidArgumentError, match="timeout"):
                app.options(timeout=bad)
            with pytest.raises(InvalidArgumentError, match="timeout"):
                app.run_source("x", "1", timeout=bad)
        with pytest.raises(InvalidArgumentError, match="source"):
            app.run_source("x", b"1")  # type: ignore[arg-type]
        with pytest.raises(UnserializableValueError, match="argument 1 of double"):
            app.run("x", "double", threading.Lock())
        with pytest.raises(InvalidArgumentError):
            app.run("x", 5)  # type: ignore[arg-type]
        assert [record.id async for record in app.executions()] == []


def test_bad_registrations_name_the_function_and_the_remedy(tmp_path: Path) -> None:
    app = make(tmp_path)

    async def no_context() -> None: ...

    async def fine(ctx: Any) -> None: ...

    with pytest.raises(InvalidArgumentError, match="first parameter is ctx"):
        app.register(no_context)
    with pytest.raises(InvalidArgumentError, match="needs a function"):
        app.register(5)  # type: ignore[type-var]
    with pytest.raises(InvalidArgumentError, match="needs a name"):
        app.register(lambda ctx: 1)
    with pytest.raises(InvalidArgumentError, match="registered already"):
        app.register(fine, name="double")
    with pytest.raises(InvalidArgumentError, match="version"):
        app.register(fine, version=0)
    with pytest.raises(InvalidArgumentError, match="retry"):
        app.register(fine, retry=3)
    with pytest.raises(InvalidArgumentError, match="timeout"):
        app.register(fine, timeout=-1)


async def test_calls_of_the_context_are_checked_where_they_are_made(tmp_path: Path) -> None:
    app = make(tmp_path)
    kept: dict[str, Any] = {}

    @app.register
    async def careless(ctx: Any) -> str:
        kept["ctx"] = ctx

        async def step() -> int:
            return 1

        coroutine = step()
        with pytest.raises(InvalidArgumentError, match=r"not ctx\.run"):
            ctx.run(coroutine)
        coroutine.close()
        with pytest.raises(InvalidArgumentError, match="duration"):
            ctx.sleep(-1)
        with pytest.raises(InvalidArgumentError, match="duration"):
            ctx.sleep("long")
        with pytest.raises(InvalidArgumentError, match="timeout"):
            ctx.promise(timeout=-1)
        with pytest.raises(InvalidArgumentError, match="timeout"):
            ctx.options(timeout=0)
        with pytest.raises(InvalidArgumentError, match="key"):
            ctx.options(key="")
        with pytest.raises(InvalidArgumentError, match="retry"):
            ctx.options(retry=3)
        await ctx.options(key="k").run(step)
        with pytest.raises(InvalidArgumentError, match="unique"):
            ctx.options(key="k").run(step)
        with pytest.raises(NotRegisteredError):
            ctx.rpc(step)
        return "all refused"

    @app.register
    async def borrows(ctx: Any) -> str:
        with pytest.raises(ForeignContextError, match="careless"):
            kept["other"].run(square, 1)
        return "refused"

    @app.register
    async def lends(ctx: Any) -> None:
        kept["other"] = ctx
        await ctx.promise()

    async with app:
        assert await app.run("careless", careless) == "all refused"

        async def later() -> None:
            await kept["ctx"].run(square, 1)

        with pytest.raises(DurableError):
            await asyncio.create_task(later())
        lent = app.run("careless-2", lends)
        while "other" not in kept:
            await asyncio.sleep(0.01)
        assert await app.run("borrows", borrows) == "refused"
        await lent.cancel()
    assert issubclass(ExecutionOverError, DurableError)


async def test_a_closed_app_another_loop_and_another_thread_are_refused(tmp_path: Path) -> None:
    app = make(tmp_path)
    with pytest.raises(AppClosedError, match="not open yet"):
        app.run("x", "double", 1)
    async with app:
        await app.run("x", "double", 1)

        def elsewhere() -> None:
            with pytest.raises(WrongLoopError, match="thread"):
                app.run("y", "double", 1)

            async def other_loop() -> None:
                with pytest.raises(WrongLoopError):
                    await app.execution("x")

            asyncio.run(other_loop())

        await asyncio.to_thread(elsewhere)
        await app.start()  # idempotent
    with pytest.raises(AppClosedError, match="closed"):
        app.run("x", "double", 1)
    with pytest.raises(AppClosedError, match="closed"):
        app.get("x")
    with pytest.raises(AppClosedError, match="closed"):
        await app.execution("x")
    with pytest.raises(AppClosedError):
        async with app:
            pass
    await app.close()  # idempotent


@pytest.mark.parametrize("url", ["", "ftp://x", "sqlite://host/x.db", "sqlite:///", "http://", 7])
def test_a_url_that_names_no_engine_is_a_configuration_error(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="url="):
        Durable(url)


async def test_an_engine_that_does_not_answer_is_a_typed_error(tmp_path: Path) -> None:
    from resonate_base import ConnectorError

    (tmp_path / "folder.db").mkdir()
    with pytest.raises((DurableError, ConnectorError)) as caught:
        async with Durable(tmp_path / "folder.db"):
            pass
    assert "folder.db" in str(caught.value)
    with pytest.raises((DurableError, ConnectorError)):
        async with Durable(tmp_path / "no" / "such" / "directory" / "runs.db"):
            pass


async def test_memory_apps_forget_and_share_nothing() -> None:
    for _ in range(2):
        app = Durable("memory:")

        @app.register
        async def f(ctx: Any) -> int:
            return await ctx.run(square, 3)

        async with app:
            assert [record.id async for record in app.executions()] == []
            assert await app.run("f", f) == 9


class Distant:
    """An engine whose answers take a while."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def start(self) -> None:
        await self.inner.start()

    async def stop(self) -> None:
        await self.inner.stop()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        await asyncio.sleep(0.02)
        answer: str = await self.inner.send(req, headers)
        return answer


async def test_everybody_who_looks_for_what_does_not_exist_at_once_is_told(tmp_path: Path) -> None:
    async with Durable(tmp_path / "runs.db", intercept=Distant) as app:
        lookups = (app.get("nowhere").result() for _ in range(3))
        found = await asyncio.wait_for(asyncio.gather(*lookups, return_exceptions=True), 10)
    assert [type(error) for error in found] == [UnknownExecutionError] * 3


async def test_what_a_schedule_starts_runs_and_is_listed(tmp_path: Path) -> None:
    later_ms = 0

    def clock() -> int:
        return int(time.time() * 1000) + later_ms

    app = Durable(tmp_path / "runs.db", clock=clock)

    @app.register
    async def nightly(ctx: Any, number: int) -> int:
        return number + 1

    async with app:
        await app.engine.schedule("nightly", "* * * * *", "nightly", (41,))
        later_ms = 60_000
        async with asyncio.timeout(20):
            while not (found := [record async for record in app.executions(state="resolved")]):
                await asyncio.sleep(0.05)
        assert [(record.name, record.result) for record in found] == [("nightly", 42)]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
async def test_a_wait_that_cannot_be_is_refused_by_name(tmp_path: Path, timeout: Any) -> None:
    async with make(tmp_path) as app:
        with pytest.raises(InvalidArgumentError, match="timeout="):
            await app.run("x", "double", 1).result(timeout=timeout)


async def test_listeners_hear_the_end_of_whatever_they_heard_the_beginning_of(
    tmp_path: Path,
) -> None:
    app = Durable(tmp_path / "runs.db")
    open_ones: dict[str, str] = {}

    def listen(event: Any) -> None:
        if event.kind.value in {"step_started", "waiting"}:
            open_ones[event.step_id] = event.name
        elif event.kind.value in {"step_finished", "step_failed", "woken"}:
            open_ones.pop(event.step_id)

    async def leaves() -> None:
        raise SystemExit(3)

    @app.register
    async def gives_up(ctx: Any) -> str:
        for begun in (ctx.run(asyncio.sleep, 30), ctx.promise(), ctx.sleep(30)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await begun
        with contextlib.suppress(TimeoutError):
            await ctx.options(timeout=0.05).run(asyncio.sleep, 30)
        with contextlib.suppress(SystemExit):
            await ctx.run(leaves)
        return "done"

    app.add_listener(listen)
    async with app:
        assert await app.run("x", gives_up) == "done"
    assert open_ones == {}
