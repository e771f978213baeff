"""What a terminal shows: within its width, in colour, and with its cursor left alone."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest
from integration.command import LIMIT_S, Shell, argv

pytestmark = pytest.mark.integration

LONG_ID = "report-of-the-year-2026-for-all-of-the-departments"


def on_terminal(
    shell: Shell, *args: str, columns: int = 80, kill_at: bytes | None = None, **env: str
) -> str:
    """Run a command on a terminal of a width, and return what it was sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        argv(*args), cwd=shell.directory, env={**shell.env, **env},
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        seen += chunk
        if kill_at is not None and kill_at in seen:
            process.send_signal(signal.SIGKILL)
    os.close(master)
    process.wait(timeout=LIMIT_S)
    return seen.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def failed(shell: Shell) -> Shell:
    shell.env["SOSTENUTO_DB"] = str(shell.directory / "runs.db")
    shell.run("run", "-c", "raise ValueError('seen ' * 80)", "--id", LONG_ID, code=1)
    shell.write("short.py", "await ctx.run(lambda: 1)\n1 / 0\n")
    shell.run("run", "short.py", "--id", "short", code=1)
    return shell


@pytest.mark.parametrize("columns", [60, 80, 120, 240])
def test_a_listing_fits_its_terminal_and_cuts_no_id(failed: Shell, columns: int) -> None:
    text = plain(on_terminal(failed, "ls", columns=columns))
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert "ZeroDivisionError: division by zero" in text
    assert "ValueError: seen seen" in text
    start = next(n for n, line in enumerate(lines) if line.startswith("report-of"))
    folded = "".join(line.split(" ")[0] for line in lines[start : start + 6])
    assert LONG_ID in folded
    row = next(line for line in lines if line.startswith("short "))
    assert "short." in row
    assert "short:1" in plain(on_terminal(failed, "show", "short", columns=columns))


def test_a_kill_leaves_the_cursor_on_the_terminal(shell: Shell) -> None:
    shell.write("slow.py", "import asyncio\nawait ctx.run(lambda: 1)\nawait asyncio.sleep(60)\n")
    seen = on_terminal(shell, "run", "slow.py", "--db", "runs.db", kill_at=b"1 step done")
    assert "1 step done" in seen
    assert "\x1b[?25l" not in seen, "nobody would show a hidden cursor again"


def test_colours_are_for_terminals_and_can_be_turned_off(failed: Shell) -> None:
    assert "\x1b[31mrejected" in on_terminal(failed, "ls")
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[3" not in on_terminal(failed, "ls", **env)
    assert "\x1b" not in failed.run("ls").stdout


def test_a_sleep_is_shown_with_the_moment_of_its_end(shell: Shell) -> None:
    seen = plain(on_terminal(shell, "run", "-c", "await ctx.sleep(1.5)", "--db", "runs.db"))
    shown = re.search(r"sleeping until (\d\d):(\d\d):(\d\d)", seen)
    assert shown is not None, seen
    hours, minutes, seconds = map(int, shown.groups())
    now = time.localtime()
    ago_s = (now.tm_hour - hours) * 3600 + (now.tm_min - minutes) * 60 + now.tm_sec - seconds
    assert ago_s % 86_400 < LIMIT_S


def test_a_traceback_names_the_file_and_its_lines(shell: Shell) -> None:
    path = shell.write("cells.py", "# %% a\ndef divide():\n    return 1 / 0\n# %% b\ndivide()\n")
    done = shell.run("run", "cells.py", "--id", "cells", "--db", "runs.db", "-q", code=1)
    assert f'File "{path}", line 5, in <module>' in done.stderr
    assert f'File "{path}", line 3, in divide' in done.stderr
    assert "<sostenuto" not in done.stderr
    assert f'File "{path}", line 3' in shell.run("show", "cells", "--db", "runs.db").stdout


def test_a_result_that_cannot_be_stored_is_told_without_a_traceback_of_ours(shell: Shell) -> None:
    done = shell.run("run", "-c", "(n for n in range(3))", "--db", "runs.db", "-q", code=1)
    assert done.stderr.startswith("durable.errors.UnserializableValueError: nothing can store")
    assert "Traceback" not in done.stderr


def test_a_replay_prints_what_the_code_prints_beside_its_document(shell: Shell) -> None:
    shell.run("run", "-c", "print('hello')\n1", "--id", "says", "--db", "runs.db")
    assert shell.json("replay", "says", "--db", "runs.db")["identical"] is True
    shell.run("run", "-c", "print('hello')\n1", "--id", "says", "--db", "runs.db", "--force")
    assert shell.json("replay", "says", "--db", "runs.db")["id"] == "says@2"
    assert shell.json("replay", "says@1", "--db", "runs.db")["id"] == "says"
