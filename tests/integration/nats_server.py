"""A Resonate server on NATS for tests: a broker of its own, and requests answered from SQLite.

It is what resonate-nats expects at the other end of the broker: requests on
``resonate.requests.*`` with the subject to answer on in a header, messages on
``resonate.recv.<group>`` and ``resonate.recv.<group>.<pid>``. What is tested with it is the way
over NATS.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from store import SqliteConnection

#: Debian's package puts it where only root's PATH leads.
BROKER = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")

#: The store knows the addresses of its own scheme, so they are rewritten on the way.
_UNICAST = re.compile(r"nats://resonate\.recv\.([\w-]+)\.([\w-]+)")
_ANYCAST = re.compile(r"nats://resonate\.recv\.([\w-]+)")


def available() -> bool:
    """Whether the broker and the packages that speak to it are installed."""
    return BROKER is not None and all(map(importlib.util.find_spec, ("nats", "resonate_nats")))


def _inward(text: str) -> str:
    return _ANYCAST.sub(r"poll://any@\1", _UNICAST.sub(r"poll://uni@\1/\2", text))


def _outward(text: str) -> str:
    text = re.sub(r"poll://uni@([\w-]+)/([\w-]+)", r"nats://resonate.recv.\1.\2", text)
    return re.sub(r"poll://any@([\w-]+)", r"nats://resonate.recv.\1", text)


class _Bridge:
    """Answers requests, and has a member of the store for each receiver they name."""

    def __init__(self, client: Any, path: Path) -> None:
        self._client = client
        self._path = path
        self._requests = SqliteConnection(path, pid="server", group="server")
        self._members: dict[tuple[str, str], SqliteConnection] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> None:
        await self._tasks.__aenter__()
        await self._requests.start()
        await self._client.subscribe("resonate.requests.*", cb=self._arrived)

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()
        await self._tasks.__aexit__(None, None, None)
        for member in [*self._members.values(), self._requests]:
            await member.stop()

    async def _arrived(self, message: Any) -> None:
        self._tasks.create_task(self._answer(message))

    async def _answer(self, message: Any) -> None:
        text = message.data.decode()
        for group, pid in _UNICAST.findall(text):
            await self._join(group, pid)
        for group in _ANYCAST.findall(text):
            await self._join(group, "anybody")
        answer = await self._requests.send(_inward(text))
        await self._publish(message.headers["Resonate-Reply-To"], answer)

    async def _join(self, group: str, pid: str) -> None:
        if (group, pid) in self._members:
            return
        member = self._members[group, pid] = SqliteConnection(self._path, pid=pid, group=group)

        def deliver(text: str) -> None:
            to_any = json.loads(text)["kind"] == "execute"
            subject = f"resonate.recv.{group}" + ("" if to_any else f".{pid}")
            self._tasks.create_task(self._publish(subject, text))

        member.recv(deliver)
        await member.start()

    async def _publish(self, subject: str, text: str) -> None:
        with contextlib.suppress(Exception):  # closed in the meantime; whoever asked is gone too
            await self._client.publish(subject, _outward(text).encode())


@contextlib.asynccontextmanager
async def nats_server(path: Path) -> AsyncIterator[str]:
    """Run a broker on a free port of this machine, and serve a database file on it.

    Yields:
        The broker's URL.
    """
    import nats

    assert BROKER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    broker = await asyncio.create_subprocess_exec(
        *(BROKER, "-a", "127.0.0.1", "-p", str(port)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        url = f"nats://127.0.0.1:{port}"
        client = await nats.connect(url, max_reconnect_attempts=100, reconnect_time_wait=0.05)
        async with _Bridge(client, path):
            yield url
    finally:
        broker.terminate()
        await broker.wait()
