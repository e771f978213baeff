"""What the store's tests share: a clock set by hand, and talking to a connection."""

from __future__ import annotations

import itertools
import json
from typing import Any

from store import SqliteConnection

START_MS = 1_700_000_000_000
FAR_MS = START_MS + 10**12
GROUP = "poll://any@default"

_numbers = itertools.count()


class Clock:
    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def envelope(kind: str, data: Any) -> str:
    head = {"corrId": f"c{next(_numbers)}", "version": "2026-04-01"}
    return json.dumps({"kind": kind, "head": head, "data": data})


async def ask(connection: SqliteConnection, kind: str, **data: Any) -> tuple[int, Any]:
    answer = json.loads(await connection.send(envelope(kind, data)))
    assert answer["kind"] == kind
    return answer["head"]["status"], answer["data"]


def promise(id_: str, timeout_at: int = FAR_MS, **tags: str) -> dict[str, Any]:
    return {
        "id": id_,
        "timeoutAt": timeout_at,
        "param": {},
        "tags": {f"resonate:{name}": value for name, value in tags.items()},
    }


async def claim(connection: SqliteConnection, id_: str, pid: str = "w", ttl: int = 60_000) -> None:
    """Create a task, already acquired at version 1."""
    action = {"kind": "promise.create", "head": {}, "data": promise(id_, target=GROUP)}
    status, data = await ask(connection, "task.create", pid=pid, ttl=ttl, action=action)
    assert status == 200
    assert data["task"]["version"] == 1


def fence(task: str, kind: str, version: int = 1, **data: Any) -> dict[str, Any]:
    return {"id": task, "version": version, "action": {"kind": kind, "head": {}, "data": data}}


def settle(id_: str, state: str = "resolved", data: str = "MQ==") -> dict[str, Any]:
    return {"id": id_, "state": state, "value": {"data": data}}
