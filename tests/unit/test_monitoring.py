"""Which calls of a cell held the event loop, and what the process remembers of it."""

import ast
import asyncio
import contextvars
import linecache
import sys
import threading
import time
from inspect import CO_COROUTINE

import pytest

from executor import AsyncExecutor, ExecutionMode
from executor.instrumentation import tool_id
from executor.monitoring import Experience, LoopWatch, Stall, current_watch, experience, observe
from executor.source import nested_codes

pytestmark = pytest.mark.unit

FILENAME = "<monitored cell>"


async def run_watched(source, namespace=None, threshold_s=0.02, clock=time.perf_counter):
    """Run the source on this loop under a watch and return what it noted."""
    code = compile(source, FILENAME, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    linecache.cache[FILENAME] = (len(source), None, source.splitlines(keepends=True), FILENAME)
    assert observe([code])
    watch = LoopWatch(threshold_s, clock)
    token = current_watch.set(watch)
    try:
        result = eval(code, {} if namespace is None else namespace)
        if code.co_flags & CO_COROUTINE:
            await result
    finally:
        watch.leave()
        current_watch.reset(token)
    return watch.stalls


async def test_a_blocking_call_is_noted_with_its_name_its_line_and_its_duration():
    stalls = await run_watched("import asyncio, time\nawait asyncio.sleep(0)\ntime.sleep(0.05)\n")
    assert [(each.call, each.line) for each in stalls] == [("time.sleep", 3)]
    assert 0.05 <= stalls[0].elapsed_s < 1
    assert "time.sleep(0.05)" in str(stalls[0])
    assert "line 3" in str(stalls[0])


async def test_awaiting_is_not_a_stall():
    assert await run_watched("import asyncio\nawait asyncio.sleep(0.1)\n") == []


async def test_work_of_other_tasks_while_the_cell_awaits_is_not_its_stall():
    async def busy():
        time.sleep(0.06)

    task = asyncio.create_task(busy())
    assert await run_watched("import asyncio\nawait asyncio.sleep(0.01)\n") == []
    await task


async def test_a_blocking_call_in_a_function_of_the_cell_is_found_at_its_own_line():
    source = "import asyncio, time\ndef f():\n    time.sleep(0.05)\nawait asyncio.sleep(0)\nf()\n"
    stalls = await run_watched(source)
    assert [(each.call, each.line) for each in stalls] == [("time.sleep", 3)]


async def test_a_blocking_call_inside_an_awaited_coroutine_is_found():
    source = (
        "import asyncio, time\n"
        "async def f():\n"
        "    time.sleep(0.05)\n"
        "    await asyncio.sleep(0.05)\n"
        "await f()\n"
    )
    stalls = await run_watched(source)
    assert [(each.call, each.line) for each in stalls] == [("time.sleep", 3)]


async def test_a_blocking_call_in_a_task_of_the_cell_is_found():
    source = (
        "import asyncio, time\n"
        "async def f():\n"
        "    time.sleep(0.05)\n"
        "await asyncio.gather(f(), asyncio.sleep(0.01))\n"
    )
    stalls = await run_watched(source)
    assert [(each.call, each.line) for each in stalls] == [("time.sleep", 3)]


async def test_a_slow_library_function_written_in_python_is_named():
    source = (
        "import asyncio, subprocess, sys\n"
        "await asyncio.sleep(0)\n"
        "subprocess.run([sys.executable, '-c', ''])\n"
        "await asyncio.sleep(0)\n"
    )
    stalls = await run_watched(source, threshold_s=0.001)
    assert ("subprocess.run", 3) in [(each.call, each.line) for each in stalls]


async def test_a_call_that_raises_after_a_while_is_noted():
    source = (
        "import asyncio, queue\n"
        "await asyncio.sleep(0)\n"
        "try:\n"
        "    queue.SimpleQueue().get(timeout=0.05)\n"
        "except queue.Empty:\n"
        "    pass\n"
    )
    stalls = await run_watched(source)
    assert [each.line for each in stalls] == [4]


async def test_a_hostile_callable_does_no_harm_to_the_note():
    class Hostile:
        def __getattribute__(self, name):
            raise ValueError(name)

        def __call__(self):
            time.sleep(0.05)

    stalls = await run_watched("hostile()\n", {"hostile": Hostile()})
    assert stalls[0].line == 1
    assert "Hostile" in stalls[0].call


async def test_a_loop_of_many_slow_calls_makes_a_short_list():
    stalls = await run_watched("import time\nfor _ in range(20): time.sleep(0.003)\n", None, 0.001)
    assert len(stalls) == 8


async def test_a_hot_loop_is_soon_left_alone_and_the_calls_after_it_are_not():
    timed = []

    def clock():
        timed.append(None)
        return time.perf_counter()

    source = (
        "import time\ndef f():\n    for _ in range(60_000): len('')\n    time.sleep(0.05)\nf()\n"
    )
    assert [each.call for each in await run_watched(source, clock=clock)] == ["time.sleep"]
    assert len(timed) < 3_000


async def test_very_many_calls_at_many_places_are_left_alone_together():
    source = "def f():\n    for _ in range(700):\n" + "        len('')\n" * 100 + "f()\n"
    namespace = {}
    await run_watched(source, namespace)
    events = sys.monitoring.get_local_events(tool_id(), namespace["f"].__code__)
    assert not events & sys.monitoring.events.CALL


async def test_a_place_that_was_left_alone_is_timed_again_when_the_cell_is_repeated():
    source = "for pause_s in pauses: time.sleep(pause_s)\nawait asyncio.sleep(0)"
    async with AsyncExecutor() as ex:
        await ex.execute("import time\npauses = [0] * 5_000 + [0.15]")
        await ex.execute(source)
        assert [each.topic for each in ex.notes] == ["routing"]
        await ex.execute("pauses = [0.15]")
        await ex.execute(source)
        assert "time.sleep" in next(each.text for each in ex.notes if each.topic == "stall")
    experience.forget()


LAST_CALLS_OF_A_TURN = {
    "task": (
        "async def last():\n"
        "    await asyncio.sleep(0)\n"
        "    textwrap.dedent('x')\n"
        "task = asyncio.create_task(last())\n"
    ),
    "failing task": (
        "async def last():\n"
        "    await asyncio.sleep(0)\n"
        "    textwrap.dedent(None)\n"
        "task = asyncio.create_task(last())\n"
        "task.add_done_callback(lambda task: task.exception())\n"
    ),
    "callback": (
        "def last():\n    textwrap.dedent('x')\nasyncio.get_running_loop().call_later(0.01, last)\n"
    ),
    "protocol": (
        "import socket\n"
        "ours, theirs = socket.socketpair()\n"
        "class Last(asyncio.Protocol):\n"
        "    def data_received(self, data):\n"
        "        len(data)\n"
        "        textwrap.dedent('x')\n"
        "loop = asyncio.get_running_loop()\n"
        "transport, _ = await loop.create_connection(Last, sock=ours)\n"
        "theirs.send(b'x')\n"
        "await asyncio.sleep(0.15)\n"
        "theirs.send(b'x')\n"
    ),
}


@pytest.mark.parametrize("setup", LAST_CALLS_OF_A_TURN.values(), ids=LAST_CALLS_OF_A_TURN)
async def test_a_loop_that_idles_after_the_last_call_of_a_turn_has_not_stalled(setup):
    source = f"import asyncio, textwrap\n{setup}await asyncio.sleep(0.15)\nstr(1)"
    async with AsyncExecutor() as ex:
        assert await ex.execute(source) == "1"
        assert [each.topic for each in ex.notes] == ["routing"], ex.notes
        await ex.execute("if 'transport' in globals(): transport.close(); theirs.close()")


async def test_observed_code_runs_the_same_without_a_watch():
    namespace = {}
    source = "def f(x):\n    return [str(i) for i in range(x)]\n"
    await run_watched(source, namespace)
    assert namespace["f"](3) == ["0", "1", "2"]


def test_functions_classes_and_generators_of_a_cell_are_among_its_code():
    source = "class A:\n    def m(self): return (x for x in y)\nf = lambda: 1\n"
    code = compile(source, FILENAME, "exec")
    names = {each.co_name for each in nested_codes(code)}
    assert names == {"<module>", "A", "m", "<genexpr>", "<lambda>"}


STALL = Stall(FILENAME, 1, "time.sleep", 0.2)


def test_a_source_that_stalled_is_recalled():
    experience = Experience()
    experience.learn("time.sleep(1)", [STALL])
    assert experience.recall("time.sleep(1)") == (STALL,)
    assert experience.recall("time.sleep(2)") == ()


def test_a_run_without_stalls_teaches_nothing():
    experience = Experience()
    experience.learn("x", [])
    assert experience.recall("x") == ()


def test_the_least_recently_used_source_is_forgotten_first():
    experience = Experience(max_sources=2)
    experience.learn("a", [STALL])
    experience.learn("b", [STALL])
    assert experience.recall("a")
    experience.learn("c", [STALL])
    assert not experience.recall("b")
    assert experience.recall("a")
    assert experience.recall("c")


def test_a_source_bound_to_the_loop_is_never_recalled():
    experience = Experience()
    experience.learn("a", [STALL])
    experience.bind_to_loop("a")
    assert experience.recall("a") == ()
    experience.learn("a", [STALL])
    assert experience.recall("a") == ()


# What follows runs cells of an executor.


@pytest.fixture
async def session():
    experience.forget()
    async with AsyncExecutor(timeout=10) as executor:
        names = executor.namespace.namespace
        names["hidden"] = {"wait": time.sleep}
        names["threading"] = threading
        names["variable"] = contextvars.ContextVar("variable", default=0)
        yield executor
    experience.forget()


async def worst_lateness_s(executor, source):
    """Run the source beside a 1 ms ticker; how late the ticker was at worst, and the value."""
    late = [0.0]

    async def tick():
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - due)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.005)
    value = await executor.execute(source)
    await asyncio.sleep(0.005)
    ticker.cancel()
    return max(late), value


