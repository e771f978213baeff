"""SystemExit and KeyboardInterrupt in a task of a cell are the task's, and the host lives on."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Coroutine

import pytest

from executor import AsyncExecutor, ErrorMessage, OutputMessage
from executor.contained import ContainedCoroutine

pytestmark = pytest.mark.unit

EXITING = """\
import sys
async def leave(delay=0):
    await asyncio.sleep(delay)
    sys.exit(3)
"""


class Recorder:
    def __init__(self) -> None:
        self.errors: list[ErrorMessage] = []
        self.printed = ""

    def send(self, message: object) -> None:
        if isinstance(message, ErrorMessage):
            self.errors.append(message)
        elif isinstance(message, OutputMessage):
            self.printed += message.text


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
async def test_a_task_that_exits_is_reported_with_its_cell(kind: str) -> None:
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder) as executor:
        await executor.execute(
            f"async def leave(): raise {kind}(3)\ntask = asyncio.create_task(leave(), name='T')"
        )
        assert await executor.execute("await asyncio.sleep(0.01)\ntask.done()") is True
        (report,) = recorder.errors
        assert (type(report.error).__name__, report.cell, report.task) == (kind, 1, "T")
        with pytest.raises(BaseException) as caught:
            await executor.execute("await task")
        assert type(caught.value).__name__ == kind
        assert await executor.execute("1") == 1


async def test_whoever_waits_for_a_group_of_tasks_gets_the_exit() -> None:
    async with AsyncExecutor() as executor:
        await executor.execute(EXITING)
        with pytest.raises(SystemExit):
            await executor.execute("await asyncio.gather(leave(), asyncio.sleep(0))")
        with pytest.raises(SystemExit):
            await executor.execute(
                "async with asyncio.TaskGroup() as group:\n"
                "    group.create_task(leave())\n"
                "    other = group.create_task(asyncio.sleep(60))"
            )
        assert await executor.execute("other.cancelled()") is True
        assert (await executor.execute("await asyncio.gather(leave(), return_exceptions=True)"))[
            0
        ].code == 3


async def test_a_task_that_exits_when_it_is_cancelled_has_exited() -> None:
    async with AsyncExecutor() as executor:
        await executor.execute(
            EXITING + "async def stubborn():\n"
            "    try:\n"
            "        await asyncio.sleep(60)\n"
            "    finally:\n"
            "        sys.exit(4)\n"
            "task = asyncio.create_task(stubborn())\n"
            "await asyncio.sleep(0)\n"
            "task.cancel()"
        )
        with pytest.raises(SystemExit) as caught:
            await executor.execute("await task")
        assert caught.value.code == 4
        assert await executor.execute("task.cancelled(), task.cancel()") == (False, False)


async def test_a_task_that_exits_at_once_under_the_eager_factory_is_contained() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        async with AsyncExecutor() as executor:
            await executor.execute(
                "async def leave(): raise SystemExit(5)\ntask = asyncio.create_task(leave())"
            )
            with pytest.raises(SystemExit):
                await executor.execute("await task")
    finally:
        loop.set_task_factory(None)


async def test_a_task_still_shows_the_coroutine_that_the_user_made_it_of() -> None:
    async with AsyncExecutor() as executor:
        shown = await executor.execute(
            EXITING + "coroutine = leave(60)\n"
            "task = asyncio.create_task(coroutine)\n"
            "await asyncio.sleep(0)\n"
            "task.get_coro() is coroutine, repr(task), task.get_stack()[0].f_code.co_name"
        )
        assert shown[0] is True
        assert shown[1].startswith("<Task pending")
        assert "leave() running at <sostenuto" in shown[1]
        assert shown[2] == "leave"


async def test_a_task_cancelled_before_it_began_leaves_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async with AsyncExecutor() as executor:
        await executor.execute(
            EXITING + "task = asyncio.create_task(leave())\ntask.cancel()\nawait asyncio.sleep(0)"
        )
    assert [each for each in recwarn if "never awaited" in str(each.message)] == []


async def test_tracebacks_of_tasks_show_only_the_users_frames() -> None:
    async with AsyncExecutor() as executor:
        for waiting in ("await task", "await asyncio.gather(task)"):
            with pytest.raises(ZeroDivisionError) as caught:
                await executor.execute(
                    "async def divide():\n    await asyncio.sleep(0)\n    1/0\n"
                    f"task = asyncio.create_task(divide())\n{waiting}"
                )
            names = [
                (frame.filename.startswith("<sostenuto"), frame.name)
                for frame in traceback.extract_tb(caught.value.__traceback__)[1:]
            ]
            assert names == [(True, "<module>"), (True, "divide")]


async def test_what_is_no_coroutine_makes_no_task() -> None:
    async with AsyncExecutor() as executor:
        with pytest.raises(TypeError, match="a coroutine was expected"):
            await executor.execute("asyncio.create_task(1)\nawait asyncio.sleep(0)")


def test_ctrl_c_while_a_task_of_a_cell_computes_is_the_hosts() -> None:
    source = (
        "import signal\n"
        "async def compute():\n"
        "    await asyncio.sleep(0)\n"
        "    for _ in range(3):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "task = asyncio.create_task(compute())"
    )

    async def host() -> None:
        async with AsyncExecutor() as executor:
            await executor.execute(source)
            await asyncio.sleep(60)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(host())
    finally:
        signal.signal(signal.SIGINT, before)


async def test_driven_by_hand_it_is_the_coroutine_itself() -> None:
    async def waits() -> int:
        await asyncio.sleep(0)
        return 5

    async def exits() -> None:
        raise SystemExit(6)

    driver = ContainedCoroutine(waits())
    assert isinstance(driver, Coroutine)
    assert driver.__name__ == "waits"
    assert driver.send(None) is None
    with pytest.raises(StopIteration) as end:
        driver.send(None)
    assert end.value.value == 5
    assert await ContainedCoroutine(waits()) == 5

    closed = ContainedCoroutine(waits())
    closed.send(None)
    closed.close()
    assert closed.cr_frame is None
    with pytest.raises(KeyError):
        ContainedCoroutine(waits()).throw(KeyError())


SCHEDULING = [
    "asyncio.get_running_loop().call_soon(sys.exit, 3)",
    "asyncio.get_running_loop().call_later(0.001, sys.exit, 3)",
    "asyncio.get_running_loop().call_soon_threadsafe(sys.exit, 3)",
    "import functools\nasyncio.get_running_loop().call_soon(functools.partial(sys.exit, 3))",
    "asyncio.create_task(asyncio.sleep(0)).add_done_callback(sys.exit)",
    """\
