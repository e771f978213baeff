"""Where an exception may be raised in a running cell, and that it is raised nowhere else."""

import asyncio
import dis
import linecache
import signal
import sys
import threading

import pytest

from executor import AsyncExecutor, ExecutionInterruptedError
from executor.instrumentation import tool_id
from executor.interrupts import Guard, InterruptError, awaiting_frames, cell_stack, position_of
from executor.safepoints import safe_points
from executor.watchdog import STAGES, watchdog

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


def opnames(code, offsets):
    return {each.opname for each in dis.get_instructions(code) if each.offset in offsets}


def test_backward_jumps_are_safe_points_and_ways_out_of_handlers_are_not():
    source = "try:\n    while True: pass\nexcept ValueError: pass\nfinally:\n    x = 1\n"
    code = compile(source, "<test>", "exec")
    points = safe_points(code)
    assert "JUMP_BACKWARD" in opnames(code, points.gentle)
    assert not opnames(code, points.firm) & {"PUSH_EXC_INFO", "POP_EXCEPT", "RERAISE", "SEND"}


def test_the_call_of_exit_is_never_skipped():
    code = compile("with a: pass\n", "<test>", "exec")
    instructions = list(dis.get_instructions(code))
    points = safe_points(code).firm
    for index, each in enumerate(instructions[:-3]):
        if all(load.opname == "LOAD_CONST" for load in instructions[index : index + 3]):
            assert each.offset not in points


def test_every_binding_is_a_firm_point():
    code = compile("x = y.z = q[0] = f()\ndel x\n", "<test>", "exec")
    firm = opnames(code, safe_points(code).firm)
    assert {"STORE_NAME", "STORE_ATTR", "STORE_SUBSCR", "DELETE_NAME"} <= firm


def test_a_position_names_file_line_and_text():
    frame = sys._getframe()
    position = position_of(frame)
    assert position.filename == __file__
    assert position.text == linecache.getline(__file__, position.line).strip()
    assert f"line {position.line}: " in position.place


async def test_the_frames_of_an_await_are_listed_from_the_inside():
    async def inner():
        await asyncio.sleep(5)

    async def outer():
        await inner()

    coroutine = outer()
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    names = [frame.f_code.co_name for frame in awaiting_frames(coroutine)]
    assert names[-2:] == ["inner", "outer"]
    task.cancel()
    assert awaiting_frames(None) == []


def test_a_stack_of_the_host_is_no_cells():
    guard = Guard(thread_id=threading.get_ident(), prefix="<sostenuto ", namespace={})
    assert cell_stack(sys._getframe(), guard) == []
    guard.allowance = 1
    assert not guard.admits(sys._getframe())


def test_stages_come_in_order_and_end_without_a_limit():
    assert [stage.after_s for stage in STAGES] == sorted(stage.after_s for stage in STAGES)
    assert STAGES[-1].allowance == float("inf")


@pytest.fixture
async def session():
    async with AsyncExecutor(timeout=0.1) as executor:
        yield executor


FROZEN = {
    "a loop": "while True: pass",
    "a loop after an await": "await asyncio.sleep(0)\nwhile True: pass",
    "a sleep on the loop": "import time\nawait asyncio.sleep(0)\ntime.sleep(20)",
    "a lock on the loop": (
        "import threading\nevent = threading.Event()\nawait asyncio.sleep(0)\nevent.wait()"
    ),
    "a swallowed interrupt": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
    "a swallowed cancellation": (
        "while True:\n    try: await asyncio.sleep(20)\n    except BaseException: pass"
    ),
    "a task": "async def f():\n    while True: pass\nawait asyncio.create_task(f())",
    "a sleep in a thread": "import time\ntime.sleep(2)",
}


@pytest.mark.parametrize("source", FROZEN.values(), ids=FROZEN.keys())
async def test_a_frozen_cell_times_out_and_says_where_it_stood(session, source):
    with pytest.raises(TimeoutError) as caught:
        await session.execute(source)
    notes = "\n".join(caught.value.__notes__)
    assert "stood at <sostenuto " in notes
    assert "line " in notes
    assert await session.execute("40 + 2") == 42


async def test_a_quick_cell_leaves_no_trace_with_the_watchdog(session):
    await session.execute("x = 1")
    assert not any(guard.namespace is session.namespace.namespace for guard in watchdog._guards)


