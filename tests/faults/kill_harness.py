"""Run a command of ours, kill it at random moments, resume it, and read what really happened.

Two witnesses are compared. The log is written by the steps themselves, one line when a step
starts. The database is read by plain SQL from a copy of its files as the kill left them, so that
reading can neither repair nor disturb what the next process will find.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = Path(sys.executable).with_name("sostenuto")

RUN_S = 240.0
POLL_S = 0.004

#: Every this many kills, one falls into the start-up and the replay instead of new work.
STARTUP_EVERY = 4

#: Moments are dealt this far past the start of the last step, to hit the end of a life too.
TAIL_S = 0.1

RESOLVED = 1


@dataclass(frozen=True)
class Line:
    """One step that really started: when, in which process, which step."""

    at_s: float
    pid: int
    step: str


@dataclass(frozen=True)
class Step:
    """One resolved step as recorded: its promise id and its decoded result."""

    id: str
    result: Any


@dataclass
class Workplace:
    """One example in a directory of its own, with its database and its log."""

    example: str
    directory: Path
    environment: Mapping[str, str]
    log_variable: str
    name_of: Callable[[Step], str]

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.database, self.log = self.directory / "runs.db", self.directory / "steps.log"

    def command(self, execution_id: str, *options: str) -> list[str]:
        file = str(EXAMPLES / self.example)
        database = str(self.database)
        return [str(COMMAND), "run", file, "--id", execution_id, "--db", database, *options]

    def start(self, execution_id: str) -> subprocess.Popen[bytes]:
        """Start or resume the execution, in a process group of its own."""
        with (self.directory / "output.txt").open("ab") as output:
            return subprocess.Popen(
                self.command(execution_id),
                cwd=self.directory,
                env={**os.environ, **self.environment, self.log_variable: str(self.log)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def output(self) -> str:
        return (self.directory / "output.txt").read_text(errors="replace")[-4000:]

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a process that nobody kills."""
        try:
            status = process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            kill(process, group=True)
            raise AssertionError(f"no end within {RUN_S} s: {self.output()}") from None
        assert status == 0, f"exit status {status}: {self.output()}"

    def record(self, execution_id: str) -> dict[str, Any]:
        """The record of a finished execution, by the command a user would type."""
        before = self.lines()
        done = subprocess.run(
            self.command(execution_id, "--json"),
            cwd=self.directory,
            env={**os.environ, **self.environment, self.log_variable: str(self.log)},
            capture_output=True,
            timeout=RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert self.lines() == before, "asking for the result of a finished execution ran steps"
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    def lines(self, offset: int = 0) -> list[Line]:
        """The log's lines from ``offset`` on; each was written whole."""
        if not self.log.exists():
            return []
        parsed = [line.split(" ", 2) for line in self.log.read_text().splitlines()[offset:]]
        return [Line(float(at_s), int(pid), step) for at_s, pid, step in parsed]

    def done_steps(self, execution_id: str) -> set[str]:
        """Names of the steps recorded as done, read from a copy of the database's files."""
        copies = self.directory / "copy"
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        for suffix in ("", "-wal"):
            source = Path(f"{self.database}{suffix}")
            if source.exists():
                shutil.copy(source, copies / source.name)
        if not (copies / self.database.name).exists():
            return set()
        with sqlite3.connect(copies / self.database.name) as connection:
            exists = "SELECT count(*) FROM sqlite_schema WHERE name = 'promises'"
            if not connection.execute(exists).fetchone()[0]:
                return set()
            rows = connection.execute(
                "SELECT id, value FROM promises WHERE state = ? AND id GLOB ?",
                (RESOLVED, f"{execution_id}:*"),
            ).fetchall()
        connection.close()
        return {self.name_of(Step(step_id, decoded(value))) for step_id, value in rows}


def decoded(value: str | None) -> Any:
    """A promise's value: JSON in base64 in JSON."""
    data = json.loads(value or "{}").get("data")
    return None if data is None else json.loads(base64.b64decode(data))


def kill(process: subprocess.Popen[bytes], *, group: bool) -> None:
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(30)


@dataclass
class Undisturbed:
    """What a run that nobody kills does."""

    result: Any
    steps: list[str]
    startup_s: float
    starts_s: list[float]  # of each step, counted from the first one's

    @property
    def working_s(self) -> float:
        return self.starts_s[-1]

    def steps_by(self, moment_s: float) -> int:
        """How many steps had started by a moment of this life."""
        return bisect_right(self.starts_s, moment_s)


def run_undisturbed(place: Workplace) -> Undisturbed:
    started_s = time.time()
    process = place.start("undisturbed")
    place.finish(process)
    lines = place.lines()
    return Undisturbed(
        result=place.record("undisturbed")["result"],
        steps=[line.step for line in lines],
        startup_s=lines[0].at_s - started_s,
        starts_s=sorted(line.at_s - lines[0].at_s for line in lines),
    )


@dataclass
class Kills:
    """What the killed executions did, for the assertions and the figures."""

    executions: list[str] = field(default_factory=list)
    landed: int = 0
    done_at_kill: list[int] = field(default_factory=list)
    resume_s: list[float] = field(default_factory=list)
    runs_of: dict[str, Counter[str]] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        return {
            "kills": self.landed,
            "executions": len(self.executions),
            "steps done at each kill": self.done_at_kill,
            "runs of a step that was under way at a kill": sum(
                sum(runs.values()) - len(runs) for runs in self.runs_of.values()
            ),
            "resume to first new step, median s": round(median(self.resume_s), 3),
            "resume to first new step, longest s": round(max(self.resume_s), 3),
        }


def run_killed(place: Workplace, undisturbed: Undisturbed, kills: int, seed: int) -> Kills:
    """Kill and resume until ``kills`` have landed; then let the last execution end.

    The moments lie at random across the undisturbed run's life. One is reached when as many steps
    have started as had by then, plus a part of a step: a machine that is busier now than it was
    does not move it. Some kills fall into the start-up and the replay instead. An execution that
    ends before its kill is followed by the next one, so that every kill hits a living process.

    Raises:
        AssertionError: A step that was recorded as done ran again, or a run failed.
    """
    dice = random.Random(seed)
    life_s = undisturbed.working_s + TAIL_S
    seen = Kills()
    execution_id, done = "", set[str]()
    for number, moment_s in enumerate(sorted(dice.uniform(0, life_s) for _ in range(kills))):
        in_startup = number % STARTUP_EVERY == STARTUP_EVERY - 1
        group = dice.random() < 0.5
        while True:
            if not execution_id:
                execution_id, done = f"killed-{len(seen.executions) + 1}", set()
                seen.executions.append(execution_id)
                seen.runs_of[execution_id] = Counter()
            offset, started_s = len(place.lines()), time.time()
            process = place.start(execution_id)
            if in_startup:
                wait_s = dice.uniform(0, undisturbed.startup_s)
            else:
                steps = undisturbed.steps_by(moment_s)
                wait_for_lines(place, process, offset + max(1, steps - len(done)))
                beyond_s = max(0.0, moment_s - undisturbed.working_s)
                wait_s = beyond_s + dice.uniform(0, 2 * undisturbed.working_s / steps)
            ended = ends_within(process, wait_s)
            if not ended:
                kill(process, group=group)
            note(seen, execution_id, place.lines(offset), done, started_s)
            if not ended:
                break
            assert process.returncode == 0, place.output()
            execution_id, moment_s = "", dice.uniform(0, undisturbed.working_s)
        done = place.done_steps(execution_id)
        seen.landed += 1
        seen.done_at_kill.append(len(done))
    offset, started_s = len(place.lines()), time.time()
    place.finish(place.start(execution_id))
    note(seen, execution_id, place.lines(offset), done, started_s)
    return seen


def wait_for_lines(place: Workplace, process: subprocess.Popen[bytes], count: int) -> None:
    """Wait until the log has so many lines, or the process has ended."""
    deadline = time.monotonic() + RUN_S
    while process.poll() is None:
        if place.log.exists() and place.log.read_bytes().count(b"\n") >= count:
            return
        assert time.monotonic() < deadline, f"no step within {RUN_S} s: {place.output()}"
        time.sleep(POLL_S)


def ends_within(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def note(
    seen: Kills, execution_id: str, lines: list[Line], done: set[str], started_s: float
) -> None:
    """Judge and count what one process did."""
    again = sorted({line.step for line in lines} & done)
    assert not again, f"{execution_id}: recorded as done before the kill, and run again: {again}"
    seen.runs_of[execution_id].update(line.step for line in lines)
    if done and lines:
        seen.resume_s.append(lines[0].at_s - started_s)
