"""Every other command: listings, settling, replay, export and import, upkeep."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from integration.command import LIMIT_S, Shell

pytestmark = pytest.mark.integration

WAITS = "def step(n):\n    return n\n\nawait ctx.run(step, 1) + await ctx.promise()\n"


@pytest.fixture
def stored(shell: Shell) -> Shell:
    """A database with one execution that is done, one that failed and one that waits."""
    shell.env["SOSTENUTO_DB"] = str(shell.directory / "runs.db")
    shell.write("good.py", "def step(n):\n    return n\n\n[await ctx.run(step, n) for n in (1, 2)]")
    shell.write("bad.py", "def step():\n    raise ValueError('nope')\n\nawait ctx.run(step)")
    shell.write("waits.py", WAITS)
    shell.run("run", "good.py", "--id", "good")
    shell.run("run", "bad.py", "--id", "bad", code=1)
    shell.run("run", "waits.py", "--id", "waits", "--wait", "0", code=4)
    return shell


def ids(shell: Shell, *options: str) -> list[str]:
    return [each["id"] for each in shell.json("ls", *options)]


def test_ls_filters_sorts_and_limits(stored: Shell) -> None:
    assert ids(stored) == ["waits", "bad", "good"]
    assert ids(stored, "--reverse") == ["good", "bad", "waits"]
    assert ids(stored, "--sort", "id", "--limit", "2") == ["bad", "good"]
    assert ids(stored, "--state", "pending") == ["waits"]
    assert ids(stored, "--state", "pending", "--state", "rejected") == ["waits", "bad"]
    assert ids(stored, "--name", "*d.py") == ["bad", "good"]
    assert ids(stored, "--newer-than", "1h", "--older-than", "1ms") == ["waits", "bad", "good"]
    assert ids(stored, "--older-than", "1h") == []
    assert "none of" in stored.run("ls", "--sort", "size", code=2).stderr
    assert "none of" in stored.run("ls", "--state", "done", code=2).stderr


def test_ls_without_a_terminal_prints_one_whole_line_per_execution(stored: Shell) -> None:
    long_id = "an-id-of-many-words-" * 10
    stored.run("run", "-c", "raise ValueError('x' * 300)", "--id", long_id, code=1)
    done = stored.run("ls", COLUMNS="80")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:3] == ["id", "state", "function"]
    assert lines[1].startswith(long_id)
    assert lines[1].endswith("x" * 300)
    assert "\x1b" not in done.stdout


def test_listings_keep_their_field_names(stored: Shell) -> None:
    execution = {
        "id", "state", "name", "version", "result", "error", "notes", "created_at", "settled_at",
        "timeout_at", "duration_ms", "filename",
    }  # fmt: skip
    step = {
        "id", "parent", "kind", "name", "state", "args_digest", "result", "error", "created_at",
        "settled_at", "duration_ms", "attempt", "attempt_error", "wait_s",
    }  # fmt: skip
    assert set(stored.json("ls")[0]) == execution
    shown = stored.json("show", "good")
    assert execution | {"source", "steps"} <= set(shown)
    assert set(shown["steps"][0]) == step


def test_show_has_source_state_result_steps_and_errors(stored: Shell) -> None:
    good = stored.run("show", "good").stdout
    assert "resolved" in good
    assert "result    [1, 2]" in good
    assert "   4  [await ctx.run(step, n)" in good
    assert "good:1" in good
    bad = stored.run("show", "bad").stdout
    assert "Traceback (most recent call last):" in bad
    assert "ValueError: nope" in bad
    assert "Execution ID: bad" in bad
    assert "no execution" in stored.run("show", "nobody", code=2).stderr


def test_show_tells_of_attempts(stored: Shell) -> None:
    source = (
        "import tenacity\n"
        "def flaky():\n"
        "    open('tries', 'a').write('x')\n"
        "    if len(open('tries').read()) < 3:\n"
        "        raise OSError('busy')\n"
        "    return 'done'\n"
        "retry = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(5), "
        "wait=tenacity.wait_fixed(0.01))\n"
        "await ctx.options(retry=retry).run(flaky)\n"
    )
    stored.run("run", "-c", source, "--id", "flaky")
    kinds = [step["kind"] for step in stored.json("show", "flaky")["steps"]]
    assert kinds == ["run", "attempt", "attempt"]
    assert "OSError: busy" in stored.run("show", "flaky").stdout


def test_tree_draws_the_call_graph(stored: Shell) -> None:
    lines = stored.run("tree", "good").stdout.splitlines()
    assert "resolved" in lines[0]
    assert [line[:3] for line in lines[1:]] == ["├──", "└──"]
    document = stored.json("tree", "good")
    assert [child["result"] for child in document["children"]] == [1, 2]


def test_tree_follows_an_execution_of_another_process_to_its_end(stored: Shell) -> None:
    stored.write("asks.py", "await ctx.sleep(0.1)\nawait ctx.promise()")
    run = stored.start("run", "asks.py", "--id", "asks", "--wait", "forever", "-q")
    give_up = time.monotonic() + LIMIT_S
    while len(stored.json("show", "asks")["steps"] if "asks" in ids(stored) else []) < 2:
        assert time.monotonic() < give_up
    watch = stored.start("tree", "asks", "--watch")
    assert watch.stdout is not None
    seen = [watch.stdout.readline() for _ in range(3)]
    assert [line.split()[2] for line in seen] == ["pending", "resolved", "pending"]
    stored.run("resolve", "asks:2", "--value", "7")
    rest, _ = watch.communicate(timeout=LIMIT_S)
    assert sorted(line.split()[1] for line in rest.splitlines()) == ["asks", "asks:2"]
    assert all("resolved" in line for line in rest.splitlines())
    assert watch.returncode == 0
    assert run.communicate(timeout=LIMIT_S)[0] == "7\n"


def test_settling_validates_json_and_wakes_the_execution(stored: Shell) -> None:
    promise = stored.json("show", "waits")["steps"][1]["id"]
    assert "is not JSON" in stored.run("resolve", promise, "--value", "yes", code=2).stderr
    assert "is not JSON" in stored.run("resolve", promise, "--value", "NaN", code=2).stderr
    assert stored.json("resolve", promise, "--value", "41")["settled"] is True
    assert "already" in stored.run("reject", promise, "--value", "1", code=1).stderr
    assert stored.run("run", "waits.py", "--id", "waits").stdout == "42\n"


def test_a_rejected_promise_fails_the_execution_that_awaits_it(stored: Shell) -> None:
    promise = stored.json("show", "waits")["steps"][1]["id"]
    stored.run("reject", promise, "--value", '"too expensive"')
    done = stored.run("run", "waits.py", "--id", "waits", "-q", code=1)
    assert "too expensive" in done.stderr


def test_a_cancelled_execution_says_so_and_does_not_run(stored: Shell) -> None:
    stored.run("cancel", "waits", "--reason", "no longer needed")
    assert stored.json("show", "waits")["state"] == "rejected_canceled"
    stored.run("run", "waits.py", "--id", "waits", code=1)
    assert "no execution or promise" in stored.run("cancel", "nobody", code=2).stderr


def test_replay_finds_what_differs(stored: Shell) -> None:
    assert "identical" in stored.run("replay", "good").stdout
    history = stored.directory / "good.json"
    stored.run("export", "good", "--output", history)
    assert stored.json("replay", history)["identical"] is True
    document = json.loads(history.read_text())
    for promise in document["promises"]:
        promise["param"]["step"] = "renamed"
    history.write_text(json.dumps(document))
    report = stored.json("replay", history, code=1)
    assert report["identical"] is False
    assert report["divergence"]["step_id"] == "good:1"
    stored.run("replay", "nobody", code=2)


def test_replay_uses_the_functions_of_an_app(shell: Shell) -> None:
    shell.write(
        "shop.py",
        "import asyncio\nfrom durable import Durable\n"
        "app = Durable('shop.db')\n"
        "async def pack(ctx, n):\n    return n\n"
        "@app.register\nasync def order(ctx, n):\n    return await ctx.run(pack, n)\n"
        "async def main():\n    async with app:\n        await app.run('order-1', order, 7)\n"
        "if __name__ == '__main__':\n    asyncio.run(main())\n",
    )
    subprocess.run(
        [sys.executable, "shop.py"],
        cwd=shell.directory,
        env=shell.env,
        check=True,
        timeout=LIMIT_S,
    )
    assert "identical" in shell.run("replay", "order-1", "--app", "shop:app").stdout
    unnamed = shell.run("replay", "order-1", "--db", "shop.db", code=2)
    assert "--app MODULE:NAME" in unnamed.stderr
    changed = shell.directory / "shop.py"
    changed.write_text(changed.read_text().replace("ctx.run(pack, n)", "ctx.run(pack, n + 1)"))
    report = shell.json("replay", "order-1", "--app", "shop:app", code=1)
    assert report["divergence"]["kind"] == "arguments"
    assert "not MODULE:NAME" in shell.run("replay", "order-1", "--app", "shop", code=2).stderr


def test_open_executions_move_to_another_database_and_go_on(stored: Shell) -> None:
    exported = stored.json("export", "--all", "--output", "histories")
    assert {each["id"] for each in exported} == {"good", "bad", "waits"}
    stored.run("import", "histories", "--to", "other.db")
    states = {each["id"]: each["state"] for each in stored.json("ls", "--db", "other.db")}
    assert states == {"good": "resolved", "bad": "rejected", "waits": "pending"}
    promise = stored.json("show", "waits", "--db", "other.db")["steps"][1]["id"]
    stored.run("resolve", promise, "--value", "41", "--db", "other.db")
    done = stored.run("run", "waits.py", "--id", "waits", "--db", "other.db")
    assert done.stdout == "42\n"
    assert "0 steps done, 2 from the store" in done.stderr


def test_export_and_import_refuse_what_they_cannot_do(stored: Shell) -> None:
    stored.run("export", code=2)
    stored.run("export", "good", "bad", code=2)
    stored.run("export", "nobody", code=2)
    stored.write("not.json", "{}")
    assert "not a recorded history" in stored.run("import", "not.json", code=2).stderr
    assert json.loads(stored.run("export", "good").stdout)["execution"]["id"] == "good"


def test_gc_is_a_dry_run_until_it_is_told_otherwise(stored: Shell) -> None:
    found = stored.json("gc", "--older-than", "1ms")
    assert (found["executions"], found["dry_run"], found["deleted_promises"]) == (2, True, 0)
    assert found["size_bytes"] > 100
    assert len(ids(stored)) == 3
    assert stored.json("gc", "--older-than", "30d")["executions"] == 0
    deleted = stored.json("gc", "--older-than", "1ms", "--yes")
    assert deleted["deleted_promises"] == found["promises"]
    assert ids(stored) == ["waits"]
    assert stored.json("gc", "--older-than", "0")["executions"] == 0
    stored.run("gc", code=2)
    stored.run("gc", "--older-than", "old", code=2)


def test_gc_names_and_deletes_steps_whose_root_is_gone(stored: Shell) -> None:
    with closing(sqlite3.connect(stored.env["SOSTENUTO_DB"])) as connection, connection:
        for table in ("tasks", "promises"):
            connection.execute(f"DELETE FROM {table} WHERE id IN ('good', 'bad')")
    assert stored.json("gc", "--older-than", "30d")["orphans"] == 0
    found = stored.json("gc", "--older-than", "1ms")
    assert (found["executions"], found["orphans"], found["promises"]) == (0, 2, 3)
    dry = stored.run("gc", "--older-than", "1ms").stdout
    assert "would delete 0 executions that ended over 1ms ago and 2 orphans" in dry
    assert stored.json("gc", "--older-than", "1ms", "--yes")["deleted_promises"] == 3
    assert stored.json("gc", "--older-than", "1ms")["orphans"] == 0
    assert ids(stored) == ["waits"]


LARGE = """
def page(n):
    return str(n) * 1_000_000