async def test_a_cell_that_swallowed_its_interrupt_and_ended_has_timed_out(session):
    source = "try:\n    while True: pass\nexcept BaseException:\n    x = 5\nx"
    with pytest.raises(TimeoutError):
        await session.execute(source)
    assert session.namespace.namespace["x"] == 5


async def test_code_of_the_session_called_by_the_host_is_the_hosts_business(session):
    await session.execute("def f():\n    for i in range(3_000_000): pass\n    return i")
    await session.execute("task = asyncio.create_task(asyncio.sleep(10))")
    assert session.namespace.namespace["f"]() == 2_999_999


async def test_interrupt_stops_a_cell_in_a_thread(session):
    cell = asyncio.create_task(
        session.execute("import time\nwhile True: time.sleep(0.01)", timeout=9)
    )
    await asyncio.sleep(0.1)
    assert await session.interrupt()
    with pytest.raises(ExecutionInterruptedError):
        await cell
    assert not await session.interrupt()


async def test_a_context_variable_survives_an_abandoned_thread(session):
    import contextvars

    session.namespace.namespace["variable"] = variable = contextvars.ContextVar("variable")
    await session.execute("variable.set(3)")
    with pytest.raises(TimeoutError):
        await session.execute("import time\ntime.sleep(2)")
    assert any(note.topic == "abandoned" for note in session.notes)
    assert await session.execute("variable.get()") == 3
    assert variable.get(None) is None


async def test_the_signal_handler_is_installed_only_while_an_executor_is_open():
    before = signal.getsignal(signal.SIGURG)
    async with AsyncExecutor() as executor:
        await executor.execute("1")
        assert signal.getsignal(signal.SIGURG) is not before
    assert signal.getsignal(signal.SIGURG) is before


async def test_what_is_raised_in_a_cell_is_a_cancellation(session):
    source = (
        "import asyncio\ntry:\n    while True: pass\nexcept asyncio.CancelledError as e:\n    k = e"
    )
    with pytest.raises(TimeoutError):
        await session.execute(source)
    assert tool_id() is not None
    assert issubclass(InterruptError, asyncio.CancelledError)


async def test_a_task_left_behind_that_holds_the_loop_is_ended_and_noted(session):
    source = (
        "async def f():\n    await asyncio.sleep(0.05)\n    while True: pass\n"
        "task = asyncio.create_task(f())\nawait asyncio.sleep(0)"
    )
    await session.execute(source)
    await asyncio.sleep(0.2)
    (note,) = [note for note in session.notes if note.topic == "task"]
    assert "while True: pass" in note.text
    assert await session.execute("task.done()")


async def test_signals_of_others_reach_the_handler_that_was_there_before():
    import os

    heard = []
    before = signal.signal(signal.SIGURG, lambda number, frame: heard.append(number))
    try:
        async with AsyncExecutor() as executor:
            await executor.execute("1")
            os.kill(os.getpid(), signal.SIGURG)
            await asyncio.sleep(0)
        assert heard == [signal.SIGURG]
    finally:
        signal.signal(signal.SIGURG, before)


async def test_a_package_can_be_protected_from_interrupts():
    from executor import interrupts

    interrupts.protect_package("json")
    try:
        namespace = {"__name__": "json.decoder"}
        exec("def f(g): return g()", namespace)
        guard = Guard(thread_id=threading.get_ident(), prefix="<sostenuto ", namespace={})
        frames = []
        namespace["f"](lambda: frames.append(sys._getframe(1)))
        assert cell_stack(frames[0], guard) == []
    finally:
        interrupts._protected.discard("json")


async def test_the_callback_of_an_event_raises_only_for_its_own_thread_and_stack():
    from executor import interrupts

    namespace = {}
    code = compile("def f():\n    return call()\nf()\n", "<sostenuto t cell 1>", "exec")
    guard = Guard(
        thread_id=threading.get_ident() + 1,
        prefix="<sostenuto ",
        namespace=namespace,
        codes=(code,),
    )
    guard.allowance = 1
    interrupts.aim(guard, [code])
    namespace["call"] = lambda: 7
    exec(code, namespace)  # another thread's guard: nothing is raised
    guard.thread_id = threading.get_ident()
    guard.reach = interrupts.ALL_FRAMES
    namespace["f"]()  # entered by the host: nothing is raised
    assert guard.delivered == 0
    interrupts.unaim(guard)
    assert guard.targets == {}


