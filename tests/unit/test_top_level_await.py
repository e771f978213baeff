"""Top-level await: what is awaited, what is not, and what the fallback changes."""

from __future__ import annotations

import ast
import asyncio
import inspect
import time
import traceback
import warnings

import pytest

from executor import AsyncExecutor, ExecutionMode, NoteMessage

pytestmark = pytest.mark.unit


@pytest.fixture
async def executor():
    async with AsyncExecutor(execution_id="tla") as made:
        yield made


def test_the_flag_is_the_one_of_the_running_python() -> None:
    assert AsyncExecutor.PyCF_ALLOW_TOP_LEVEL_AWAIT == ast.PyCF_ALLOW_TOP_LEVEL_AWAIT == 0x2000


async def test_the_coroutine_flag_says_what_evaluates_to_a_coroutine() -> None:
    flags = compile("", "", "exec").co_flags | AsyncExecutor.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for source, awaits in (("await asyncio.sleep(0)", True), ("asyncio", False)):
        code = compile(source, "<test>", "exec", flags=flags)
        assert bool(code.co_flags & inspect.CO_COROUTINE) is awaits
        result = eval(code, {"asyncio": asyncio})
        assert inspect.iscoroutine(result) is awaits
        if awaits:
            await result


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ("await asyncio.sleep(0)", ExecutionMode.TOP_LEVEL_AWAIT),
        ("async with x: pass", ExecutionMode.TOP_LEVEL_AWAIT),
        ("[i async for i in x()]", ExecutionMode.TOP_LEVEL_AWAIT),
        ("async def f(): await g()", ExecutionMode.ASYNC_DEF),
        ("def f(): await g()", ExecutionMode.ASYNC_DEF),
        ("import time; time.sleep(1)", ExecutionMode.BLOCKING_SYNC),
        ("'await x'", ExecutionMode.SIMPLE_SYNC),
        ("x = (", ExecutionMode.SIMPLE_SYNC),
        ("\0", ExecutionMode.SIMPLE_SYNC),
        ("", ExecutionMode.SIMPLE_SYNC),
        (b"x", ExecutionMode.SIMPLE_SYNC),
        (None, ExecutionMode.SIMPLE_SYNC),
    ],
)
async def test_the_mode_of_a_cell_is_known_without_running_it(executor, source, mode) -> None:
    assert executor.analyze_execution_mode(source) is mode
    assert "f" not in executor.namespace.namespace


async def test_sequential_awaits_run_in_order(executor) -> None:
    source = "log = []\nfor i in range(3):\n    log.append(await asyncio.sleep(0, i))\nlog"
    assert await executor.execute(source) == [0, 1, 2]


async def test_a_simple_await_takes_under_a_quarter_of_a_second(executor) -> None:
    started_s = time.perf_counter()
    await executor.execute("await asyncio.sleep(0)")
    assert time.perf_counter() - started_s < 0.25


async def test_a_changed_function_is_reported_with_its_position(executor) -> None:
    await executor.execute("x = 1\nif x:\n    def f():\n        return await asyncio.sleep(0)")
    (note,) = [note for note in executor.notes if note.topic == "rewrite"]
    assert isinstance(note, NoteMessage)
    assert note.line == 3
    assert "line 3, column 5" in note.text
    assert "async def f" in note.text


async def test_a_changed_lambda_is_reported(executor) -> None:
    await executor.execute("f = lambda: await asyncio.sleep(0)")
    (note,) = [note for note in executor.notes if note.topic == "rewrite"]
    assert note.line == 1
    assert "lambda" in note.text


async def test_a_cell_that_cpython_accepts_is_never_changed(executor) -> None:
    await executor.execute("async def f():\n    def g(): pass\n    await g()")
    assert not [note for note in executor.notes if note.topic == "rewrite"]


async def test_tracebacks_in_changed_functions_point_at_the_users_lines(executor) -> None:
    source = "def f():\n    await asyncio.sleep(0)\n    return 1 / 0\nawait f()"
    with pytest.raises(ZeroDivisionError) as caught:
        await executor.execute(source)
    frames = traceback.extract_tb(caught.value.__traceback__)[1:]
    assert [(frame.lineno, frame.line) for frame in frames] == [
        (4, "await f()"),
        (3, "return 1 / 0"),
    ]


async def test_the_original_error_of_a_refused_cell_has_its_position(executor) -> None:
    with pytest.raises(SyntaxError) as caught:
        await executor.execute("class A:\n    def __init__(self):\n        await x")
    assert (caught.value.lineno, caught.value.offset) == (3, 9)
    assert caught.value.text.strip() == "await x"
    assert caught.value.filename.startswith("<sostenuto tla ")
    assert caught.value.filename.endswith(" cell 1>")


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\nx is 1",
        "x = '\\d'\nx",
        "assert (1, 'x')\n1",
        "x = 5\nawait asyncio.sleep(0)\nx is 5",
    ],
)
async def test_a_syntax_warning_is_given_once(executor, source) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await executor.execute(source)
    assert [warning.category for warning in caught] == [SyntaxWarning]


