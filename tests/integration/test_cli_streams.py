"""Output that is closed, full or no longer read, and input that is not there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from integration.command import LIMIT_S, Shell, argv

pytestmark = pytest.mark.integration

CHATTY = """
def say(n):
    print("line", n)
    return n

for n in range(200):
    await ctx.run(say, n)
"the end"
"""


@pytest.fixture
def chatty(shell: Shell) -> Shell:
    shell.env["SOSTENUTO_DB"] = str(shell.directory / "runs.db")
    shell.write("chatty.py", CHATTY)
    return shell


def under_shell(shell: Shell, line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in which ``SOSTENUTO`` stands for the command."""
    return subprocess.run(
        ["bash", "-c", line.replace("SOSTENUTO", " ".join(argv()))],
        cwd=shell.directory, env=shell.env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


def test_a_reader_that_leaves_stops_the_run_and_not_the_execution(chatty: Shell) -> None:
    done = under_shell(chatty, "SOSTENUTO run chatty.py --id c | head -1; exit ${PIPESTATUS[0]}")
    assert done.stdout == "line 0\n"
    assert done.returncode == 130, done.stderr
    assert "nobody reads standard output any more" in done.stderr
    assert "Resume with: sostenuto run chatty.py --id c" in done.stderr
    assert chatty.json("show", "c")["state"] == "pending"
    again = chatty.run("run", "chatty.py", "--id", "c")
    assert again.stdout.endswith("line 199\nthe end\n")
    assert "line 0\n" not in again.stdout, "what was done stays done"


def test_a_full_disk_behind_the_output_stops_the_run_and_not_the_execution(chatty: Shell) -> None:
    done = under_shell(chatty, "SOSTENUTO run chatty.py --id c > /dev/full")
    assert done.returncode == 130, done.stderr
    assert "standard output cannot be written: No space left on device" in done.stderr
    assert chatty.run("run", "chatty.py", "--id", "c").stdout.endswith("the end\n")


def test_a_result_that_cannot_be_printed_is_on_record_and_the_command_says_so(
    chatty: Shell,
) -> None:
    done = under_shell(chatty, "SOSTENUTO run -c 'await ctx.sleep(0); 42' --id c > /dev/full")
    assert done.returncode == 1
    assert "its result on record" in done.stderr
    assert chatty.json("show", "c")["result"] == 42


@pytest.mark.parametrize("command", ["ls", "ls --json", "show c", "export c", "--help"])
def test_a_listing_that_cannot_be_written_says_why_in_one_line(chatty: Shell, command: str) -> None:
    chatty.run("run", "-c", "1", "--id", "c")
    done = under_shell(chatty, f"SOSTENUTO {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "sostenuto: standard output cannot be written: No space left on device\n"
    )


def test_closed_streams_change_nothing_but_what_is_seen(chatty: Shell) -> None:
    assert under_shell(chatty, "SOSTENUTO run -c 5 --id a <&- >&- 2>&-").returncode == 0
    assert under_shell(chatty, "SOSTENUTO run -c 'print(1); 5' --id b >&-").returncode == 0
    assert under_shell(chatty, "SOSTENUTO ls >&- 2>&-").returncode == 0
    assert under_shell(chatty, "SOSTENUTO run -c 6 --id c 2>&-").stdout == "6\n"
    assert {row["id"] for row in chatty.json("ls")} == {"a", "b", "c"}
    chatty.run("doctor")


def test_source_from_a_closed_standard_input_is_a_usage_error(chatty: Shell) -> None:
    done = under_shell(chatty, "SOSTENUTO run - <&-")
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr


def test_a_bad_id_is_refused_before_a_database_is_made(shell: Shell, tmp_path: Path) -> None:
    for id in ("a:b", "", "two\nlines", "x" * 600):
        done = shell.run("run", "-c", "1", "--id", id, "--db", "new.db", code=2)
        assert done.stderr.startswith("sostenuto: --id")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new.db").exists()


def test_an_encoding_without_the_letters_changes_the_output_and_no_outcome(shell: Shell) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ascii_only["PYTHONIOENCODING"] = "ascii"
    shell.env["SOSTENUTO_DB"] = str(shell.directory / "runs.db")
    done = shell.run("run", "-c", "print('häuser')\n'日本'", "--id", "letters", **ascii_only)
    assert done.stdout == "h\\xe4user\n\\u65e5\\u672c\n"
    assert shell.json("show", "letters")["result"] == "日本"
    for command in (("show", "letters", "--json"), ("tree", "letters", "--json"), ("ls", "--json")):
        document = json.loads(shell.run(*command, **ascii_only).stdout)
        assert "日本" in json.dumps(document, ensure_ascii=False)
    history = shell.run("export", "letters", **ascii_only).stdout
    assert json.loads(history) == json.loads(shell.run("export", "letters").stdout)
    assert "h\\xe4user" in shell.run("show", "letters", **ascii_only).stdout


def test_a_refused_value_is_repeated_in_part(shell: Shell) -> None:
    done = shell.run("resolve", "x", "--value", "[" * 100_000, code=2)
    assert "is not JSON: it is nested too deeply" in done.stderr
    assert len(done.stderr) < 300