def topics(executor):
    return [note.topic for note in executor.notes]


async def test_a_cell_that_awaits_gets_a_note_of_the_call_that_held_the_loop(session):
    await session.execute("await asyncio.sleep(0)\nhidden['wait'](0.15)\n")
    (note,) = [note for note in session.notes if note.topic == "stall"]
    assert note.line == 2
    assert "time.sleep" in note.text
    assert "hidden['wait'](0.15)" in note.text


async def test_the_next_run_of_a_cell_that_awaits_leaves_the_loop_free(session):
    source = (
        "await asyncio.sleep(0)\n"
        "before = threading.get_ident()\n"
        "hidden['wait'](0.2)\n"
        "await asyncio.sleep(0)\n"
        "(before, threading.get_ident())\n"
    )
    first_s, _ = await worst_lateness_s(session, source)
    second_s, (before, after) = await worst_lateness_s(session, source)
    assert first_s >= 0.15
    assert second_s < first_s / 2
    assert "thread" in topics(session)
    assert "stall" not in topics(session)
    assert before == after == threading.get_ident()


async def test_a_statement_that_left_the_loop_keeps_names_values_and_context(session):
    source = (
        "variable.set(1)\n"
        "await asyncio.sleep(0)\n"
        "def work():\n"
        "    global seen\n"
        "    seen = variable.get()\n"
        "    variable.set(seen + 1)\n"
        "    hidden['wait'](0.12)\n"
        "    return threading.get_ident()\n"
        "where = work()\n"
        "await asyncio.sleep(0)\n"
        "(seen, variable.get(), where)\n"
    )
    assert await session.execute(source) == (1, 2, threading.get_ident())
    seen, value, where = await session.execute(source)
    assert (seen, value) == (1, 2)
    assert where != threading.get_ident()
    assert await session.execute("variable.get()") == 2


