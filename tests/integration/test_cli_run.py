"""``sostenuto run``: input, results, resumption, exit codes, and Ctrl-C."""

from __future__ import annotations

import fcntl
import http.server
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest
from integration.command import LIMIT_S, Shell, argv

pytestmark = pytest.mark.integration

STEPS = """
def step(n):
    with open("log", "a") as log:
        log.write(f"{n}\\n")
    return n * n

squares = [await ctx.run(step, n) for n in range(3)]
sum(squares)
"""

WAITS = """
def step(n):
    return n

first = await ctx.run(step, 1)
first + await ctx.promise()
"""


def log_of(shell: Shell) -> list[str]:
    path = shell.directory / "log"
    return path.read_text().split() if path.exists() else []


def test_a_file_runs_and_its_last_expression_is_printed(shell: Shell) -> None:
    shell.write("job.py", STEPS)
    done = shell.run("run", "job.py", "--db", "runs.db")
    assert done.stdout == "5\n"
    assert "3 steps done" in done.stderr


def test_a_finished_file_prints_its_recorded_result_and_runs_nothing(shell: Shell) -> None:
    shell.write("job.py", STEPS)
    shell.run("run", "job.py", "--db", "runs.db")
    again = shell.run("run", "job.py", "--db", "runs.db")
    assert again.stdout == "5\n"
    assert "nothing ran" in again.stderr
    assert log_of(shell) == ["0", "1", "2"]


def test_changed_source_is_refused_and_force_keeps_the_old_record(shell: Shell) -> None:
    shell.write("job.py", STEPS)
    shell.run("run", "job.py", "--id", "job", "--db", "runs.db")
    shell.write("job.py", STEPS + "\n'changed'")
    refused = shell.run("run", "job.py", "--id", "job", "--db", "runs.db", code=2)
    assert "has changed" in refused.stderr
    assert "--force" in refused.stderr
    assert shell.run("run", "job.py", "--id", "job", "--db", "runs.db", "--force").stdout == (
        "changed\n"
    )
    listed = {each["id"]: each["result"] for each in shell.json("ls", "--db", "runs.db")}
    assert listed == {"job": 5, "job@2": "changed"}


def test_source_may_come_from_the_command_line_or_standard_input(shell: Shell) -> None:
    assert shell.run("run", "-c", "6 * 7").stdout == "42\n"
    assert shell.run("run", "-", stdin="await ctx.sleep(0)\n'read'").stdout == "read\n"


def test_the_default_database_lies_in_the_users_own_data_directory(shell: Shell) -> None:
    shell.run("run", "-c", "1")
    (found,) = shell.directory.rglob("runs.db")
    assert "sostenuto" in str(found.parent)
    assert found.stat().st_mode & 0o777 == 0o600


def test_cells_are_named_as_they_begin(shell: Shell) -> None:
    shell.write("cells.py", "# %% load\nx = 20\n\n# %%\nx + 1\n")
    done = shell.run("run", "cells.py", "--db", "runs.db")
    assert done.stdout == "21\n"
    assert "cell 1 of 2, line 1: load" in done.stderr
    assert "cell 2 of 2, line 4" in done.stderr


def test_an_error_is_shown_as_python_shows_it_with_lines_of_the_file(shell: Shell) -> None:
    shell.write(
        "bad.py", "# %% a\ndef step():\n    raise KeyError('k')\n# %% b\nawait ctx.run(step)\n"
    )
    done = shell.run("run", "bad.py", "--id", "bad", "--db", "runs.db", "-q", code=1)
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "line 5, in <module>" in lines[1]
    assert lines[2] == "    await ctx.run(step)"
    assert any("line 3, in step" in line for line in lines[3:])
    assert lines[lines.index("    raise KeyError('k')") + 1] == "KeyError: 'k'"
    assert "Execution ID: bad" in lines
    again = shell.run("run", "bad.py", "--id", "bad", "--db", "runs.db", "-q", code=1)
    assert again.stderr == done.stderr


def test_causes_are_shown_before_what_they_caused(shell: Shell) -> None:
    source = (
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('no') from error\n"
    )
    done = shell.run("run", "-c", source, "--db", "runs.db", "-q", code=1)
    order = [
        done.stderr.index(text)
        for text in ("ZeroDivisionError: division", "direct cause", "OSError: no")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("name", "data", "code", "text"),
    [
        ("missing.py", None, 2, "there is no file 'missing.py'"),
        (".", None, 2, "is a directory"),
        ("latin.py", b"x = '\xe9'\n", 2, "is not UTF-8 text (byte 0xe9 in line 1)"),
        ("syntax.py", b"x = (1,\ny = 2\n", 1, "SyntaxError"),
        ("null.py", b"x = '\x00'\n", 1, "null"),
    ],
)
def test_bad_input_gets_one_clear_message(
    shell: Shell, name: str, data: bytes | None, code: int, text: str
) -> None:
    if data is not None:
        (shell.directory / name).write_bytes(data)
    done = shell.run("run", name, "--db", "runs.db", code=code)
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shell.directory / "runs.db").exists()


