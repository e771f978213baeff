"""Cells that never return: their caller is told in time, and the executor runs the next cell.

Each case runs in a process of its own with a hard limit, so that one that fails freezes nothing
but itself. A cell runs on the loop where it awaits something, and in a thread where it calls
something that blocks.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]

HOST = Path(__file__).parent / "programs" / "frozen_cell.py"
ROOT = Path(__file__).parent.parent.parent
HARD_LIMIT_S = 30

ON_LOOP = "import asyncio\nawait asyncio.sleep(0)\n"
IN_THREAD = "import time\ntime.sleep(0.01)\n"

# Each source, and a piece of the line where it is to be found standing.
IN_PYTHON = {
    "an empty loop": ("while True: pass\n", "while True: pass"),
    "a busy loop": ("n = 0\nwhile True:\n    n += 1\n", ""),
    "a loop in a function": ("def f():\n    while True: 1 + 1\nf()\n", "while True: 1 + 1"),
    "a generator without end": (
        "import itertools\nsum(i for i in itertools.count())\n",
        "sum(i for i in",
    ),
    "a loop in a library function": (
        "import random\nwhile random.randint(0, 5) < 9: pass\n",
        "",
    ),
    "a library function that loops itself": (
        "import itertools, heapq\nfor _ in heapq.merge(itertools.repeat(1)): pass\n",
        "",
    ),
    "a finally block that never ends": (
        "try:\n    1 / 0\nfinally:\n    while True: pass\n",
        "while True: pass",
    ),
    "a cleanup that never ends": (
        "try:\n    while True: pass\nfinally:\n    while True: pass\n",
        "while True: pass",
    ),
    "a handler that swallows everything": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n",
        "while True: pass",
    ),
    "a bare except on every level": (
        (
            "def f():\n"
            "    while True:\n"
            "        try:\n"
            "            g()\n"
            "        except:\n"
            "            pass\n"
            "def g():\n"
            "    while True:\n"
            "        try:\n"
            "            while True: pass\n"
            "        except:\n"
            "            pass\n"
            "f()\n"
        ),
        "while True: pass",
    ),
    "a suppressing context manager": (
        (
            "import contextlib\n"
            "while True:\n"
            "    with contextlib.suppress(BaseException):\n"
            "        while True: pass\n"
        ),
        "while True: pass",
    ),
    "recursion in every finally": (
        "def f():\n    try:\n        f()\n    finally:\n        f()\nf()\n",
        "",
    ),
    "code run by exec": ("exec('while True: pass')\n", ""),
    "a loop with busy output": ("while True: len(str(dict(a=1)))\n", "while True: len"),
}
IN_C = {
    "sleep": ("import time\ntime.sleep(30)\n", "time.sleep(30)"),
    "a sleep that swallows everything": (
        (
            "import time\nwhile True:\n"
            "    try:\n        time.sleep(30)\n    except BaseException: pass\n"
        ),
        "time.sleep(30)",
    ),
    "recv": ("import socket\na, b = socket.socketpair()\na.recv(1)\n", "a.recv(1)"),
    "accept": (
        "import socket\ns = socket.create_server(('127.0.0.1', 0))\ns.accept()\n",
        "s.accept()",
    ),
    "a lock": (
        "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n",
        "lock.acquire()",
    ),
    "a lock in a with statement": (
        "import threading\nlock = threading.Lock()\nlock.acquire()\nwith lock: pass\n",
        "with lock: pass",
    ),
    "a queue": ("import queue\nqueue.Queue().get()\n", "queue.Queue().get()"),
    "a process": (
        "import subprocess\nsubprocess.run(['sleep', '20'])\n",
        "subprocess.run(['sleep', '20'])",
    ),
    "a pipe": ("import os\nr, w = os.pipe()\nos.read(r, 1)\n", "os.read(r, 1)"),
    "a thread that is joined": (
        (
            "import threading\n"
            "never = threading.Event()\n"
            "t = threading.Thread(target=never.wait, daemon=True)\n"
            "t.start()\n"
            "t.join()\n"
        ),
        "t.join()",
    ),
}
AWAITING = {
    "an await": ("await asyncio.sleep(30)\n", "await asyncio.sleep(30)"),
    "an await that swallows cancellation": (
        "while True:\n    try:\n        await asyncio.sleep(30)\n    except BaseException: pass\n",
        "await asyncio.sleep(30)",
    ),
    "awaits in nested finally blocks": (
        (
            "try:\n    await asyncio.sleep(30)\nfinally:\n"
            "    try:\n        await asyncio.sleep(30)\n"
            "    finally:\n        await asyncio.sleep(30)\n"
        ),
        "await asyncio.sleep(30)",
    ),
    "an await that goes round without a pause": (
        "async def f(): pass\nwhile True: await f()\n",
        "while True: await f()",
    ),
    "a coroutine that loops": (
        "async def f():\n    while True: pass\nawait f()\n",
        "while True: pass",
    ),
    "a task that loops": (
        "async def f():\n    while True: pass\nt = asyncio.create_task(f())\nawait t\n",
        "",
    ),
    "a task group with a frozen child": (
        (
            "async def f():\n    while True: pass\n"
            "async with asyncio.TaskGroup() as group:\n"
            "    group.create_task(f())\n"
            "    group.create_task(asyncio.sleep(30))\n"
        ),
        "",
    ),
    "a callback that loops": (
        (
            "def f():\n    while True: pass\n"
            "asyncio.get_running_loop().call_soon(f)\nawait asyncio.sleep(30)\n"
        ),
        "",
    ),
    "an asynchronous generator that loops": (
        "async def g():\n    while True: yield 1\nasync for _ in g(): pass\n",
        "",
    ),
}


def run_host(source, *, setup="", timeout_s=1.0, limit="timeout", thread=False, idle_s=0):
    """Run the cell in a host process; kill the process at the hard limit."""
    task = {
        "source": source,
        "setup": setup,
        "timeout_s": timeout_s,
        "limit": limit,
        "thread": thread,
        "idle_s": idle_s,
    }
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(HOST)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=HARD_LIMIT_S,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_ended_in_time(report, text, timeout_s=1.0):
    assert report["error"] == "TimeoutError", report
    assert timeout_s - 0.1 <= report["elapsed_s"] < timeout_s + 1.0, report
    notes = "\n".join(report["notes"])
    assert " cell " in notes, notes
    assert "line " in notes, notes
    assert text in notes, notes
    assert report["next"] == 42
    assert report["next_awaited"] == 43
    assert report["next_blocking"] == 44
    assert report["next_elapsed_s"] < 1
    assert report["close_s"] < 2


def cases(*tables):
    return [pytest.param(*case, id=name) for table in tables for name, case in table.items()]


@pytest.mark.parametrize(("source", "text"), cases(IN_PYTHON, IN_C))
def test_a_frozen_cell_on_the_loop_of_the_main_thread_times_out(source, text):
    assert_ended_in_time(run_host(ON_LOOP + source), text)


@pytest.mark.parametrize(("source", "text"), cases(IN_PYTHON, IN_C))
def test_a_frozen_cell_in_a_thread_times_out(source, text):
    assert_ended_in_time(run_host(IN_THREAD + source), text)


@pytest.mark.parametrize(("source", "text"), cases(IN_PYTHON))
def test_a_frozen_cell_without_an_await_times_out(source, text):
    assert_ended_in_time(run_host(source), text)


@pytest.mark.parametrize(("source", "text"), cases(AWAITING))
def test_a_frozen_cell_that_awaits_times_out(source, text):
    assert_ended_in_time(run_host("import asyncio\n" + source), text)


@pytest.mark.parametrize(("source", "text"), cases(IN_PYTHON))
def test_a_frozen_cell_on_a_loop_outside_the_main_thread_times_out(source, text):
    assert_ended_in_time(run_host(ON_LOOP + source, thread=True), text)


@pytest.mark.parametrize(("source", "text"), cases(IN_C))
def test_a_cell_blocked_in_c_beside_a_loop_outside_the_main_thread_times_out(source, text):
    assert_ended_in_time(run_host(IN_THREAD + source, thread=True), text)


def test_a_task_of_an_earlier_cell_that_freezes_the_loop_is_ended():
    setup = (
        "import asyncio\n"
        "async def f():\n"
        "    await asyncio.sleep(0.2)\n"
        "    while True: pass\n"
        "task = asyncio.create_task(f())\n"
        "await asyncio.sleep(0)\n"
    )
    report = run_host("await asyncio.sleep(5)", setup=setup)
    assert_ended_in_time(report, "")


LEFT_BEHIND = {
    "a task": (
        (
            "import asyncio\n"
            "async def f():\n"
            "    await asyncio.sleep(0.1)\n"
            "    while True: pass\n"
            "task = asyncio.create_task(f())\n"
        ),
        "while True: pass",
    ),
    "a task that swallows everything": (
        (
            "import asyncio\n"
            "async def f():\n"
            "    await asyncio.sleep(0.1)\n"
            "    while True:\n"
            "        try:\n"
            "            while True: pass\n"
            "        except BaseException: pass\n"
            "task = asyncio.create_task(f())\n"
        ),
        "while True: pass",
    ),
    "a task that blocks in C": (
        (
            "import asyncio, time\n"
            "async def f():\n"
            "    await asyncio.sleep(0.1)\n"
            "    time.sleep(30)\n"
            "task = asyncio.create_task(f())\n"
        ),
        "time.sleep(30)",
    ),
}


@pytest.mark.parametrize(("source", "text"), cases(LEFT_BEHIND))
def test_what_a_cell_leaves_running_cannot_freeze_the_host_either(source, text):
    report = run_host(source + "await asyncio.sleep(0)\n", idle_s=0.5)
    assert report["error"] is None
    assert report["idle_s"] < 3
    assert text in "\n".join(report["idle_notes"])
    assert (report["next"], report["next_awaited"], report["next_blocking"]) == (42, 43, 44)


def test_finally_blocks_and_exits_of_a_frozen_cell_run():
    source = (
        "left = []\n"
        "class Manager:\n"
        "    def __enter__(self): pass\n"
        "    def __exit__(self, *details): left.append('exit')\n"
        "try:\n"
        "    with Manager():\n"
        "        while True: pass\n"
        "finally:\n"
        "    left.append('finally')\n"
    )
    for prefix in (ON_LOOP, IN_THREAD, ""):
        report = run_host(prefix + source)
        assert_ended_in_time(report, "while True: pass")
        assert report["left"] == ["exit", "finally"]


INTERRUPTED = {
    "a loop after an await": (ON_LOOP + "while True: pass\n", "while True: pass"),
    "a loop without an await": ("while True: pass\n", "while True: pass"),
    "a loop in a thread": (IN_THREAD + "while True: pass\n", "while True: pass"),
    "a sleep on the loop": (ON_LOOP + "import time\ntime.sleep(30)\n", "time.sleep(30)"),
    "a sleep in a thread": ("import time\ntime.sleep(30)\n", "time.sleep(30)"),
    "an await": ("import asyncio\nawait asyncio.sleep(30)\n", ""),
    "a handler that swallows everything": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n",
        "while True: pass",
    ),
    "an await that swallows everything": (
        (
            "import asyncio\nwhile True:\n"
            "    try:\n        await asyncio.sleep(30)\n    except BaseException: pass\n"
        ),
        "",
    ),
}


@pytest.mark.parametrize(("source", "text"), cases(INTERRUPTED))
def test_interrupt_from_another_thread_ends_a_frozen_cell(source, text):
    report = run_host(source, timeout_s=25.0, limit="interrupt")
    assert report["error"] == "ExecutionInterruptedError", report
    assert 0.4 <= report["elapsed_s"] < 2.0, report
    assert text in "\n".join(report["notes"])
    assert (report["next"], report["next_awaited"], report["next_blocking"]) == (42, 43, 44)
