"""Synchronous calls on a session's own thread: order, context, interruption, abandonment."""

import asyncio
import contextvars
import socket
import sys
import threading
import time

import pytest

from executor.interrupts import Guard, InterruptError
from executor.threads import ThreadedExecutor, no_loop_note
from executor.watchdog import ABANDON_AFTER_S, watchdog

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

PREFIX = "<threaded "


@pytest.fixture
def threads():
    executor = ThreadedExecutor("test cells")
    yield executor
    executor.close()


async def run(threads, source, namespace=None, *, timeout_s=30.0, context=None):
    """Run the source in the thread; return what became of the guard, too."""
    namespace = {} if namespace is None else namespace
    code = compile(source, f"{PREFIX}cell>", "exec", dont_inherit=True)
    guard = Guard(
        thread_id=0,
        prefix=PREFIX,
        namespace=namespace,
        codes=(code,),
        due_s=time.monotonic() + timeout_s,
    )
    namespace["guard"] = guard
    await threads.run(
        lambda: exec(code, namespace),
        guard=guard,
        context=contextvars.copy_context() if context is None else context,
    )
    return guard


async def test_a_call_runs_in_a_thread_that_is_not_the_loops(threads):
    namespace = {"threading": threading}
    await run(threads, "thread = threading.current_thread()", namespace)
    assert namespace["thread"] is not threading.current_thread()
    assert namespace["thread"].name == "test cells"


async def test_threads_that_a_call_makes_are_no_daemons_as_those_of_the_main_thread(threads):
    namespace = {"threading": threading}
    await run(threads, "made = threading.Thread(target=print)", namespace)
    assert not namespace["made"].daemon


async def test_all_calls_of_a_session_run_in_the_same_thread(threads):
    namespace = {"threading": threading}
    await run(threads, "local = threading.local(); local.x = 1", namespace)
    await run(threads, "x = local.x", namespace)
    assert namespace["x"] == 1


async def test_the_value_of_the_call_is_returned(threads):
    assert await threads.run(lambda: 42) == 42


async def test_a_call_sees_a_copy_of_its_callers_context(threads):
    variable = contextvars.ContextVar("variable")
    variable.set(1)
    assert await threads.run(lambda: (variable.get(), variable.set(2))[0]) == 1
    assert variable.get() == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
async def test_an_exception_of_the_call_reaches_the_caller_and_spares_the_thread(threads, error):
    with pytest.raises(error):
        await run(threads, f"raise {error.__name__}('x')")
    await run(threads, "pass")
    assert threads.abandoned == []


async def test_a_context_variable_set_in_the_thread_is_set_in_the_context(threads):
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    await run(threads, "variable.set(7)", {"variable": variable}, context=context)
    assert context[variable] == 7
    assert variable.get() == 0


async def test_the_loop_goes_on_while_a_call_blocks(threads):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await run(threads, "import time; time.sleep(0.3)")
    ticker.cancel()
    assert ticks >= 10


async def test_no_event_loop_runs_in_the_thread_and_a_note_says_why_that_matters(threads):
    with pytest.raises(RuntimeError) as caught:
        await run(threads, "import asyncio; asyncio.get_running_loop()")
    note = no_loop_note(caught.value, "it calls time.sleep")
    assert "it calls time.sleep" in note
    assert "thread" in note


def test_other_errors_get_no_note_about_event_loops():
    assert no_loop_note(RuntimeError("no"), "x") is None
    assert no_loop_note(ValueError("no running event loop"), "x") is None


async def test_a_call_past_its_deadline_is_interrupted_where_it_stands(threads):
    namespace = {}
    with pytest.raises(InterruptError):
        await run(threads, "x = 0\nwhile True:\n    x += 1", namespace, timeout_s=0.1)
    assert namespace["guard"].positions[0].line in (2, 3)
    assert namespace["guard"].reason == "timeout"
    assert threads.abandoned == []


async def test_finally_blocks_and_context_managers_of_an_interrupted_call_run(threads):
    source = (
        "class Manager:\n"
        "    def __enter__(self): pass\n"
        "    def __exit__(self, *details): left.append('exit')\n"
        "try:\n"
        "    with Manager():\n"
        "        while True: pass\n"
        "finally:\n"
        "    left.append('finally')\n"
    )
    namespace = {"left": []}
    with pytest.raises(InterruptError):
        await run(threads, source, namespace, timeout_s=0.1)
    assert namespace["left"] == ["exit", "finally"]


async def test_a_call_that_swallows_every_exception_is_ended_all_the_same(threads):
    source = "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n"
    begun = time.monotonic()
    with pytest.raises(InterruptError):
        await run(threads, source, timeout_s=0.1)
    assert time.monotonic() - begun < 2
    assert threads.abandoned == []


async def test_a_finally_block_that_never_ends_is_ended(threads):
    with pytest.raises(InterruptError):
        await run(threads, "try:\n    1 / 0\nfinally:\n    while True: pass", timeout_s=0.1)
    assert threads.abandoned == []


async def test_a_cancelled_caller_gets_its_cancellation_when_the_call_has_ended(threads):
    namespace = {}
    task = asyncio.create_task(run(threads, "while True: pass", namespace))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert not isinstance(caught.value, InterruptError)
    assert namespace["guard"].released