def test_a_syntax_error_is_shown_with_file_line_and_caret(shell: Shell) -> None:
    path = shell.write("syntax.py", "x = 1\nif x\n    y\n")
    done = shell.run("run", "syntax.py", code=1)
    assert f'File "{path}", line 2' in done.stderr
    assert re.search(r"\n +\^", done.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ("run",),
        ("run", "job.py", "-c", "1"),
        ("run", "-c", "1", "--timeout", "soon"),
        ("run", "-c", "1", "--db", "ftp://host"),
        ("run", "-c", "1", "--id", "a:b"),
        ("run", "-c", "1", "--no-such-option"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_ends_with_code_2(shell: Shell, args: tuple[str, ...]) -> None:
    done = shell.run(*args, code=2)
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_databases_that_cannot_be_used_are_named_and_left_untouched(shell: Shell) -> None:
    corrupt = shell.directory / "corrupt.db"
    corrupt.write_bytes(b"this is no database at all" * 100)
    before = corrupt.read_bytes()
    done = shell.run("run", "-c", "1", "--db", "corrupt.db", code=3)
    assert "corrupt.db" in done.stderr
    assert corrupt.read_bytes() == before
    done = shell.run("run", "-c", "1", "--db", "no/such/directory/runs.db", code=3)
    assert "no/such/directory" in done.stderr


@pytest.mark.parametrize("command", [("run", "-c", "1"), ("ls",), ("resolve", "x")])
@pytest.mark.parametrize("scheme", ["http", "nats"])
def test_an_engine_that_does_not_answer_is_named_at_once_with_code_3(
    shell: Shell, scheme: str, command: tuple[str, ...]
) -> None:
    with socket.socket() as taken:  # bound, but nothing listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = shell.run(*command, "--db", f"{scheme}://u:secret@127.0.0.1:{port}", code=3)
    assert done.stderr == (
        f"sostenuto: no engine answers at '{scheme}://u:***@127.0.0.1:{port}': Connection refused. "
        "Start it, or name another with --db\n"
    )


def test_an_address_that_answers_something_else_is_no_engine(shell: Shell) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(501, "a page of many lines")

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = shell.run("ls", "--db", f"http://127.0.0.1:{server.server_port}", code=3)
        finally:
            server.shutdown()
    assert "is no Resonate engine: check the address" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_timeout_ends_with_code_124_and_says_where_the_code_stood(shell: Shell) -> None:
    source = "import asyncio\nawait asyncio.sleep(60)\n"
    done = shell.run("run", "-c", source, "--timeout", "0.3", "--db", "runs.db", "-q", code=124)
    assert "timed out" in done.stderr
    assert "asyncio.sleep(60)" in done.stderr


def test_what_waits_for_others_is_given_back_with_code_4_and_goes_on(shell: Shell) -> None:
    shell.write("job.py", WAITS)
    run = ("run", "job.py", "--id", "job", "--db", "runs.db", "--wait", "0")
    done = shell.run(*run, code=4)
    settle = re.search(r"sostenuto resolve (\S+) --value JSON --db runs\.db", done.stderr)
    assert settle is not None
    assert "sostenuto run job.py --id job --db runs.db" in done.stderr
    shell.run("resolve", settle[1], "--value", "41", "--db", "runs.db")
    assert shell.run(*run).stdout == "42\n"


def test_json_output_is_one_document_and_nothing_else(shell: Shell) -> None:
    document = shell.json("run", "-c", "await ctx.sleep(0)\n[1, 'two']", "--db", "runs.db")
    assert document["state"] == "resolved"
    assert document["result"] == [1, "two"]


SLOW = """
import asyncio
async def step(n):
    await asyncio.sleep(0.2)
    return n
for n in range(100):
    await ctx.run(step, n)
"""


def wait_for_text(path: Path, pattern: str) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not re.search(pattern, path.read_text()):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_ctrl_c_hands_the_execution_back_and_prints_how_to_resume(shell: Shell) -> None:
    shell.write("slow.py", SLOW)
    errors = shell.directory / "errors"
    with errors.open("w") as stream:
        process = shell.start("run", "slow.py", "--id", "slow", "--db", "runs.db", stderr=stream)
        wait_for_text(errors, r"[2-9] steps done")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT_S) == 130
    text = errors.read_text()
    assert "Resume with: sostenuto run slow.py --id slow --db runs.db" in text
    assert "Traceback" not in text
    steps = shell.json("show", "slow", "--db", "runs.db")["steps"]
    assert len([step for step in steps if step["state"] == "resolved"]) >= 2
    assert shell.json("show", "slow", "--db", "runs.db")["state"] == "pending"


FROZEN = {
    "a loop that computes for ever": "while True:\n    pass\n",
    "a step that holds the loop": "import time\n"
    "async def f():\n    time.sleep(600)\nawait ctx.run(f)\n",
    "a step whose thread never ends": "def f():\n    while True:\n        pass\nawait ctx.run(f)\n",
    "a call in a thread of the session": "import time\ntime.sleep(600)\n",
    "cleanup that never ends": "import asyncio\ntry:\n    await asyncio.sleep(600)\n"
    "finally:\n    import time\n    time.sleep(600)\n",
}


@pytest.mark.parametrize("source", FROZEN.values(), ids=FROZEN.keys())
def test_ctrl_c_ends_code_that_does_not_end_by_itself(shell: Shell, source: str) -> None:
    shell.write("frozen.py", "print('begun')\nopen('mark', 'w').close()\n" + source)
    errors = shell.directory / "errors"
    output = shell.directory / "output"
    with errors.open("w") as stream, output.open("w") as out:
        process = shell.start("run", "frozen.py", "--db", "r.db", stdout=out, stderr=stream)
        give_up = time.monotonic() + LIMIT_S
        while not (shell.directory / "mark").exists():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        time.sleep(0.5)  # into the frozen part; earlier is as good, only not as telling
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT_S) == 130
    text = errors.read_text()
    assert text.count("Resume with: sostenuto run frozen.py --db r.db") == 1
    assert "Traceback" not in text
    assert output.read_text() == "begun\n", "what was printed before is not lost"
    assert [record["state"] for record in shell.json("ls", "--db", "r.db")] == ["pending"]


