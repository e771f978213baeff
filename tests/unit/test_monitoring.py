"""Which calls of a cell held the event loop, and what the process remembers of it."""

import ast
import asyncio
import linecache
import sys
import time
from inspect import CO_COROUTINE

import pytest

from executor.instrumentation import nested_codes, tool_id
from executor.monitoring import Experience, LoopWatch, Stall, current_watch, observe

pytestmark = pytest.mark.unit

FILENAME = "<monitored cell>"


async def run_watched(source, namespace=None, threshold_s=0.02):
    """Run the source on this loop under a watch and return what it noted."""
    code = compile(source, FILENAME, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    linecache.cache[FILENAME] = (len(source), None, source.splitlines(keepends=True), FILENAME)
    assert observe([code])
    watch = LoopWatch(threshold_s)
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


async def test_a_hot_loop_is_soon_left_alone():
    source = "def f():\n    for _ in range(60_000): len('')\nf()\n"
    namespace = {}
    await run_watched(source, namespace)
    events = sys.monitoring.get_local_events(tool_id(), namespace["f"].__code__)
    assert not events & sys.monitoring.events.CALL


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
