"""Runs the ``sostenuto`` command in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import durable

#: Seconds that no command of these tests comes near, on a machine busy with other tests.
LIMIT_S = 60


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user whose home is ``home``, without ours."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SOSTENUTO", "XDG_", "FORCE_COLOR", "NO_COLOR", "COLUMNS"))
    }
    # The same code as the tests import, whether it is installed or not.
    code = str(Path(durable.__file__).parents[1])
    return {**kept, "HOME": str(home), "TERM": "xterm", "PYTHONPATH": code, **more}


def argv(*args: str | Path) -> list[str]:
    """The command line as a list."""
    return [sys.executable, "-m", "durable", *map(str, args)]


class Shell:
    """A directory to run commands in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = environment(directory)
        self._started: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        """Kill what a failed test left running."""
        for process in self._started:
            process.kill()
            process.wait()

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(
        self, *args: str | Path, code: int | None = 0, stdin: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit code; None accepts any."""
        done = subprocess.run(
            argv(*args),
            cwd=self.directory,
            env={**self.env, **env},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        if code is not None:
            assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "durable/cli" not in done.stderr, f"a traceback of ours:\n{done.stderr}"
        return done

    def json(self, *args: str | Path, code: int | None = 0) -> Any:
        return json.loads(self.run(*args, "--json", code=code).stdout)

    def start(self, *args: str | Path, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv(*args),
            cwd=self.directory,
            env=self.env,
            text=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        self._started.append(process)
        return process