import threading
loop = asyncio.get_running_loop()
threading.Timer(0.001, loop.call_soon_threadsafe, (sys.exit,)).start()""",
    """\
import os
read, write = os.pipe()
def leave():
    asyncio.get_running_loop().remove_reader(read)
    sys.exit(3)
asyncio.get_running_loop().add_reader(read, leave)
os.write(write, b'x')""",
    "def leave(): raise KeyboardInterrupt\nasyncio.get_running_loop().call_soon(leave)",
]


@pytest.mark.parametrize("source", SCHEDULING)
async def test_a_callback_that_exits_is_reported_and_stops_no_loop(source: str) -> None:
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder) as executor:
        await executor.execute("import sys")
        await executor.execute(f"{source}\nawait asyncio.sleep(0)")
        await asyncio.sleep(0.02)
        (report,) = recorder.errors
        assert isinstance(report.error, SystemExit | KeyboardInterrupt)
        assert report.cell == 2
        assert (report.task or "").startswith("callback ")
        assert await executor.execute("1") == 1


async def test_what_a_thread_of_a_cell_hands_the_loop_belongs_to_the_cell() -> None:
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder) as executor:
        await executor.execute(
            "import sys, threading\n"
            "loop = asyncio.get_running_loop()\n"
            "async def leave(): print('leaves'); sys.exit(3)\n"
            "def start():\n"
            "    global future\n"
            "    future = asyncio.run_coroutine_threadsafe(leave(), loop)\n"
            "thread = threading.Thread(target=start)\n"
            "thread.start()\n"
            "while thread.is_alive(): await asyncio.sleep(0.001)\n"
            "await asyncio.sleep(0.01)"
        )
        with pytest.raises(SystemExit):
            await executor.execute("future.result()")
        assert recorder.printed == "leaves\n"


async def test_without_a_transport_the_loops_handler_hears_of_a_callback_that_exits() -> None:
    heard: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    try:
        async with AsyncExecutor() as executor:
            await executor.execute("import sys\nasyncio.get_running_loop().call_soon(sys.exit)")
            await asyncio.sleep(0.01)
    finally:
        loop.set_exception_handler(None)
    (context,) = heard
    assert "callback sys.exit of cell 1" in str(context["message"])


async def test_other_exceptions_of_a_callback_go_where_they_always_went() -> None:
    heard: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    try:
        async with AsyncExecutor() as executor:
            await executor.execute(
                "def fail(*values): raise ValueError(values)\n"
                "asyncio.get_running_loop().call_soon(fail, 1, 2)"
            )
            await asyncio.sleep(0.01)
    finally:
        loop.set_exception_handler(None)
    (context,) = heard
    error = context["exception"]
    assert isinstance(error, ValueError)
    assert "fail" in repr(context["handle"])
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert not [name for name in frames if name.endswith("callbacks.py")]


async def test_the_hosts_own_callbacks_and_its_loop_stay_as_they_are() -> None:
    loop = asyncio.get_running_loop()
    ran: list[object] = []
    async with AsyncExecutor() as executor:
        handle = await executor.execute("asyncio.get_running_loop().call_later(60, print)")
        handle.cancel()
        own = loop.call_soon(ran.append, 1)
        assert own._callback == ran.append
        await asyncio.sleep(0)
    assert ran == [1]
    assert not [name for name in vars(loop) if name.startswith(("call_", "add_", "_sostenuto"))]
