"""The session around the cells: order, output, tasks, errors, messages and its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import inspect
import linecache
import logging
import subprocess
import sys
import threading
import traceback
import warnings
import weakref

import pytest

import executor as package
from executor import (
    AsyncExecutor,
    ErrorMessage,
    ExecutionInterruptedError,
    ExecutorClosedError,
    NamespaceManager,
    NoteMessage,
    OutputMessage,
    ReentrantExecutionError,
    ResultMessage,
)
from executor.output import RoutedStream
from executor.turns import Turns

pytestmark = pytest.mark.unit


class Recorder:
    def __init__(self) -> None:
        self.messages = []

    def send(self, message) -> None:
        self.messages.append(message)

    def of(self, kind):
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def text(self) -> str:
        return "".join(message.text for message in self.of(OutputMessage))


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
async def executor(recorder):
    async with AsyncExecutor(transport=recorder, execution_id="s") as made:
        yield made


# -- order ---------------------------------------------------------------------------------------


async def test_concurrent_calls_run_in_the_order_of_the_calls(executor) -> None:
    cells = [f"await asyncio.sleep(0.00{9 - n})\nlog.append({n})" for n in range(8)]
    await executor.execute("log = []")
    await asyncio.gather(*(executor.execute(cell) for cell in cells))
    assert await executor.execute("log") == list(range(8))


async def test_a_cancelled_waiter_gives_its_turn_away(executor) -> None:
    first = asyncio.create_task(executor.execute("await asyncio.sleep(0.02)"))
    second = asyncio.create_task(executor.execute("never = 1"))
    third = asyncio.create_task(executor.execute("3"))
    await asyncio.sleep(0)
    second.cancel()
    assert await third == 3
    assert await first is None
    assert "never" not in executor.namespace.namespace


async def test_two_executors_run_concurrently_and_share_nothing() -> None:
    one, two = Recorder(), Recorder()
    async with AsyncExecutor(transport=one) as a, AsyncExecutor(transport=two) as b:
        await a.execute("ready, go = asyncio.Event(), asyncio.Event()")
        b.namespace.update_namespace({"go": a.namespace.namespace["go"]})
        waits = asyncio.create_task(a.execute("print('a1'); await go.wait(); print('a2'); x = 'a'"))
        await asyncio.sleep(0.01)
        await b.execute("print('b'); x = 'b'; go.set()")
        await waits
        assert (one.text, two.text) == ("a1\na2\n", "b\n")
        assert (await a.execute("x"), await b.execute("x")) == ("a", "b")


async def test_a_cell_that_calls_its_own_executor_is_told(executor) -> None:
    executor.namespace.update_namespace({"ex": executor})
    with pytest.raises(ReentrantExecutionError, match="one cell at a time"):
        await executor.execute("await ex.execute('1')")
    with pytest.raises(ReentrantExecutionError):
        await executor.execute("await asyncio.gather(ex.execute('1'))")
    with pytest.raises(ReentrantExecutionError):
        await executor.execute("await ex.aclose()")
    assert await executor.execute("2") == 2


async def test_a_task_that_outlives_its_cell_may_call_the_executor(executor) -> None:
    executor.namespace.update_namespace({"ex": executor})
    await executor.execute(
        "async def later():\n    await asyncio.sleep(0.01)\n    return await ex.execute('7')\n"
        "t = asyncio.create_task(later())"
    )
    assert await executor.namespace.namespace["t"] == 7


# -- messages ------------------------------------------------------------------------------------


async def test_output_and_result_are_sent_as_they_come(executor, recorder) -> None:
    await executor.execute("print('out')\nimport sys\nprint('err', file=sys.stderr)\n42")
    kinds = [(type(m), m.execution_id, m.cell) for m in recorder.messages]
    assert kinds[-1] == (ResultMessage, "s", 1)
    assert [(m.stream, m.text) for m in recorder.of(OutputMessage) if m.text.strip()] == [
        ("stdout", "out"),
        ("stderr", "err"),
    ]
    assert recorder.of(ResultMessage)[0].value == 42


async def test_output_arrives_while_the_cell_runs(executor, recorder) -> None:
    running = asyncio.create_task(executor.execute("print('now'); await asyncio.sleep(60)"))
    await asyncio.sleep(0.01)
    assert recorder.text == "now\n"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_error_is_sent_with_its_notes(executor, recorder) -> None:
    with pytest.raises(ZeroDivisionError):
        await executor.execute("1/0")
    (message,) = recorder.of(ErrorMessage)
    assert isinstance(message.error, ZeroDivisionError)
    assert "Execution ID: s" in message.error.__notes__


async def test_messages_are_frozen(executor, recorder) -> None:
    await executor.execute("1")
    with pytest.raises(AttributeError):
        recorder.messages[0].cell = 5


async def test_an_asynchronous_transport_gets_all_messages_in_order() -> None:
    got = []

    class Slow:
        async def send(self, message) -> None:
            await asyncio.sleep(0.001)
            got.append(message)

    async with AsyncExecutor(transport=Slow()) as executor:
        await executor.execute("for i in range(5): print(i)\n'end'")
        assert "".join(m.text for m in got[:-1]) == "0\n1\n2\n3\n4\n"
        assert got[-1].value == "end"


async def test_a_transport_that_fails_harms_no_cell(caplog) -> None:
    class Broken:
        def send(self, message) -> None:
            raise RuntimeError("broken")

    class BrokenLater:
        async def send(self, message) -> None:
            raise RuntimeError("broken later")

    for transport in (Broken(), BrokenLater()):
        with caplog.at_level(logging.ERROR):
            async with AsyncExecutor(transport=transport) as executor:
                assert await executor.execute("print('x')\n5") == 5
        assert "transport" in caplog.text
        caplog.clear()


async def test_a_transport_that_prints_does_not_feed_itself(capsys) -> None:
    class Printing:
        def send(self, message) -> None:
            print("sent", type(message).__name__)

    async with AsyncExecutor(transport=Printing()) as executor:
        await executor.execute("print('x', end='')")
    assert capsys.readouterr().out == "sent OutputMessage\n"


async def test_without_a_transport_output_goes_where_it_always_went(capsys) -> None:
    async with AsyncExecutor() as executor:
        await executor.execute("print('plain')")
        assert not isinstance(sys.stdout, RoutedStream)
    assert capsys.readouterr().out == "plain\n"


async def test_host_output_beside_a_cell_stays_the_hosts(executor, recorder, capsys) -> None:
    running = asyncio.create_task(executor.execute("await asyncio.sleep(0.02); print('cell')"))
    await asyncio.sleep(0.001)
    print("host")
    await running
    assert recorder.text == "cell\n"
    assert capsys.readouterr().out == "host\n"


async def test_the_streams_are_put_back_when_the_last_executor_closes() -> None:
    before = sys.stdout, sys.stderr, threading.Thread.start
    one = AsyncExecutor(transport=Recorder())
    two = AsyncExecutor(transport=Recorder())
    assert isinstance(sys.stdout, RoutedStream)
    await one.aclose()
    assert isinstance(sys.stdout, RoutedStream)
    await two.aclose()
    assert (sys.stdout, sys.stderr, threading.Thread.start) == before


async def test_output_after_the_end_goes_to_the_original_stream(capsys) -> None:
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder) as executor:
        out = await executor.execute("import sys\nsys.stdout")
    out.write("late\n")
    assert capsys.readouterr().out == "late\n"
    assert recorder.text == ""


async def test_pool_threads_carry_the_cell_of_each_piece_of_work() -> None:
    one, two = Recorder(), Recorder()
    async with AsyncExecutor(transport=one) as a, AsyncExecutor(transport=two) as b:
        source = "await asyncio.get_running_loop().run_in_executor(None, print, '{}')"
        for _ in range(10):
            await a.execute(source.format("a"))
            await b.execute(source.format("b"))
    assert set(one.text) == {"a", "\n"}
    assert set(two.text) == {"b", "\n"}


async def test_threads_of_threads_belong_to_the_cell(executor, recorder) -> None:
    await executor.execute(
        "import threading\n"
        "def inner(): print('inner')\n"
        "def outer():\n    t = threading.Thread(target=inner); t.start(); t.join()\n"
        "t = threading.Thread(target=outer); t.start(); t.join()"
    )
    assert recorder.text == "inner\n"


def test_warnings_reach_the_transport() -> None:
    # In a process of its own, since pytest takes warnings before they are written.
    script = (
        "import asyncio\nfrom executor import AsyncExecutor\n"
        "class T:\n    def send(self, m): got.append(m)\n"
        "got = []\n"
        "async def main():\n"
        "    async with AsyncExecutor(transport=T()) as ex:\n"
        "        await ex.execute(\"import warnings; warnings.warn('careful')\")\n"
        "asyncio.run(main())\n"
        "print([m.stream for m in got if 'careful' in m.text])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['stderr']\n", "")


async def test_a_stream_proxy_behaves_like_its_target(executor, recorder) -> None:
    values = await executor.execute(
        "import sys\n"
        "s = sys.stdout\n"
        "s.writelines(['a', 'b']); s.flush(); s.close()\n"
        "s.isatty(), s.writable(), s.closed, s.encoding, bool(s.errors), s.buffer.writable()"
    )
    assert values == (False, True, False, values[3], values[4], True)
    assert recorder.text == "ab"
    with pytest.raises(TypeError, match="must be str"):
        await executor.execute("s.write(b'x')")


# -- tasks ---------------------------------------------------------------------------------------


async def test_tasks_live_on_are_listed_and_end_with_the_executor(recorder) -> None:
    executor = AsyncExecutor(transport=recorder)
    task = await executor.execute(
        "log = []\n"
        "async def bg():\n    try: await asyncio.sleep(60)\n    finally: log.append('end')\n"
        "asyncio.create_task(bg())"
    )
    await asyncio.sleep(0)
    assert executor.tasks == [task]
    await executor.aclose()
    assert task.cancelled()
    assert executor.namespace.namespace["log"] == ["end"]
    assert executor.tasks == []


async def test_a_failed_task_is_reported_once_with_its_cell(executor, recorder) -> None:
    await executor.execute("1")
    await executor.execute("async def boom(): 1/0\nt = asyncio.create_task(boom(), name='bad')")
    await asyncio.sleep(0.01)
    await executor.execute("2")
    (message,) = recorder.of(ErrorMessage)
    assert (message.cell, message.task, type(message.error)) == (2, "bad", ZeroDivisionError)
    assert any("cell 2" in note for note in message.error.__notes__)
    assert [note.cell for note in recorder.of(NoteMessage) if note.topic == "task"] == [2]


async def test_a_failure_that_somebody_takes_is_not_reported(executor, recorder) -> None:
    await executor.execute(
        "async def boom(): raise ValueError\n"
        "t = asyncio.create_task(boom())\n"
        "await asyncio.wait([t])\n"
        "type(t.exception())\n"
    )
    await executor.execute(
        "try: await asyncio.gather(boom(), boom())\nexcept ValueError: caught = True"
    )
    await asyncio.sleep(0.01)
    assert [type(m.error) for m in recorder.of(ErrorMessage)] == [ValueError] * len(
        recorder.of(ErrorMessage)
    )
    assert len(recorder.of(ErrorMessage)) <= 1


async def test_a_failure_is_reported_at_the_end_of_a_cell_that_held_on_to_it(
    executor, recorder
) -> None:
    await executor.execute(
        "async def boom(): 1/0\nt = asyncio.create_task(boom())\nawait asyncio.sleep(0.01)"
    )
    assert len(recorder.of(ErrorMessage)) == 1


async def test_without_a_transport_a_failed_task_goes_to_the_loops_handler() -> None:
    seen = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context))
    async with AsyncExecutor(execution_id="quiet") as executor:
        await executor.execute("async def boom(): 1/0\nt = asyncio.create_task(boom())")
        await asyncio.sleep(0.01)
    assert len(seen) == 1
    assert "cell 1 of session quiet" in seen[0]["message"]


async def test_a_failure_left_at_the_end_is_reported_by_aclose(recorder) -> None:
    executor = AsyncExecutor(transport=recorder)
    await executor.execute(
        "async def bad():\n    try: await asyncio.sleep(60)\n    finally: 1/0\n"
        "t = asyncio.create_task(bad())\nawait asyncio.sleep(0)"
    )
    await executor.aclose()
    assert [type(m.error) for m in recorder.of(ErrorMessage)] == [ZeroDivisionError]


async def test_a_task_that_refuses_to_end_does_not_hold_up_the_end(recorder) -> None:
    executor = AsyncExecutor(transport=recorder)
    await executor.execute(
        "stop = asyncio.Event()\n"
        "async def bad():\n"
        "    while not stop.is_set():\n"
        "        try: await asyncio.wait_for(stop.wait(), 60)\n"
        "        except asyncio.CancelledError: pass\n"
        "t = asyncio.create_task(bad())\nawait asyncio.sleep(0)"
    )
    await asyncio.wait_for(executor.aclose(), 5)
    executor.namespace.namespace["stop"].set()
    await executor.namespace.namespace["t"]


async def test_tasks_of_the_host_are_none_of_the_sessions(executor) -> None:
    host = asyncio.create_task(asyncio.sleep(60))
    await executor.execute("await asyncio.sleep(0)")
    assert executor.tasks == []
    host.cancel()


async def test_the_loops_own_task_factory_is_kept_and_put_back() -> None:
    made = []

    def factory(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    async with AsyncExecutor() as executor:
        await executor.execute("await asyncio.create_task(asyncio.sleep(0))")
        assert len(made) == 1
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)


async def test_tasks_keep_their_names(executor) -> None:
    names = await executor.execute(
        "a = asyncio.create_task(asyncio.sleep(0))\n"
        "b = asyncio.create_task(asyncio.sleep(0), name='n')\n"
        "await a; await b\na.get_name(), b.get_name()"
    )
    assert names[0].startswith("Task-")
    assert names[1] == "n"


# -- errors --------------------------------------------------------------------------------------


async def test_no_frame_of_the_package_is_in_a_traceback(executor) -> None:
    for source in (
        "1/0",
        "await asyncio.sleep(0)\n1/0",
        "import time; time.sleep(0); 1/0",
        "raise StopIteration",
        "x =",
    ):
        with pytest.raises(Exception) as caught:
            await executor.execute(source)
        error = caught.value
        while error is not None:
            files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            assert not [name for name in files if name.startswith(package.__path__[0])]
            error = error.__cause__ or error.__context__


async def test_tracebacks_show_the_lines_and_name_session_and_cell() -> None:
    executor = AsyncExecutor(execution_id="lines")
    await executor.execute("0")
    with pytest.raises(ZeroDivisionError) as caught:
        await executor.execute("def f():\n    return 1 / 0\nf()")
    linecache.checkcache()
    frames = traceback.extract_tb(caught.value.__traceback__)[1:]
    assert [(frame.filename, frame.lineno, frame.line) for frame in frames] == [
        ("<sostenuto lines cell 2>", 3, "f()"),
        ("<sostenuto lines cell 2>", 2, "return 1 / 0"),
    ]
    await executor.aclose()


async def test_a_repeated_cell_says_whose_source_it_repeats(executor) -> None:
    for number in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            await executor.execute("1/0")
        assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "1/0"
        repeats = "Cell 2 repeats the source of cell 1" in caught.value.__notes__
        assert repeats is bool(number)


async def test_every_error_has_the_three_notes(executor) -> None:
    for source in ("1/0", "await asyncio.sleep(0); 1/0", "x = (", "raise SystemExit"):
        with pytest.raises(BaseException) as caught:
            await executor.execute(source)
        notes = caught.value.__notes__
        assert notes[0] == "Execution ID: s"
        assert notes[1] == f"Code length: {len(source)} characters"
        assert notes[2].startswith("Execution mode: ")


async def test_an_error_raised_twice_has_its_notes_once(executor) -> None:
    await executor.execute("e = ValueError('again')")
    for _ in range(2):
        with pytest.raises(ValueError, match="again") as caught:
            await executor.execute("raise e")
    assert [note for note in caught.value.__notes__ if "Execution ID" in note] == [
        "Execution ID: s"
    ]


async def test_the_context_of_an_error_is_the_cells_own(executor) -> None:
    try:
        raise KeyError("host")
    except KeyError:
        with pytest.raises(ValueError, match="b") as caught:
            await executor.execute("try: 1/0\nexcept ZeroDivisionError: raise ValueError('b')")
    assert isinstance(caught.value.__context__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("source", "error", "message", "position"),
    [
        (b"1", TypeError, "must be a str, not bytes", None),
        (None, TypeError, "not NoneType", None),
        (5, TypeError, "not int", None),
        ("a\nb\0c", SyntaxError, "null character", (2, 2)),
        ("a\nbc\ud800", SyntaxError, "lone surrogate", (2, 3)),
        ("x = 1\n" * 2_000_000, SyntaxError, "too long", (349526, 3)),
        ("x = 'a" + "b" * 10_000_000 + "'", SyntaxError, "too long", (1, 2097153)),
        ("\n" * 3 + "if x:", SyntaxError, "expected an indented block", (4, 6)),
    ],
)
async def test_bad_source_is_refused_with_its_place(
    executor, source, error, message, position
) -> None:
    with pytest.raises(error, match=message) as caught:
        await executor.execute(source)
    if position is not None:
        assert (caught.value.lineno, caught.value.offset) == position
    assert await executor.execute("1") == 1


@pytest.mark.parametrize(
    "source",
    ["x = 1\r\nx", "x = 1\rx", "\tx\n".lstrip() + "\f\nx", "# coding: latin-1\nx = 'é'\nx"],
)
async def test_line_ends_form_feeds_and_coding_comments_are_read_as_python_reads_them(
    source,
) -> None:
    async with AsyncExecutor() as executor:
        executor.namespace.update_namespace({"x": 1})
        assert await executor.execute(source) in (1, "é")


async def test_lines_are_counted_as_python_counts_them(executor) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await executor.execute("a = '\x0b\x1c\u2028'\r\n\x0c\r\n1/0")
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "1/0"


# -- what is kept --------------------------------------------------------------------------------


async def test_nothing_of_a_cell_is_kept_alive_but_its_names_and_results(
    executor, recorder
) -> None:
    await executor.execute("class Thing: pass\nimport weakref")
    reference = await executor.execute("def f():\n    t = Thing()\n    return weakref.ref(t)\nf()")
    with pytest.raises(ValueError, match="x"):
        await executor.execute(
            "def g():\n    global r\n    t = Thing()\n    r = weakref.ref(t)\n"
            "    raise ValueError('x')\ng()"
        )
    recorder.messages.clear()
    gc.collect()
    assert reference() is None
    assert executor.namespace.namespace["r"]() is None


async def test_lines_and_compiled_cells_are_dropped_with_their_code() -> None:
    gc.collect()
    before = len(linecache.cache)
    async with AsyncExecutor(execution_id="many cells") as executor:
        for number in range(1000):
            await executor.execute(f"z = {number}")
        assert len(linecache.cache) - before <= 300
    gc.collect()
    assert not [name for name in linecache.cache if name.startswith("<sostenuto many cells")]


async def test_two_sessions_of_one_name_keep_their_lines_apart() -> None:
    async with AsyncExecutor(execution_id="same") as a, AsyncExecutor(execution_id="same") as b:
        await a.execute("def f(): return 1/0")
        await b.execute("def g():\n    return 2/0")
        for executor, call, line in ((a, "f()", "def f(): return 1/0"), (b, "g()", "return 2/0")):
            with pytest.raises(ZeroDivisionError) as caught:
                await executor.execute(call)
            assert traceback.extract_tb(caught.value.__traceback__)[-1].line == line


async def test_a_namespace_dies_with_its_executor() -> None:
    class Thing:
        pass

    executor = AsyncExecutor()
    thing = Thing()
    executor.namespace.update_namespace({"thing": thing})
    await executor.execute("await asyncio.sleep(0)\nthing;")
    await executor.aclose()
    reference = weakref.ref(thing)
    del executor, thing
    gc.collect()
    assert reference() is None


# -- the end -------------------------------------------------------------------------------------


async def test_a_closed_executor_refuses_cells_and_closes_again() -> None:
    executor = AsyncExecutor()
    await executor.aclose()
    await executor.aclose()
    assert executor.is_closed
    with pytest.raises(ExecutorClosedError, match="closed"):
        await executor.execute("1")


async def test_closing_stops_the_running_cell_and_refuses_the_waiting_ones() -> None:
    executor = AsyncExecutor()
    running = asyncio.create_task(executor.execute("await asyncio.sleep(60)"))
    waiting = asyncio.create_task(executor.execute("1"))
    await asyncio.sleep(0.01)
    await executor.aclose()
    with pytest.raises(ExecutionInterruptedError):
        await running
    with pytest.raises(ExecutorClosedError):
        await waiting


def test_an_executor_follows_its_session_to_another_loop() -> None:
    executor = AsyncExecutor()
    assert asyncio.run(executor.execute("await asyncio.sleep(0, 1)")) == 1
    assert asyncio.run(executor.execute("await asyncio.sleep(0, 2)")) == 2
    asyncio.run(executor.aclose())


async def test_an_executor_has_a_name_of_its_own() -> None:
    one, two = AsyncExecutor(), AsyncExecutor(NamespaceManager(), None, "mine")
    assert one.execution_id != two.execution_id == "mine"
    await one.aclose()
    await two.aclose()


async def test_notes_say_where_a_cell_ran(executor, recorder) -> None:
    assert executor.notes == ()
    await executor.execute("1")
    assert executor.notes[0].text.startswith("simple_sync: ")
    await executor.execute("import time; time.sleep(0)")
    assert executor.notes[0].text.startswith("blocking_sync: ")
    assert [note.topic for note in recorder.of(NoteMessage)] == ["routing"]


async def test_a_cell_is_routed_anew_when_its_names_mean_something_else(executor) -> None:
    await executor.execute("import time\ndef work(n): return n")
    for _ in range(3):
        await executor.execute("work(0)")
        assert executor.notes[0].text.startswith("simple_sync")
    await executor.execute("def work(n): return time.sleep(n)")
    for _ in range(3):
        await executor.execute("work(0)")
        assert executor.notes[0].text.startswith("blocking_sync")


async def test_programs_without_a_console_can_still_send_output(monkeypatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(sys, "stdout", None)
    async with AsyncExecutor(transport=recorder) as executor:
        await executor.execute("print('seen')")
        proxy = sys.stdout
        assert proxy.write("nowhere") == 7
        assert proxy.isatty() is False
        assert proxy.closed is False
        with pytest.raises(OSError, match="fileno"):
            proxy.fileno()
    assert sys.stdout is None
    assert recorder.text == "seen\n"


async def test_output_follows_a_host_that_replaces_its_streams(executor, recorder, capsys) -> None:
    await executor.execute("print('one')")
    with capsys.disabled():
        pass
    previous = sys.stdout
    sys.stdout = sys.__stdout__
    try:
        await executor.execute("print('two')")
        assert isinstance(sys.stdout, RoutedStream)
    finally:
        sys.stdout = previous
    assert recorder.text == "one\ntwo\n"


async def test_a_stream_that_a_cell_chose_stays(executor, recorder) -> None:
    await executor.execute("import io, sys; kept = sys.stdout; sys.stdout = io.StringIO()")
    await executor.execute("print('mine')")
    assert await executor.execute("t = sys.stdout.getvalue(); sys.stdout = kept; t") == "mine\n"
    assert recorder.text == ""


async def test_a_turn_that_comes_together_with_a_cancellation_is_handed_on() -> None:
    turns = Turns()
    await turns.enter()
    second = asyncio.create_task(turns.enter())
    third = asyncio.create_task(turns.enter())
    await asyncio.sleep(0)
    turns.leave()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.wait_for(third, 1)
    turns.leave()
    assert not turns.is_taken


@pytest.mark.parametrize(
    "source",
    [
        "await asyncio.sleep(0)",
        "await asyncio.sleep(0.0001)",
        "await asyncio.sleep(0); 1 / 0",
        "def f(): return [n for n in range(3)]\nf()",
        "def f(): await asyncio.sleep(0)\nawait f()",
        "import time; time.sleep(0); object()",
        "import time; time.sleep(0); 1 / 0",
    ],
)
async def test_no_cell_leaves_a_reference_cycle_behind(executor, source) -> None:
    async def run(count: int) -> None:
        for number in range(count):
            with contextlib.suppress(ZeroDivisionError):
                await executor.execute(f"{source}  # {number}")

    await run(20)
    gc.collect()
    gc.disable()
    try:
        await run(50)
        assert gc.collect() < 50
    finally:
        gc.enable()


async def test_lines_stay_for_functions_whose_cell_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr("executor.compiler._MAX_CACHED_CELLS", 2)
    async with AsyncExecutor(execution_id="forgotten") as executor:
        await executor.execute("def outer():\n    def inner(): return 1 / 0\n    return inner")
        await executor.execute("inner = outer()\ndel outer")
        for number in range(5):
            await executor.execute(f"x = {number}")
        inner = executor.namespace.namespace["inner"]
        assert inspect.getsource(inner).strip() == "def inner(): return 1 / 0"
    assert inspect.getsource(inner).strip() == "def inner(): return 1 / 0"
    executor.namespace.namespace.clear()
    del inner
    gc.collect()
    assert not [name for name in linecache.cache if name.startswith("<sostenuto forgotten")]


async def test_a_session_that_nobody_closed_leaves_no_lines_behind() -> None:
    executor = AsyncExecutor(execution_id="left open")
    await executor.execute("def f(): return 1")
    await executor.execute("[n for n in range(3)]")
    del executor
    gc.collect()
    assert not [name for name in linecache.cache if name.startswith("<sostenuto left open")]


async def test_a_subclass_of_str_is_run_as_the_text_it_holds(executor) -> None:
    class Text(str):
        __slots__ = ()

        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    assert await executor.execute(Text("1 + 1")) == 2


async def test_a_cleared_line_cache_does_not_stop_a_session(executor) -> None:
    await executor.execute("def f(): return 1")
    linecache.clearcache()
    assert await executor.execute("f()") == 1


async def test_what_the_compiler_warns_of_is_output_of_the_cell(executor, recorder, monkeypatch):
    def show(message, *_, **__):
        sys.stderr.write(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        await executor.execute("x = 1 is 1")
    (warning,) = recorder.of(OutputMessage)
    assert (warning.stream, warning.cell) == ("stderr", 1)
    assert '"is" with' in warning.text


async def test_bytes_and_lines_written_to_the_standard_streams_are_output_too(
    executor, recorder
) -> None:
    await executor.execute(
        "import sys\n"
        "sys.stdout.writelines(['a\\n', 'b\\n'])\n"
        "written = sys.stdout.buffer.write('é'.encode())\n"
        "sys.stdout.buffer.writable(), sys.stdout.close()"
    )
    assert recorder.text == "a\nb\né"
    assert await executor.execute("written, sys.stdout.closed, sys.stdout.isatty()") == (
        2,
        sys.stdout.closed,
        False,
    )


async def test_a_program_without_a_console_can_capture_its_cells(recorder, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    async with AsyncExecutor(transport=recorder) as executor:
        await executor.execute("print('seen')")
        assert sys.stdout.write("nowhere") == 7
        with pytest.raises(OSError, match="fileno"):
            sys.stdout.fileno()
        assert sys.stdout.closed is False
    assert sys.stdout is None
    assert recorder.text == "seen\n"


async def test_deep_source_is_refused_where_it_is_deepest(executor) -> None:
    with pytest.raises(SyntaxError) as caught:
        await executor.execute("x = 1\n" + "(" * 150 + "1" + ")" * 150 + "\n" + "-" * 100_000 + "1")
    assert caught.value.lineno is not None
    assert await executor.execute("1") == 1


async def test_only_text_is_written_to_a_routed_stream(executor, recorder) -> None:
    with pytest.raises(TypeError, match="must be str, not bytes"):
        await executor.execute("import sys; sys.stdout.write(b'x')")
    assert await executor.execute("sys.stdout.write(''), sys.stdout.writable()") == (0, True)
    assert not recorder.of(OutputMessage)


async def test_the_hosts_own_work_in_a_pool_prints_where_it_always_did(capsys, recorder) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        async with AsyncExecutor(transport=recorder) as executor:
            executor.namespace.namespace["pool"] = pool
            await executor.execute("pool.submit(print, 'of the cell').result()")
            pool.submit(print, "of the host").result()
    assert [message.text for message in recorder.of(OutputMessage)] == ["of the cell", "\n"]
    assert capsys.readouterr().out == "of the host\n"


async def test_a_half_made_stream_has_no_target_to_ask() -> None:
    assert not hasattr(RoutedStream.__new__(RoutedStream), "anything")