async def test_a_caller_cancelled_over_and_over_waits_no_longer_than_for_abandonment(threads):
    task = asyncio.create_task(run(threads, "import time; time.sleep(3)"))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)
    assert time.monotonic() - begun < ABANDON_AFTER_S + 1
    assert task.cancelled()


async def test_a_thread_that_hangs_in_c_is_abandoned_and_the_next_call_gets_a_new_one(threads):
    ours, theirs = socket.socketpair()
    namespace = {"theirs": theirs, "threading": threading}
    with ours, theirs:
        with pytest.raises(InterruptError):
            await run(threads, "data = theirs.recv(1)", namespace, timeout_s=0.1)
        assert namespace["guard"].abandoned
        assert namespace["guard"].positions[0].line == 1
        (lost,) = threads.abandoned
        await run(threads, "thread = threading.current_thread()", namespace)
        assert namespace["thread"] is not lost
        ours.send(b"x")
        lost.join(5)
    assert not lost.is_alive()
    assert threads.abandoned == []


BLOCKED = {
    "an assignment of the call's value": "data = theirs.recv(1)\n",
    "a loop over what blocks": "for data in theirs.makefile(): pass\n",
    "a statement after the call": "theirs.recv(1)\ndata = 1\n",
    "a handler that swallows everything": (
        "while True:\n"
        "    try:\n"
        "        theirs.recv(1)\n"
        "        data = 1\n"
        "    except BaseException: data = 2\n"
    ),
    "a finally block": "try:\n    theirs.recv(1)\nfinally:\n    data = 3\n",
    "a function": (
        "def f():\n"
        "    global data\n"
        "    try:\n"
        "        theirs.recv(1)\n"
        "    except BaseException: pass\n"
        "    data = 4\n"
        "f()\n"
    ),
    "an item of a container": "theirs.recv(1); box['data'] = 1\n",
    "a walrus": "print(data := theirs.recv(1))\n",
    "an import": "theirs.recv(1)\nimport json as data\n",
}


@pytest.mark.parametrize("source", BLOCKED.values(), ids=BLOCKED.keys())
async def test_an_abandoned_thread_binds_nothing_when_it_comes_back(threads, source):
    ours, theirs = socket.socketpair()
    namespace = {"theirs": theirs, "box": {}}
    with ours, theirs:
        with pytest.raises(InterruptError):
            await run(threads, source, namespace, timeout_s=0.05)
        (lost,) = threads.abandoned
        ours.send(b"x\n" * 10)
        lost.join(5)
        assert not lost.is_alive()
    assert "data" not in namespace
    assert namespace["box"] == {}


async def test_functions_shared_with_an_abandoned_thread_work_for_later_calls(threads):
    ours, theirs = socket.socketpair()
    namespace = {"theirs": theirs}
    source = "def f(wait):\n    if wait: theirs.recv(1)\n    return 1\nf(True)\n"
    with ours, theirs:
        with pytest.raises(InterruptError):
            await run(threads, source, namespace, timeout_s=0.05)
        (lost,) = threads.abandoned
        await run(threads, "x = [f(False) for _ in range(1000)]", namespace)
        assert sum(namespace["x"]) == 1000
        ours.send(b"x")
        lost.join(5)


async def test_instrumentation_is_gone_once_nobody_is_pressed(threads):
    namespace = {}
    with pytest.raises(InterruptError):
        await run(threads, "def f():\n    while True: pass\nf()", namespace, timeout_s=0.05)
    code = namespace["f"].__code__
    assert all(
        not sys.monitoring.get_local_events(tool, code) & sys.monitoring.events.INSTRUCTION
        for tool in range(6)
        if sys.monitoring.get_tool(tool)
    )


async def test_press_ends_a_call_long_before_its_deadline(threads):
    namespace = {}
    task = asyncio.create_task(run(threads, "while True: pass", namespace))
    await asyncio.sleep(0.05)
    watchdog.press(namespace["guard"], "interrupt")
    with pytest.raises(InterruptError, match="interrupt"):
        await task


async def test_pressing_a_call_that_has_ended_does_nothing(threads):
    guard = await run(threads, "x = 1")
    watchdog.press(guard, "interrupt")
    await run(threads, "for i in range(100_000): pass")


async def test_the_hosts_switch_interval_is_back_after_the_call(threads):
    before = sys.getswitchinterval()
    namespace = {"sys": sys}
    await run(threads, "during = sys.getswitchinterval()", namespace)
    assert namespace["during"] < before
    assert sys.getswitchinterval() == before


async def test_a_closed_executors_thread_ends():
    executor = ThreadedExecutor("short")
    namespace = {"threading": threading}
    await run(executor, "thread = threading.current_thread()", namespace)
    executor.close()
    namespace["thread"].join(5)
    assert not namespace["thread"].is_alive()


async def test_an_idle_thread_keeps_no_values_of_the_last_call_alive(threads):
    import weakref

    class Value:
        pass

    namespace = {"value": Value()}
    reference = weakref.ref(namespace["value"])
    await run(threads, "value.me = 1", namespace)
    namespace.clear()
    await run(threads, "pass")
    assert reference() is None