async def test_a_syntax_warning_is_given_once_in_a_changed_cell(executor) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await executor.execute("x = 1\ndef f(): return await y\nx is 1")
    assert [warning.category for warning in caught] == [SyntaxWarning]


async def test_a_timeout_runs_finally_blocks_and_cancels_children() -> None:
    async with AsyncExecutor(timeout=0.1) as executor:
        source = (
            "log = []\n"
            "async def child():\n"
            "    try: await asyncio.sleep(60)\n"
            "    except asyncio.CancelledError: log.append('child'); raise\n"
            "t = asyncio.create_task(child())\n"
            "try: await asyncio.sleep(60)\n"
            "finally: log.append('finally')"
        )
        with pytest.raises(TimeoutError) as caught:
            await executor.execute(source)
        assert await executor.execute("log") == ["finally", "child"]
        notes = "\n".join(caught.value.__notes__)
        assert "timed out after 0.1 seconds" in notes
        assert f"Execution ID: {executor.execution_id}" in notes
        assert source[:100] in notes
        assert source[:101] not in notes
        assert "line 6: try: await asyncio.sleep(60)" in notes
        assert f"Code length: {len(source)} characters" in notes
        assert "Execution mode: top_level_await" in notes


async def test_the_limit_of_a_call_goes_before_that_of_the_executor() -> None:
    async with AsyncExecutor(timeout=0.01) as executor:
        assert await executor.execute("await asyncio.sleep(0.05, 1)", timeout=None) == 1
        with pytest.raises(TimeoutError):
            await executor.execute("await asyncio.sleep(0.05, 1)")


@pytest.mark.parametrize(
    ("limit", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
async def test_a_limit_that_is_no_time_is_refused(executor, limit, error) -> None:
    with pytest.raises(error, match="timeout"):
        AsyncExecutor(timeout=limit)
    with pytest.raises(error, match="timeout"):
        await executor.execute("1", timeout=limit)


async def test_an_infinite_limit_is_none() -> None:
    async with AsyncExecutor(timeout=float("inf")) as executor:
        assert executor.timeout is None


async def test_a_swallowed_timeout_still_times_out(executor) -> None:
    source = "try: await asyncio.sleep(60)\nexcept asyncio.CancelledError: swallowed = True"
    with pytest.raises(TimeoutError):
        await executor.execute(source, timeout=0.05)
    assert await executor.execute("swallowed") is True


async def test_an_error_during_clean_up_is_the_cause_of_the_timeout(executor) -> None:
    with pytest.raises(TimeoutError) as caught:
        await executor.execute("try: await asyncio.sleep(60)\nfinally: 1/0", timeout=0.05)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_cell_that_never_ends_its_clean_up_is_left_behind(executor) -> None:
    source = "while True:\n    try: await asyncio.sleep(60)\n    except BaseException: pass"
    started_s = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        await executor.execute(source, timeout=0.1)
    assert time.monotonic() - started_s < 2
    assert "line 2" in "\n".join(caught.value.__notes__)
    assert await executor.execute("await asyncio.sleep(0, 1)") == 1


async def test_an_interrupt_stops_an_await_and_the_session_goes_on(executor) -> None:
    running = asyncio.create_task(executor.execute("try: await asyncio.sleep(60)\nfinally: x = 1"))
    await asyncio.sleep(0.01)
    assert await executor.interrupt()
    with pytest.raises(Exception, match="interrupted") as caught:
        await running
    assert "Execution mode: top_level_await" in caught.value.__notes__
    assert await executor.execute("x") == 1
    assert not await executor.interrupt()


async def test_cancelling_the_caller_stops_the_cell_and_stays_a_cancellation(executor) -> None:
    running = asyncio.create_task(executor.execute("try: await asyncio.sleep(60)\nfinally: x = 1"))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert await executor.execute("x") == 1


async def test_a_cell_that_swallows_it_does_not_swallow_its_callers_cancellation(executor) -> None:
    source = "try: await asyncio.sleep(60)\nexcept asyncio.CancelledError: pass\n5"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await executor.execute(source)
    assert await executor.execute("1") == 1


async def test_a_second_cancellation_does_not_wait_for_clean_up(executor) -> None:
    source = "try: await asyncio.sleep(60)\nfinally: await asyncio.sleep(60)"
    running = asyncio.create_task(executor.execute(source, timeout=None))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 1)


async def test_the_source_lines_of_a_function_outlive_the_compiled_cell(executor) -> None:
    f = await executor.execute("def f():\n    return 42\nf")
    for number in range(400):
        await executor.execute(f"y = {number}")
    assert inspect.getsource(f) == "def f():\n    return 42\n"


async def test_deep_nesting_is_a_syntax_error_that_says_where(executor) -> None:
    for source in ("(" * 5000 + ")" * 5000, "-" * 50_000 + "1", "x = " + "+".join(["1"] * 100_000)):
        with pytest.raises(SyntaxError) as caught:
            await executor.execute(source)
        assert caught.value.lineno == 1
    assert await executor.execute("1") == 1
