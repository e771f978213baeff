"""Whose work a command does: its own execution's, whatever else is open in the file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from integration.command import LIMIT_S, Shell

pytestmark = pytest.mark.integration

SLOW = """
def step(n):
    import time
    time.sleep(0.1)
    print("slow step", n)
    return n

for n in range(12):
    await ctx.run(step, n)
"slow is done"
"""

HELD = """
def step(n):
    import os, time
    while n == 1 and not os.path.exists("go"):
        time.sleep(0.01)
    print("held step", n)
    return n

for n in range(3):
    await ctx.run(step, n)
"held is done"
"""

APP = """
import asyncio, sys
from durable import Durable

app = Durable("runs.db")

@app.register
async def double(ctx, n):
    return 2 * n

async def main():
    async with app:
        if sys.argv[1] == "start":
            app.run_source("made-by-app", open("waits.py").read())
            while not [record async for record in app.executions()]:
                await asyncio.sleep(0.01)
        else:
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""

WAITS = "value = await ctx.promise()\nawait ctx.sleep(0.1)\nvalue * 2\n"


@pytest.fixture
def here(shell: Shell) -> Shell:
    shell.env["SOSTENUTO_DB"] = str(shell.directory / "runs.db")
    shell.write("slow.py", SLOW)
    shell.write("held.py", HELD)
    shell.write("app.py", APP)
    shell.write("waits.py", WAITS)
    return shell


def program(shell: Shell, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "app.py", argument],
        cwd=shell.directory, env=shell.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_command_does_not_go_on_with_what_another_left(here: Shell, end: signal.Signals) -> None:
    process = here.start("run", "slow.py", "--id", "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "slow step 0\n"
    process.send_signal(end)
    process.communicate(timeout=LIMIT_S)
    other = here.run("run", "-c", "await ctx.sleep(0.5)\n'other'", "--id", "other")
    assert other.stdout == "other\n"
    assert "from the store" not in other.stderr
    assert here.json("show", "slow")["state"] == "pending"
    assert here.run("run", "slow.py", "--id", "slow").stdout.endswith("slow is done\n")


def test_code_that_ends_its_process_ends_no_other_command(here: Shell) -> None:
    fatal = "import os\nos._exit(7)"
    here.run("run", "-c", fatal, "--id", "fatal", code=7)
    assert here.run("run", "-c", "6 * 7").stdout == "42\n"
    here.run("run", "-c", fatal, "--id", "fatal", code=7)


def test_two_commands_of_one_execution_share_it_and_either_takes_over(here: Shell) -> None:
    first = here.start("run", "held.py", "--id", "held")
    assert first.stdout is not None
    assert first.stdout.readline() == "held step 0\n"
    second = here.start("run", "held.py", "--id", "held")
    assert second.stderr is not None
    assert second.stderr.readline() == "sostenuto: resuming held\n"
    first.kill()
    first.communicate(timeout=LIMIT_S)
    here.write("go", "")
    output, errors = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0, errors
    assert output == "held step 1\nheld step 2\nheld is done\n"


def test_a_command_says_which_process_runs_the_execution_it_waits_for(here: Shell) -> None:
    first = here.start("run", "waits.py", "--id", "one", "--wait", "forever")
    assert first.stderr is not None
    assert first.stderr.readline() == "sostenuto: running one\n"
    deadline = time.monotonic() + LIMIT_S
    while not (here.json("ls") and here.json("show", "one")["steps"]):
        assert time.monotonic() < deadline
    second = here.start("run", "waits.py", "--id", "one", "--wait", "forever")
    assert second.stderr is not None
    assert second.stderr.readline() == "sostenuto: resuming one\n"
    while "another process" not in (line := second.stderr.readline()):
        assert line, "the command ended"
    assert f"one runs in another process, {first.pid}-" in line
    here.run("resolve", "one:1", "--value", "21")
    for process in (first, second):
        output, errors = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, output) == (0, "42\n"), errors


def test_a_command_goes_on_with_an_execution_that_an_app_began(here: Shell) -> None:
    process = program(here, "start")
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    run = here.start("run", "waits.py", "--id", "made-by-app", "--wait", "forever")
    deadline = time.monotonic() + LIMIT_S
    while not here.json("show", "made-by-app")["steps"]:
        assert time.monotonic() < deadline
    here.run("resolve", "made-by-app:1", "--value", "21")
    output, errors = run.communicate(timeout=LIMIT_S)
    assert (run.returncode, output) == (0, "42\n"), errors


def test_source_reaches_the_functions_of_apps_by_name(here: Shell) -> None:
    worker = program(here, "work")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    assert here.run("run", "-c", "await ctx.rpc('double', 4)").stdout == "8\n"
    worker.communicate("\n", timeout=LIMIT_S)