async def test_an_executor_on_another_thread_leaves_the_signal_handler_alone():
    before = signal.getsignal(signal.SIGURG)

    def run():
        async def main():
            async with AsyncExecutor() as executor:
                return await executor.execute("await asyncio.sleep(0, 5)")

        return asyncio.run(main())

    assert await asyncio.to_thread(run) == 5
    assert signal.getsignal(signal.SIGURG) is before


async def test_an_executor_closed_on_another_thread_leaves_its_handler_to_the_main_thread():
    before = signal.getsignal(signal.SIGURG)
    executor = AsyncExecutor()
    await executor.execute("1")
    ours = signal.getsignal(signal.SIGURG)
    assert ours is not before
    await asyncio.to_thread(asyncio.run, executor.aclose())
    assert signal.getsignal(signal.SIGURG) == ours  # only the main thread may change it
    async with AsyncExecutor() as later:
        await later.execute("1")
    assert signal.getsignal(signal.SIGURG) is before


async def test_a_handler_that_the_host_puts_over_ours_hears_no_signal_of_ours(session):
    heard = []
    await session.execute("1")
    ours = signal.signal(signal.SIGURG, lambda number, frame: heard.append(number))
    try:
        guard = Guard(thread_id=threading.get_ident(), prefix="<sostenuto ", namespace={})
        assert not watchdog.signals.send(guard)
        assert heard == []
    finally:
        signal.signal(signal.SIGURG, ours)


async def test_a_signal_for_a_cell_that_ended_meanwhile_raises_nothing(session):
    await session.execute("1")
    guard = Guard(thread_id=threading.get_ident(), prefix="<sostenuto ", namespace={})
    guard.released = True
    assert watchdog.signals.send(guard)
    await asyncio.sleep(0)
    assert guard.delivered == 0


@pytest.mark.parametrize(
    "source",
    [
        "while True:\n    try: await asyncio.sleep(60)\n    except BaseException: pass",
        """\
async def f():
    while True:
        try: await asyncio.sleep(60)
        except BaseException: pass
await f()""",
        """\
class Deaf:
    def __await__(self):
        while True:
            try: yield from asyncio.sleep(60).__await__()
            except BaseException: pass
await Deaf()""",
    ],
)
async def test_a_cell_that_is_deaf_to_cancellation_is_left_behind(session, source):
    with pytest.raises(TimeoutError) as caught:
        await session.execute(source, timeout=0.05)
    assert any("The code stood at" in note for note in caught.value.__notes__)
    assert [note.topic for note in session.notes if note.topic == "abandoned"] == ["abandoned"]
    assert await session.execute("await asyncio.sleep(0, 1)") == 1


async def test_a_session_goes_on_although_other_tools_hold_every_monitoring_id(monkeypatch):
    monkeypatch.setattr("executor.instrumentation._claimed", [])
    monkeypatch.setattr("executor.instrumentation._TOOL_IDS", ())
    assert tool_id() is None
    async with AsyncExecutor() as executor:
        assert await executor.execute("await asyncio.sleep(0); max(1, 2)") == 2
        with pytest.raises(TimeoutError):
            await executor.execute(
                "import time\nawait asyncio.sleep(0)\ntime.sleep(30)", timeout=0.1
            )
        assert await executor.execute("1") == 1


async def test_an_id_that_another_tool_takes_first_is_passed_over(monkeypatch):
    taken = []

    def use(candidate, name):
        if not taken:
            taken.append(candidate)
            raise ValueError("taken")

    monkeypatch.setattr("executor.instrumentation._claimed", [])
    monkeypatch.setattr("sys.monitoring.get_tool", lambda candidate: None)
    monkeypatch.setattr("sys.monitoring.use_tool_id", use)
    assert tool_id() not in (None, *taken)


async def test_the_loops_end_is_no_hindrance_to_whoever_gives_a_cell_up(monkeypatch):
    loop = asyncio.new_event_loop()
    loop.close()
    guard = Guard(thread_id=threading.get_ident(), prefix="<", namespace={}, loop=loop)
    guard.cancel = lambda: None
    watchdog.watch(guard)
    watchdog.press(guard, "interrupt")
    for _ in range(100):
        if guard.cancel is None:
            break
        await asyncio.sleep(0.02)
    watchdog.release(guard)
    assert guard.cancel is None