for n in range(12):
    await ctx.run(page, n)
"""

STEADY = """
import asyncio, pathlib
async def tick(n):
    await asyncio.sleep(0.005)
    return n
ticks = 0
while not pathlib.Path("enough").exists():
    ticks = await ctx.run(tick, ticks + 1)
ticks
"""


def test_gc_makes_the_file_smaller_while_others_write_to_it(shell: Shell) -> None:
    shell.run("run", "--id", "large", "--db", "runs.db", "-c", LARGE)
    size_bytes = (shell.directory / "runs.db").stat().st_size
    assert size_bytes > 10_000_000
    shell.write("steady.py", STEADY)
    process = shell.start("run", "steady.py", "--id", "steady", "--db", "runs.db")
    while not shell.json("ls", "--db", "runs.db", "--state", "pending"):
        assert process.poll() is None
    gc = ("gc", "--older-than", "1ms", "--db", "runs.db", "--vacuum")
    planned = shell.json(*gc)
    assert (planned["executions"], planned["shrunk_bytes"]) == (1, 0)
    assert (shell.directory / "runs.db").stat().st_size >= size_bytes, "a dry run changes nothing"
    kept = shell.run("gc", "--older-than", "1ms", "--db", "runs.db", "--yes").stdout
    assert "deleted 1 execution" in kept
    assert "the file keeps its size: 1" in kept
    findings = shell.json("doctor", "--db", "runs.db")
    (room,) = [each for each in findings if each["check"] == "free space"]
    assert room["remedy"] == "sostenuto gc --vacuum --yes gives them back to the disk"
    assert shell.json("gc", "--vacuum", "--yes", "--db", "runs.db")["shrunk_bytes"] > 8_000_000
    assert process.poll() is None, "the other process goes on"
    shell.write("enough", "")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert int(output) > 10
    assert len(shell.json("show", "steady", "--db", "runs.db")["steps"]) == int(output)
    assert (shell.directory / "runs.db").stat().st_size < size_bytes / 2
    shell.run("doctor", "--db", "runs.db")


def test_a_backup_under_steady_writes_comes_to_an_end_and_is_whole(shell: Shell) -> None:
    shell.run("run", "--id", "large", "--db", "runs.db", "-c", LARGE)
    shell.write("steady.py", STEADY)
    process = shell.start("run", "steady.py", "--id", "steady", "--db", "runs.db")
    while not shell.json("ls", "--db", "runs.db", "--state", "pending"):
        assert process.poll() is None
    shell.run("backup", "copy.db", "--db", "runs.db")
    shell.write("enough", "")
    process.communicate(timeout=60)
    large = shell.json("show", "large", "--db", "copy.db")
    assert len(large["steps"]) == 12
    assert "pending" in {row["state"] for row in shell.json("ls", "--db", "copy.db")}
    shell.run("doctor", "--db", "copy.db", code=None)


def test_a_backup_is_a_whole_private_copy_made_while_in_use(stored: Shell) -> None:
    stored.run("backup", "copy.db")
    copy = stored.directory / "copy.db"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert set(ids(stored, "--db", "copy.db")) == {"good", "bad", "waits"}
    assert "exists" in stored.run("backup", "copy.db", code=2).stderr
    stored.run("backup", "copy.db", "--force")
    assert "itself" in stored.run("backup", "runs.db", "--force", code=2).stderr
    stored.run("backup", "no/such/place/copy.db", code=3)


def level_of(shell: Shell, check: str, **options: int) -> str:
    findings = shell.json("doctor", **options)
    assert all(set(each) == {"check", "level", "text", "remedy"} for each in findings)
    return "/".join(each["level"] for each in findings if each["check"] == check)


def test_doctor_finds_nothing_wrong_with_a_healthy_store(stored: Shell) -> None:
    levels = {each["level"] for each in stored.json("doctor")}
    assert levels == {"ok"}
    assert "integrity" in stored.run("doctor").stdout


def test_doctor_finds_open_permissions_and_a_clock_that_was_set_back(stored: Shell) -> None:
    database = stored.directory / "runs.db"
    database.chmod(0o644)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE promises SET created_at = created_at + 86400000")
    assert "warning" in level_of(stored, "permissions")
    assert level_of(stored, "clock") == "warning"


def test_doctor_finds_broken_rules_between_the_tables(stored: Shell) -> None:
    with sqlite3.connect(stored.directory / "runs.db") as connection:
        connection.execute("DELETE FROM promises WHERE id = 'good'")
    assert level_of(stored, "integrity", code=1) == "problem"


def test_doctor_refuses_a_damaged_or_foreign_file_without_touching_it(shell: Shell) -> None:
    damaged = shell.directory / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)
    before = damaged.read_bytes()
    assert "problem" in shell.run("doctor", "--db", "damaged.db", code=3).stdout
    assert damaged.read_bytes() == before
    with sqlite3.connect(shell.directory / "foreign.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert "not a Sostenuto database" in shell.run("doctor", "--db", "foreign.db", code=3).stdout


def test_doctor_sees_executions_of_a_killed_process(stored: Shell) -> None:
    stored.write("slow.py", "import time\ndef step():\n    time.sleep(60)\nawait ctx.run(step)")
    run = stored.start("run", "slow.py", "--id", "slow")
    give_up = time.monotonic() + LIMIT_S
    while "slow" not in ids(stored) or not stored.json("show", "slow")["steps"]:
        assert time.monotonic() < give_up
    assert level_of(stored, "leases") == "ok"
    run.kill()
    run.communicate()
    assert level_of(stored, "leases") == "note"


@pytest.mark.parametrize(
    "args",
    [
        ("ls",),
        ("show", "x"),
        ("tree", "x"),
        ("resolve", "x"),
        ("reject", "x"),
        ("cancel", "x"),
        ("replay", "x"),
        ("export", "x"),
        ("gc", "--older-than", "1d"),
        ("backup", "copy.db"),
        ("doctor",),
    ],
)
def test_a_command_that_only_reads_makes_no_database(shell: Shell, args: tuple[str, ...]) -> None:
    done = shell.run(*args, "--db", "missing.db", code=3)
    assert "missing.db" in done.stdout + done.stderr
    assert list(shell.directory.iterdir()) == []


def test_colours_are_for_terminals_and_no_color_is_respected(stored: Shell) -> None:
    assert "\x1b[" not in stored.run("show", "good").stdout
    assert "\x1b[" not in stored.run("tree", "good", NO_COLOR="1").stdout


def test_help_has_examples_for_every_command(shell: Shell) -> None:
    listing = shell.run("--help").stdout
    for command in ("run", "ls", "show", "tree", "resolve", "reject", "cancel", "replay",
                    "export", "import", "gc", "backup", "doctor"):  # fmt: skip
        assert f" {command} " in listing
        assert "Example" in shell.run(command, "--help").stdout


def test_help_loads_neither_the_sdk_nor_an_event_loop(shell: Shell) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom durable.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=shell.env,
        cwd=Path(__file__).parents[2], timeout=LIMIT_S,
    )  # fmt: skip
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & {"resonate", "anyio", "aiosqlite", "asyncio", "cloudpickle", "sqlite3"}


def test_the_shell_completes_commands(shell: Shell) -> None:
    completion = {
        "_SOSTENUTO_COMPLETE": "complete_bash",
        "COMP_WORDS": "sostenuto re",
        "COMP_CWORD": "1",
    }
    done = shell.run(code=None, **completion)
    assert set(done.stdout.split()) == {"resolve", "reject", "replay"}


ENCRYPTED = """
import asyncio
from durable import Durable