async def test_the_last_expression_can_leave_the_loop_with_its_value(session):
    source = "await asyncio.sleep(0)\n[hidden['wait'](0.12), threading.get_ident()][1]\n"
    assert await session.execute(source) == threading.get_ident()
    assert await session.execute(source) != threading.get_ident()


async def test_an_error_in_a_statement_that_left_the_loop_is_raised_at_its_line(session):
    source = "await asyncio.sleep(0)\nhidden['wait'](0.12) or 1 / zero\n"
    session.namespace.namespace["zero"] = 1
    await session.execute(source)
    session.namespace.namespace["zero"] = 0
    with pytest.raises(ZeroDivisionError) as caught:
        await session.execute(source)
    frames = []
    traceback = caught.value.__traceback__
    while traceback is not None:
        frames.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    assert frames[-1][0].startswith("<sostenuto ")
    assert frames[-1][1] == 2
    assert not any("/executor/" in filename for filename, _ in frames)


async def test_a_statement_that_needs_the_loop_stays_on_it(session):
    source = (
        "await asyncio.sleep(0)\n"
        "task = hidden['wait'](0.12) or asyncio.create_task(asyncio.sleep(0))\n"
        "await task\n"
    )
    await session.execute(source)
    await session.execute(source)


async def test_a_cell_without_an_await_that_held_the_loop_runs_in_a_thread_the_next_time(session):
    source = "total = sum(range(20_000_000))\nthreading.get_ident()\n"
    assert session.analyze_execution_mode(source) is ExecutionMode.SIMPLE_SYNC
    assert await session.execute(source) == threading.get_ident()
    assert await session.execute(source) != threading.get_ident()
    assert session.analyze_execution_mode(source) is ExecutionMode.SIMPLE_SYNC


