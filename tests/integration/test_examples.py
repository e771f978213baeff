"""Every example is run, killed and run again: its steps happen once, its result is the same."""

from __future__ import annotations

import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from integration.command import LIMIT_S, argv, environment

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, *arguments: str) -> list[str]:
    """The command a user types for an example."""
    path = str(EXAMPLES / name)
    if name in {"etl_orders.py", "approval.py"}:
        return argv("run", path, "--db", "runs.db", *arguments)
    return [sys.executable, path, *arguments]


def settings(place: Path, prefix: str, **more: str) -> dict[str, str]:
    return environment(place, **{f"{prefix}_LOG": str(place / "log")}, **more)


def steps_of(place: Path) -> list[str]:
    """The steps that really ran, in the order in which they did."""
    log = place / "log"
    return [line.split(" ", 2)[2] for line in log.read_text().splitlines()] if log.exists() else []


def finish(command: list[str], place: Path, env: dict[str, str], code: int = 0) -> str:
    done = subprocess.run(
        command, cwd=place, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def kill_after(command: list[str], place: Path, env: dict[str, str], steps: int) -> bool:
    """Kill a run as soon as so many steps have begun; returns whether it was still running."""
    process = subprocess.Popen(
        command, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    give_up = time.monotonic() + LIMIT_S
    while len(steps_of(place)) < steps and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.002)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("name", "prefix", "undisturbed"),
    [
        ("agent_loop.py", "AGENT", 10),
        ("plain_sdk.py", "PLAIN", 10),
        ("etl_orders.py", "ETL", 11),
    ],
)
def test_a_killed_example_ends_as_if_nobody_had_killed_it(
    tmp_path: Path, name: str, prefix: str, undisturbed: int
) -> None:
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    quiet.mkdir()
    killed.mkdir()
    expected = finish(example(name), quiet, settings(quiet, prefix))
    assert len(set(steps_of(quiet))) == undisturbed

    env = settings(killed, prefix)
    dice = random.Random(name)
    kills = sum(
        kill_after(example(name), killed, env, steps)
        for steps in sorted(dice.sample(range(1, undisturbed), 4))
    )
    assert kills >= 3
    assert finish(example(name), killed, env) == expected
    assert set(steps_of(killed)) == set(steps_of(quiet))
    # At a kill the steps under way run again, and nothing else; the rates fail at random, and
    # every attempt is logged.
    once = [step for step in steps_of(killed) if not step.startswith("rate-")]
    under_way_most = 5 if name == "plain_sdk.py" else 4 if name == "agent_loop.py" else 1
    assert len(once) - len(set(once)) <= kills * under_way_most


def test_a_killed_approval_waits_on_and_takes_the_answer(tmp_path: Path) -> None:
    env = settings(tmp_path, "APPROVAL")
    run = example("approval.py", "--id", "offer", "--wait", "0")
    assert kill_after(run, tmp_path, env, 1)
    finish(run, tmp_path, env, code=4)
    finish(
        argv("resolve", "offer:2", "--value", '{"approved": true, "by": "Ada"}', "--db", "runs.db"),
        tmp_path,
        env,
    )
    assert "approved by Ada" in finish(run, tmp_path, env)
    assert steps_of(tmp_path).count("send") == 1
    assert steps_of(tmp_path).count("draft") <= 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    """Ask the service, waiting for it to start."""
    give_up = time.monotonic() + LIMIT_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except ConnectionError:
            assert time.monotonic() < give_up, "the service does not answer"
            time.sleep(0.05)
        finally:
            connection.close()


def test_the_web_service_goes_on_with_its_reports_after_a_kill(tmp_path: Path) -> None:
    port = free_port()
    env = settings(tmp_path, "SERVICE", SERVICE_PORT=str(port))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            example("web_service.py"), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
        )

    first = start()
    try:
        assert ask(port, "POST", "/reports/monday", {"pages": 6})[0] == 202
        give_up = time.monotonic() + LIMIT_S
        while "page-3" not in steps_of(tmp_path):
            assert time.monotonic() < give_up
            time.sleep(0.01)
    finally:
        first.kill()
        first.wait()
    second = start()
    try:
        # Asked for by nobody again: it goes on by itself.
        status, report = ask(port, "GET", "/reports/monday?wait=30")
        assert (status, report["state"]) == (200, "resolved")
        assert report["result"] == {"pages": 6, "characters": 6147}
        assert ask(port, "POST", "/reports/monday", {"pages": 6})[0] == 202
        assert ask(port, "GET", "/reports/nobody")[0] == 404
        assert ask(port, "POST", "/reports/monday", {"pages": 5})[0] == 409
        assert ask(port, "POST", "/reports/tuesday", {"pages": "many"})[0] == 400
        assert ask(port, "POST", "/reports/a:b", {"pages": 1})[0] == 400
        assert ask(port, "GET", "/reports/monday?wait=long")[0] == 400
    finally:
        second.terminate()
        assert second.wait(timeout=LIMIT_S) in {0, -signal.SIGTERM}
    counts = {step: steps_of(tmp_path).count(step) for step in steps_of(tmp_path)}
    assert set(counts) == {f"page-{number}" for number in range(1, 7)}
    assert sum(counts.values()) <= 7, "more than the page under way was rendered again"


def test_the_pytest_example_passes_and_finds_changed_code(tmp_path: Path) -> None:
    source = (EXAMPLES / "test_with_replay.py").read_text(encoding="utf-8")
    histories = tmp_path / "histories"
    histories.mkdir()
    for path in (EXAMPLES / "histories").glob("*.json"):
        (histories / path.name).write_bytes(path.read_bytes())
    test = tmp_path / "test_with_replay.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    env = environment(tmp_path)

    test.write_text(source, encoding="utf-8")
    assert "3 passed" in finish(command, tmp_path, env)

    test.write_text(source.replace("100 * await ctx.run(price", "99 * await ctx.run(price"))
    shown = finish(command, tmp_path, env, code=1)
    assert "test_recorded_orders_still_replay" in shown
    assert "arguments at shop-lamp:2" in shown


def test_every_example_says_how_it_is_run() -> None:
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "def test_" in text:
            continue
        assert re.search(rf"(sostenuto run|python) examples/{path.name}", text), path.name
        assert "Kill" in text or "kill" in text or "approval" in path.name


def test_examples_need_no_network_and_no_key() -> None:
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "API_KEY" not in text
        assert not re.search(r"https?://(?!localhost|127\.)", text), path.name
    assert (EXAMPLES / "data" / "orders.csv").stat().st_size > 1000
