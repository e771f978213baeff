"""Frozen cells at the edges of a process's life: forks, exits, closing, other handlers."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]

ROOT = Path(__file__).parent.parent.parent


def run_program(body, limit_s=20):
    """Run the body of an async main() in a process of its own; its output and its duration."""
    program = (
        "import asyncio, os, signal, socket, sys, threading, time\n"
        "from executor import AsyncExecutor, ExecutionInterruptedError\n"
        "async def frozen(executor, source, timeout=0.3):\n"
        "    begun = time.monotonic()\n"
        "    try:\n"
        "        await executor.execute(source, timeout=timeout)\n"
        "    except TimeoutError:\n"
        "        return time.monotonic() - begun < timeout + 1\n"
        "    return False\n"
        "async def main():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n"
        "asyncio.run(main())\n"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        capture_output=True,
        text=True,
        timeout=limit_s,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), time.monotonic() - begun


FREEZE = "'import asyncio\\nawait asyncio.sleep(0)\\nwhile True: pass'"
BLOCK = "'import time\\ntime.sleep(30)'"


def test_a_forked_child_ends_frozen_cells_of_its_own():
    output, _ = run_program(f"""
        executor = AsyncExecutor()
        assert await frozen(executor, {FREEZE})
        assert await frozen(executor, {BLOCK})
        pid = os.fork()
        if pid == 0:
            def child():
                async def run():
                    one = AsyncExecutor()
                    return [await frozen(each, source) for each in (one, executor)
                            for source in ({FREEZE}, {BLOCK})]
                print(asyncio.run(run()), flush=True)
                os._exit(0)
            thread = threading.Thread(target=child)
            thread.start()
            thread.join()
        os.waitpid(pid, 0)
        print(await frozen(executor, {FREEZE}), await executor.execute('40 + 2'))
    """)
    assert " ".join(output) == "[True, True, True, True] True 42"


def test_a_process_exits_at_once_although_its_threads_hang():
    output, elapsed_s = run_program(f"""
        executors = [AsyncExecutor() for _ in range(3)]
        for executor in executors:
            assert await frozen(executor, {BLOCK})
        print('done')
    """)
    assert output == ["done"]
    assert elapsed_s < 12


DEAF = {
    "the cell": "while True:\n    try: await asyncio.sleep(60)\n    except BaseException: pass",
    "a coroutine": "async def f():\n    while True:\n        try: await asyncio.sleep(60)\n"
    "        except BaseException: pass\nawait f()",
    "a generator": "class A:\n    def __await__(self):\n        while True:\n"
    "            try: yield from asyncio.sleep(60).__await__()\n"
    "            except BaseException: pass\nawait A()",
}


@pytest.mark.parametrize("source", DEAF.values(), ids=DEAF)
def test_a_process_ends_although_a_cell_refuses_to_be_closed(source):
    output, _ = run_program(f"""
        async with AsyncExecutor() as executor:
            print(await frozen(executor, {source!r}, timeout=0.1))
            print(await executor.execute('40 + 2'))
    """)
    assert output == ["True", "42"]


def test_closing_an_executor_ends_the_cell_that_runs():
    output, _ = run_program("""
        for source in ('import time\\ntime.sleep(30)',
                       'import time\\ntime.sleep(0)\\nwhile True: pass',
                       'await asyncio.sleep(30)'):
            executor = AsyncExecutor()
            cell = asyncio.create_task(executor.execute(source))
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            await executor.aclose()
            try:
                await cell
            except ExecutionInterruptedError:
                print(time.monotonic() - begun < 2)
    """)
    assert output == ["True"] * 3


FROZEN = {
    "inline": "log = []\ntry:\n    while True: pass\nfinally: log.append('end')",
    "before an await": "log = []\ntry:\n    while True: pass\n"
    "    await asyncio.sleep(0)\nfinally: log.append('end')",
    "after an await": "log = []\nawait asyncio.sleep(0.01)\ntry:\n    while True: pass\n"
    "finally: log.append('end')",
    "in a system call": "import socket\nlog = []\nleft, right = socket.socketpair()\n"
    "await asyncio.sleep(0)\ntry: left.recv(1)\nfinally: log.append('end')",
    "in a thread": "import time\ntime.sleep(0)\nlog = []\ntry:\n    while True: pass\n"
    "finally: log.append('end')",
    "awaiting": "log = []\ntry: await asyncio.sleep(60)\nfinally: log.append('end')",
    "deaf": "log = ['end']\nwhile True:\n    try:\n        while True: pass\n"
    "    except BaseException: pass",
}


INTERRUPTED = """\
import asyncio, os, signal, sys, threading, time
from executor import AsyncExecutor