async def test_a_quick_cell_teaches_nothing(session):
    source = "await asyncio.sleep(0)\nthreading.get_ident()\n"
    for _ in range(3):
        assert await session.execute(source) == threading.get_ident()
    assert experience.recall(source) == ()


async def test_a_cell_in_a_thread_learns_why_asyncio_fails_there(session):
    with pytest.raises(RuntimeError, match="no running event loop") as caught:
        await session.execute("import time\ntime.sleep(0)\nasyncio.get_running_loop()\n")
    assert any("thread" in note for note in caught.value.__notes__)


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


CODE = compile("x = f()\ny = g()\n", FILENAME, "exec")


def test_a_span_is_measured_from_the_call_to_its_return():
    clock = Clock()
    watch = LoopWatch(0.1, clock)
    watch.enter(CODE, 0, time.sleep)
    clock.now_s += 0.5
    watch.leave()
    clock.now_s += 9
    watch.leave()
    assert [(each.call, each.elapsed_s) for each in watch.stalls] == [("time.sleep", 0.5)]


def test_a_span_ends_at_the_next_call_and_short_ones_are_forgotten():
    clock = Clock()
    watch = LoopWatch(0.1, clock)
    for elapsed_s in (0.05, 0.2, 0.05):
        watch.enter(CODE, 0, len)
        clock.now_s += elapsed_s
    watch.leave()
    assert [round(each.elapsed_s, 6) for each in watch.stalls] == [0.2]
    assert watch.stalls[0].call == "len"


def test_a_stall_between_calls_is_python_code():
    clock = Clock()
    watch = LoopWatch(0.1, clock)
    watch.enter(CODE, 0, None)
    clock.now_s += 0.2
    watch.leave()
    assert "running Python code" in str(watch.stalls[0])


def test_a_listener_that_fails_does_no_harm_to_the_cell():
    def fail(stall):
        raise ValueError(stall)

    watch = LoopWatch(on_stall=fail)
    watch.add(STALL)
    assert watch.stalls == [STALL]


def test_the_names_of_callables_are_their_qualified_ones():
    import collections

    class Local:
        def method(self):
            pass

    clock = Clock()
    watch = LoopWatch(0.1, clock)
    for function in (collections.Counter, Local().method, [].append, Local):
        watch.enter(CODE, 0, function)
        clock.now_s += 1
    watch.leave()
    names = [each.call for each in watch.stalls]
    assert names[0] == "collections.Counter"
    assert names[2] == "list.append"
    assert "Local" in names[1]
    assert names[3].endswith("Local")