class Box:
    def encrypt(self, data):
        return bytes(byte ^ 85 for byte in data)
    decrypt = encrypt

box = Box()

if __name__ == "__main__":
    async def main():
        async with Durable("box.db", encryptor=box) as app:
            await app.run_source("boxed", "'plain ' * 2")
    asyncio.run(main())
"""


def test_the_command_line_reads_what_an_app_has_encrypted(shell: Shell) -> None:
    boxed = shell.write("boxed.py", ENCRYPTED)
    subprocess.run([sys.executable, boxed], cwd=shell.directory, env=shell.env, check=True)
    unreadable = shell.run("show", "boxed", "--db", "box.db", code=2)
    assert "give its encryptor" in unreadable.stderr
    shell.env["SOSTENUTO_ENCRYPTOR"] = "boxed:box"
    assert shell.json("show", "boxed", "--db", "box.db")["result"] == "plain plain "
    assert "identical" in shell.run("replay", "boxed", "--db", "box.db").stdout
    for named, message in {
        "boxed": "is not MODULE:NAME",
        "nosuch:box": "cannot be imported: ModuleNotFoundError",
        "boxed:asyncio": "name an object with encrypt(bytes) and decrypt(bytes)",
    }.items():
        done = shell.run("ls", "--db", "box.db", code=2, SOSTENUTO_ENCRYPTOR=named)
        assert message in done.stderr


@pytest.mark.parametrize("kind", ["a directory", "text", "another program's database"])
def test_doctor_names_what_is_no_store_and_proposes_no_change_to_it(
    shell: Shell, kind: str
) -> None:
    path = shell.directory / "other.db"
    if kind == "a directory":
        path.mkdir(mode=0o755)
    elif kind == "text":
        path.write_text("hello\n" * 1000)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE theirs (a)")
    findings = shell.json("doctor", "--db", "other.db", code=3)
    assert {found["check"] for found in findings} == {"versions", "SQLite", "the store"}
    assert findings[-1]["level"] == "problem"
    assert findings[-1]["remedy"] == "name another file with --db"


def test_an_impossible_duration_is_a_usage_error(stored: Shell) -> None:
    for option, *command in (
        ("--older-than", "gc"), ("--newer-than", "ls"), ("--timeout", "run", "-c", "1"),
        ("--limit", "replay", "good"),
    ):  # fmt: skip
        done = stored.run(*command, f"{option}={'9' * 30}w", code=2)
        assert done.stderr.startswith(f"sostenuto: {option} ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("document", ["[]", "{}", "["])
def test_what_is_no_history_is_not_imported(shell: Shell, document: str) -> None:
    shell.write("history.json", document)
    for source in ("history.json", "-"):
        done = shell.run("import", source, "--to", "new.db", stdin=document, code=2)
        assert done.stderr.count("\n") == 1
    assert not (shell.directory / "new.db").exists()


def test_an_export_names_the_target_that_does_not_fit(stored: Shell) -> None:
    stored.write("file.json", "{}")
    done = stored.run("export", "--all", "-o", "file.json", code=2)
    assert "'file.json' is a file: name a directory" in done.stderr
    assert (
        "'.' is a directory: name a file" in stored.run("export", "good", "-o", ".", code=2).stderr
    )


def keys_of(document: Any) -> set[str]:
    """Every field name of a document, but not those of values that code returned."""
    if isinstance(document, list):
        return {key for item in document for key in keys_of(item)}
    if not isinstance(document, dict):
        return set()
    below = (keys_of(value) for key, value in document.items() if key != "result")
    return set(document).union(*below)


def test_every_json_field_is_documented(stored: Shell) -> None:
    page = Path(__file__).parents[2] / "docs" / "command-line.md"
    section = page.read_text(encoding="utf-8").partition("## JSON fields")[2]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    for command in (
        ("ls",), ("show", "bad"), ("tree", "good"), ("replay", "good"), ("doctor",),
        ("cancel", "waits"), ("export", "good", "-o", "good.json"), ("gc", "--older-than", "30d"),
        ("import", "good.json", "--to", "new.db"), ("backup", "copy.db"),
    ):  # fmt: skip
        names = keys_of(stored.json(*command))
        assert names <= documented, f"{command[0]}: {sorted(names - documented)}"
