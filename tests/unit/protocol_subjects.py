"""The model and the store behind one face, so that one test can question either."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from model import Answer, State, respond, take_messages, tick

VERSION = "2026-04-01"
START_MS = 1_700_000_000_000

MEMBERS = (("p1", "workers"), ("p2", "workers"), ("p3", "others"))
"""Process id and group of the connections every subject has open."""


class Received(NamedTuple):
    """A message, and the connection it was handed to."""

    member: int
    kind: str
    data: Any


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


class Subject(Protocol):
    clock: Clock

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def ask(self, kind: str, data: Any, member: int = 0) -> Answer: ...
    async def tick(self) -> None: ...
    def unicast(self, member: int) -> str: ...
    def group(self, name: str) -> str: ...
    def received(self) -> list[Received]: ...


@dataclass
class ModelSubject:
    """The model, with addresses of the usual form."""

    clock: Clock = field(default_factory=Clock)
    state: State = field(default_factory=State)
    turn: int = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def ask(self, kind: str, data: Any, member: int = 0) -> Answer:
        return respond(self.state, self.clock(), {"kind": kind, "data": data})

    async def tick(self) -> None:
        tick(self.state, self.clock())

    def unicast(self, member: int) -> str:
        pid, group = MEMBERS[member]
        return f"poll://uni@{group}/{pid}"

    def group(self, name: str) -> str:
        return f"poll://any@{name}"

    def received(self) -> list[Received]:
        """Hand a group's messages to its members in turn."""
        messages = []
        for member, (_, group) in enumerate(MEMBERS):
            messages += [
                Received(member, kind, data)
                for kind, _, data, _ in take_messages(
                    self.state, {self.unicast(member), self.group(group)}
                )
            ]
        return messages


class StoreSubject:
    """Three connections of the store on one file, in one process, under one clock."""

    def __init__(self, path: Path, synchronous: str = "normal") -> None:
        self.path, self.synchronous = path, synchronous
        self.clock = Clock()
        self.connections: list[Any] = []
        self._messages: list[Received] = []
        self._corr_id = 0

    async def open(self) -> None:
        for pid, group in MEMBERS:
            await self.join(pid, group)

    async def join(self, pid: str, group: str) -> int:
        """Open one more connection and return its number."""
        from store import SqliteConnection

        member = len(self.connections)
        connection = SqliteConnection(
            self.path, pid=pid, group=group, clock=self.clock, synchronous=self.synchronous
        )
        connection.recv(lambda text: self._take(member, text))
        self.connections.append(connection)
        await connection.start()
        return member

    def _take(self, member: int, text: str) -> None:
        raw = json.loads(text)
        self._messages.append(Received(member, raw["kind"], raw["data"]))

    async def close(self) -> None:
        """Stop every connection; their numbers stay taken."""
        for connection in self.connections:
            await connection.stop()

    async def ask(self, kind: str, data: Any, member: int = 0) -> Answer:
        self._corr_id += 1
        corr_id = f"c{self._corr_id}"
        head = {"corrId": corr_id, "version": VERSION}
        text = await self.connections[member].send(
            json.dumps({"kind": kind, "head": head, "data": data})
        )
        reply = json.loads(text)
        assert reply["kind"] == kind
        assert reply["head"]["corrId"] == corr_id
        assert reply["head"]["version"] == VERSION
        return Answer(reply["head"]["status"], reply["data"])

    async def tick(self) -> None:
        for connection in self.connections:
            await connection.tick()

    def unicast(self, member: int) -> str:
        return str(self.connections[member].unicast())

    def group(self, name: str) -> str:
        return str(self.connections[0].resolve_target(name))

    def received(self) -> list[Received]:
        messages, self._messages = self._messages, []
        return messages
