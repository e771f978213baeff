"""Every code block of README and docs is executed, page by page, as a reader would paste them.

``python`` blocks that begin with ``# file: NAME`` are written to that file; others run, as a
program where they call ``asyncio.run``, else as durable source. ``console`` blocks are sessions:
commands are run by a shell, and what they print must hold the lines shown, in their order;
numbers, ids, times and ``...`` stand for any.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from integration.command import LIMIT_S, argv, environment

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

#: Languages of blocks that are no code.
NOT_CODE = {"text", "mermaid"}

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    body: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["body"], text.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(text)
    ]


def run_shell(command: str, place: Path, env: dict[str, str]) -> str:
    """Run one line of a session and return what a terminal would show of it."""
    kill = _KILLED.fullmatch(command)
    if kill is not None:
        return run_killed(kill["command"], float(kill["after_s"]), place, env)
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    return done.stdout + ("Killed\n" if done.returncode in {137, -9} else "")


#: A command of a session that is killed so many seconds after its start.
_KILLED = re.compile(r"timeout -s KILL (?P<after_s>[\d.]+) (?P<command>.*)")


def run_killed(command: str, after_s: float, place: Path, env: dict[str, str]) -> str:
    """Kill a command so long after its first line, however slowly a busy machine starts it."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=place, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
        return first + process.stdout.read() + ("Killed\n" if process.wait() == -9 else "")


def loosely(line: str) -> re.Pattern[str]:
    """A pattern for a line as shown: what differs from run to run may be anything."""
    pieces = re.split(r"(\.\.\.|-[0-9a-f]{10}\b|\d[\d.,:-]*(?: (?:ms|s|min)\b)?|\s+)", line.strip())
    pattern = ""
    for piece in pieces:
        if piece == "...":
            pattern += ".*"
        elif re.fullmatch(r"-[0-9a-f]{10}", piece):
            pattern += "-[0-9a-f]{10}"
        elif piece[:1].isdigit():
            pattern += r"[\d.,:-]+(?: (?:ms|s|min))?"
        elif piece.isspace():
            pattern += r"\s+"
        else:
            pattern += re.escape(piece)
    return re.compile(pattern)


#: Lines whose presence depends on how fast the machine is: progress, once a second.
_PROGRESS = re.compile(r"sostenuto: \d+ steps? done|^squaring \d+$")


def check_session(session: str, place: Path, env: dict[str, str]) -> None:
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)
    assert not parts[0].strip(), "a session begins with a command"
    for command, shown in zip(parts[1::2], parts[2::2], strict=True):
        output = run_shell(command, place, env)
        lines = [line.strip() for line in output.splitlines()]
        at = 0
        for line in filter(str.strip, shown.splitlines()):
            if line.strip() == "..." or _PROGRESS.search(line):
                continue
            pattern = loosely(line)
            found = [n for n in range(at, len(lines)) if pattern.search(lines[n])]
            if found:
                at = found[0] + 1
            else:
                # Standard output and error may come in another order than on a terminal.
                assert any(map(pattern.search, lines)), f"$ {command}\nno {line!r} in\n{output}"


def check_python(body: str, place: Path, env: dict[str, str]) -> None:
    name = re.match(r"# file: (\S+)\n", body)
    if name is not None:
        (place / name[1]).write_text(body, encoding="utf-8")
        compile(body, name[1], "exec", flags=0x2000)
        return
    command = [sys.executable, "-"] if "asyncio.run(" in body else argv("run", "-", "--db", "d.db")
    done = subprocess.run(
        command, cwd=place, env=env, input=body, capture_output=True, text=True, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def check_commands(body: str) -> None:
    """Set-up commands are not run by tests; that their targets exist is checked."""
    for line in body.splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "make", f"a sh block is for make: {line!r}"
        subprocess.run(
            ["make", "--dry-run", "--silent", *words[1:]], cwd=ROOT, check=True,
            capture_output=True, timeout=LIMIT_S,
        )  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    bin_directory = tmp_path / ".bin"
    bin_directory.mkdir()
    for name, module in {"sostenuto": "-m durable", "python": ""}.items():
        script = bin_directory / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        script.chmod(0o755)
    env = environment(tmp_path)
    env["PATH"] = f"{bin_directory}:{env['PATH']}"
    env["PYTEST_ADDOPTS"] = "-p no:cacheprovider"
    for block in blocks_of(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        try:
            match block.language:
                case "python":
                    check_python(block.body, tmp_path, env)
                case "console":
                    check_session(block.body, tmp_path, env)
                case "sh":
                    check_commands(block.body)
                case "json":
                    json.loads(block.body)
                case language:
                    assert language in NOT_CODE, f"a block in {language!r} is not executed"
        except AssertionError as error:
            error.add_note(f"in the block at {where}")
            raise


@pytest.mark.parametrize("package", ["durable", "executor", "promises", "store"])
def test_every_public_name_is_in_the_reference(package: str) -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: (\S+)$", reference, re.MULTILINE))
    for name in importlib.import_module(package).__all__:
        assert f"{package}.{name}" in shown or (
            f"{package}.errors" in shown
            and hasattr(importlib.import_module(f"{package}.errors"), name)
        ), f"{package}.{name} is not in docs/reference.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_documentation_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("package", ["executor", "promises", "store", "durable"])
def test_the_architecture_page_names_every_module_and_no_other(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^`{package}`[:,].*?(?=^`\w+`[:,]|\Z)", page, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([a-z_*]+)`", part)) - {package, "cli", "stores", "groups"}
    modules = {path.stem for path in (ROOT / package).glob("*.py") if path.stem[:2] != "__"}
    families = {name for name in named if name.endswith("*")}
    for family in families:
        modules -= {name for name in modules if name.startswith(family.removesuffix("*"))}
    missing, surplus = modules - named, named - families - modules
    assert not missing, f"docs/architecture.md does not say what {sorted(missing)} are for"
    assert not surplus, f"docs/architecture.md names {sorted(surplus)}, which do not exist"