async def main(source):
    async with AsyncExecutor(timeout=None) as executor:
        kill = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        kill.start()
        begun = time.monotonic()
        try:
            await executor.execute(source)
        except asyncio.CancelledError as error:
            await asyncio.sleep(0)  # heard once: what the host cleans up is not cancelled again
            print(time.monotonic() - begun < 2)
            print(any("Execution ID" in note for note in error.__notes__))
            print(executor.namespace.namespace["log"])
            raise

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("source", FROZEN.values(), ids=FROZEN)
def test_one_ctrl_c_ends_a_cell_that_has_no_limit_and_its_host_cleans_up(source):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", INTERRUPTED, source],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.split("\n")[:3] == ["True", "True", "['end']"], done.stderr
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode == -signal.SIGINT


def test_the_hosts_own_handler_hears_its_signals_and_is_back_after_closing():
    output, _ = run_program("""
        heard = []
        def handler(number, frame):
            heard.append(number)
        signal.signal(signal.SIGURG, handler)
        async with AsyncExecutor() as executor:
            await executor.execute('1')
            os.kill(os.getpid(), signal.SIGURG)
            await asyncio.sleep(0.01)
            assert len(heard) == 1, heard
            assert await frozen(executor, 'await asyncio.sleep(0)\\nimport time\\ntime.sleep(30)')
            assert len(heard) == 1, heard
        assert signal.getsignal(signal.SIGURG) is handler
        print('ok')
    """)
    assert output == ["ok"]


def test_a_signal_handler_installed_by_a_cell_stays():
    output, _ = run_program("""
        executor = AsyncExecutor()
        await executor.execute('import signal\\nsignal.signal(signal.SIGURG, print) and None')
        await executor.aclose()
        print(signal.getsignal(signal.SIGURG) is print)
    """)
    assert output == ["True"]


def test_a_frozen_cell_of_one_session_costs_another_nothing_but_time():
    output, _ = run_program(f"""
        first, second = AsyncExecutor(), AsyncExecutor()
        other = asyncio.create_task(second.execute(
            'n = 0\\nfor _ in range(50):\\n    n += 1\\n    await asyncio.sleep(0.01)\\nn'))
        await asyncio.sleep(0.05)
        print(await frozen(first, {FREEZE}), await other)
    """)
    assert output == ["True", "50"]


def test_a_cell_of_another_session_inside_a_cell_is_ended_with_its_own_limit():
    output, _ = run_program("""
        outer, inner = AsyncExecutor(timeout=10), AsyncExecutor(timeout=0.3)
        outer.namespace.namespace['inner'] = inner
        source = 'import asyncio\\ntry:\\n    await inner.execute("while True: pass")\\n' \\
                 'except TimeoutError: r = "inner"\\nr'
        print(await outer.execute(source))
    """)
    assert output == ["inner"]


def test_cells_that_other_tools_leave_no_monitoring_id_are_ended_by_signal():
    output, _ = run_program(f"""
        for number in range(6):
            if sys.monitoring.get_tool(number) is None:
                sys.monitoring.use_tool_id(number, 'other')
        executor = AsyncExecutor()
        print(await frozen(executor, {FREEZE}), await frozen(executor, {BLOCK}),
              await executor.execute('40 + 2'))
    """)
    assert output == ["True", "True", "42"]


def test_code_that_keeps_the_interpreter_to_itself_ends_late_and_harms_nothing():
    output, _ = run_program("""
        executor = AsyncExecutor()
        source = 'await asyncio.sleep(0)\\nx = sum(range(30_000_000))\\nwhile True: x = 1'
        print(await frozen(executor, source, timeout=0.1) in (True, False))
        print(await executor.execute('40 + 2'))
    """)
    assert output == ["True", "42"]
