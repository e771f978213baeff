"""What a host can do to a cell that runs, and what a host without a console is given."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time

import pytest

from executor import AsyncExecutor, ExecutionMode, OutputMessage
from executor.errors import ExecutionInterruptedError

pytestmark = pytest.mark.unit


class Recorder:
    def __init__(self) -> None:
        self.messages: list[object] = []

    def send(self, message: object) -> None:
        self.messages.append(message)

    def text(self, stream: str) -> str:
        written = [each for each in self.messages if isinstance(each, OutputMessage)]
        return "".join(each.text for each in written if each.stream == stream)


def once_running(namespace: dict, act) -> threading.Thread:
    """Act from another thread as soon as the cell has bound ``running``."""

    def wait() -> None:
        while "running" not in namespace:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


ENDLESS = {
    "an await": ("running = await asyncio.sleep(0)\nawait asyncio.sleep(60)", "sleep(60)"),
    "a loop that awaits nothing": ("running = 1\nwhile True: pass", "while True: pass"),
    "a loop after an await": ("running = await asyncio.sleep(0)\nwhile True: pass", "while True"),
    "a sleep in a thread": ("import time\nrunning = 1\ntime.sleep(3)", "time.sleep(3)"),
}


@pytest.mark.parametrize(("source", "place"), ENDLESS.values(), ids=ENDLESS)
async def test_another_thread_interrupts_a_cell_from_a_loop_of_its_own(source, place) -> None:
    async with AsyncExecutor() as ex:
        namespace = ex.namespace.namespace
        stopped: list[bool] = []
        thread = once_running(namespace, lambda: stopped.append(asyncio.run(ex.interrupt())))
        with pytest.raises(ExecutionInterruptedError) as caught:
            await ex.execute(source, timeout=20)
        await asyncio.to_thread(thread.join)
        assert stopped == [True]
        assert any(place in note for note in caught.value.__notes__)
        assert await ex.execute("await asyncio.sleep(0, 42)") == 42
        assert not await ex.interrupt()


@pytest.mark.parametrize(("source", "place"), ENDLESS.values(), ids=ENDLESS)
async def test_another_thread_cancels_the_caller_of_a_cell(source, place) -> None:
    async with AsyncExecutor() as ex:
        task = asyncio.create_task(ex.execute(source, timeout=20))
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            task.cancel()  # a signal handler does no more, and a frozen loop hears of nothing else
            loop.call_soon_threadsafe(lambda: None)

        thread = once_running(ex.namespace.namespace, cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(thread.join)
        assert task.cancelled()
        assert await ex.execute("1 + 1") == 2


async def test_a_host_keeps_its_own_shorter_switch_interval(monkeypatch) -> None:
    before_s = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.00002)
        own_s = sys.getswitchinterval()
        async with AsyncExecutor() as ex:
            source = "import sys, time\ntime.sleep(0)\nsys.getswitchinterval()"
            assert ex.analyze_execution_mode(source) is ExecutionMode.BLOCKING_SYNC
            assert await ex.execute(source) == own_s
            await ex.execute("import sys, time\ntime.sleep(0)\nsys.setswitchinterval(0.001)")
        assert sys.getswitchinterval() == pytest.approx(0.001)
    finally:
        sys.setswitchinterval(before_s)


async def test_a_host_without_a_console_has_cells_that_print(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder) as ex:
        await ex.execute("print('from the cell')")
        print("from the host")
        stream = sys.stdout
        assert stream is not None
        assert (stream.isatty(), stream.closed, stream.encoding) == (False, False, "utf-8")
        stream.flush()
        with pytest.raises(io.UnsupportedOperation):
            stream.fileno()
    assert recorder.text("stdout") == "from the cell\n"
    assert sys.stdout is None


async def test_a_cell_writes_to_its_streams_as_to_files(monkeypatch) -> None:
    target = io.StringIO()
    monkeypatch.setattr(sys, "stdout", target)
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder) as ex:
        lines = (
            "import sys\n"
            "sys.stdout.writelines(['a\\n', 'b\\n'])\n"
            "sys.stdout.buffer.write('ü'.encode()); sys.stdout.buffer.flush()\n"
            "sys.stdout.flush(); sys.stdout.close()\n"
            "(sys.stdout.write(''), sys.stdout.writable(), sys.stdout.isatty())"
        )
        assert await ex.execute(lines) == (0, True, False)
        with pytest.raises(TypeError, match="must be str, not int"):
            await ex.execute("sys.stdout.write(1)")
        print("from the host")
        assert sys.stdout.getvalue() == "from the host\n"  # what the original has, it has too
    assert recorder.text("stdout") == "a\nb\nü"
    assert target.getvalue() == "from the host\n"
