"""A Restate server for the time of a measurement, where its program is found."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Self

#: Seconds that a server has to answer; it provisions its cluster at the first start.
_START_S = 60


def find() -> str | None:
    """The server named by ``RESTATE_SERVER``, on PATH, or installed by npm into .tools/restate."""
    packages = Path(__file__).parents[2] / ".tools/restate/node_modules/@restatedev"
    # Not npm's launcher: a signal to that would leave the server behind.
    installed = sorted(packages.glob("restate-server-*/bin/restate-server"))
    named = os.environ.get("RESTATE_SERVER") or shutil.which("restate-server")
    return named or (str(installed[0]) if installed else None)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """A server with default settings on free local ports, its data below a directory.

    Its ports are written to ``restate.json`` there, where the engine reads them.

    Args:
        directory: Where its data goes.
        prefix: A command to run it under, such as a tracer.
    """

    def __init__(self, directory: Path, prefix: list[str] | None = None) -> None:
        self.directory = directory
        self.prefix = prefix or []

    def __enter__(self) -> Self:
        program = find()
        assert program is not None, "no restate-server"
        node, ingress, admin, service = _free_ports(4)
        env = {
            **os.environ,
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_LOG_FILTER": "error",
        }
        with (self.directory / "restate.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self.prefix, program, "--base-dir", str(self.directory / "restate")],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(f"http://127.0.0.1:{admin}/health")
            self._wait(f"http://127.0.0.1:{ingress}/restate/health")
        except BaseException:
            self.__exit__()
            raise
        ports = {"ingress": ingress, "admin": admin, "service": service, "is_known": False}
        (self.directory / "restate.json").write_text(json.dumps(ports))
        return self

    def _wait(self, url: str) -> None:
        until_s = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except OSError as error:
                if time.monotonic() > until_s or self.process.poll() is not None:
                    said = (self.directory / "restate.log").read_text(errors="replace")[-1000:]
                    raise RuntimeError(f"the Restate server did not start: {said}") from error
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()