def test_a_second_ctrl_c_ends_it_at_once(shell: Shell) -> None:
    shell.write("stubborn.py", FROZEN["a loop that computes for ever"])
    process = shell.start("run", "stubborn.py", "--db", "r.db")
    assert process.stderr is not None
    assert "running" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    # Two signals that meet may be handled in either order: each ends it, one way or the other.
    assert process.wait(timeout=LIMIT_S) in {130, -signal.SIGINT, -signal.SIGTERM}
    process.communicate()


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.3, 0.5, 0.8])
def test_ctrl_c_in_the_first_second_leaves_no_traceback(shell: Shell, after_s: float) -> None:
    shell.write("slow.py", SLOW)
    process = shell.start("run", "slow.py", "--id", "slow", "--db", "runs.db")
    time.sleep(after_s)  # somewhere between the interpreter's start and the first steps
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode in {130, -signal.SIGINT}
    assert "durable/" not in errors, "a traceback of ours"
    assert process.returncode != 130 or "interrupted" in errors


def test_a_step_that_outlives_the_time_limit_does_not_keep_the_process(shell: Shell) -> None:
    source = FROZEN["a step whose thread never ends"]
    shell.run("run", "--timeout", "1", "--db", "r.db", "-c", source, code=124)


def test_ctrl_c_on_a_terminal_leaves_it_tidy(shell: Shell) -> None:
    shell.write("slow.py", SLOW)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        argv("run", "slow.py", "--id", "slow", "--db", "runs.db"),
        cwd=shell.directory,
        env=shell.env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    seen = b""
    sent = False
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
        if not sent and b"2 steps done" in seen:
            sent = True
            os.write(master, b"\x03")
    assert process.wait(timeout=LIMIT_S) == 130
    os.close(master)
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen).decode()
    assert "Resume with: sostenuto run slow.py --id slow --db runs.db" in text
    assert "Traceback" not in text
    assert b"\x1b[?25l" not in seen, "the cursor was hidden, and a kill would leave it so"


def test_what_finished_steps_printed_outlives_a_kill_also_in_a_pipe(shell: Shell) -> None:
    shell.write(
        "job.py",
        "import os, signal\nawait ctx.run(print, 'paid')\nos.kill(os.getpid(), signal.SIGKILL)\n",
    )
    done = shell.run("run", "job.py", "--db", "runs.db", code=-signal.SIGKILL)
    assert done.stdout == "paid\n"


def test_a_killed_run_goes_on_where_it_was(shell: Shell) -> None:
    shell.write("job.py", STEPS.replace("return n", "__import__('time').sleep(0.3); return n"))
    process = shell.start("run", "job.py", "--db", "runs.db")
    give_up = time.monotonic() + LIMIT_S
    while len(log_of(shell)) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = shell.run("run", "job.py", "--db", "runs.db")
    assert done.stdout == "5\n"
    assert "resuming" in done.stderr
    assert log_of(shell).count("0") == 1
