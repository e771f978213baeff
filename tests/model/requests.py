"""Random requests of every kind, aimed by what the model knows.

Most are sensible (the right version, a pending promise), so that every kind succeeds often; the
rest are stale, misdirected or malformed. Ids and addresses come from small pools, so that requests
meet each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from . import records
from .records import State, Task

Data = dict[str, Any]

ROOTS = ("a", "b", "c.d")
IDS = (
    *ROOTS,
    *("a:1", "a:2", "a:1.1", "a:1.2", "a:2.1", "a:d9", "b:1", "b:1.1", "b:2", "c.d:1", "c.d:1.1"),
    *(f"a:{number}" for number in range(3, 13)),
)
SCHEDULE_IDS = ("hourly", "s1", "s2")
CRONS = (
    *("* * * * *", "*/5 * * * *", "0 * * * *", "7,31 3-5 * * *", "0-30/10 0 * * *", "30 4 1 * 1"),
    *("15 10 * * 0", "0 0 29 2 *", "5/20 * * * *", "0 12 13 * *", "59 23 31 12 *", "0 0 * 1-3 6"),
)
BAD_CRONS = ("* * * *", "61 * * * *", "* * * * * *", "x * * * *", "*/0 * * * *", "0 0 30 2 *")
BAD_ADDRESSES = ("nowhere", "poll://workers", "ftp://example.com/x", "")
PROMISE_STATES = ("pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout")
TASK_STATES = ("pending", "acquired", "suspended", "halted", "fulfilled")
SETTLE_STATES = ("resolved", "rejected", "rejected_canceled")
BAD_SETTLE_STATES = ("pending", "rejected_timedout", "done", "", None, 3)
MINUTE_MS = 60_000


class RequestGenerator:
    """Draws requests against a state.

    Args:
        rng: Source of all choices.
        state: The model's state, read and never changed.
        targets: Addresses tasks and listeners may name.
        pids: Process ids requests may name, connected or not.
    """

    def __init__(
        self, rng: random.Random, state: State, targets: Sequence[str], pids: Sequence[str]
    ) -> None:
        self.rng, self.state, self.targets, self.pids = rng, state, targets, pids
        self.now_ms = 0
        self._makers: dict[str, tuple[int, Callable[[], Data]]] = {
            "promise.get": (4, self._by_id),
            "promise.create": (14, self._promise_create),
            "promise.settle": (4, self._promise_settle),
            "promise.register_callback": (5, self._register_callback),
            "promise.register_listener": (6, self._register_listener),
            "promise.search": (3, self._promise_search),
            "task.get": (5, self._by_id),
            "task.create": (9, self._task_create),
            "task.acquire": (9, self._task_acquire),
            "task.release": (4, self._task_release),
            "task.fulfill": (4, self._task_fulfill),
            "task.suspend": (10, self._task_suspend),
            "task.fence": (8, self._task_fence),
            "task.heartbeat": (7, self._task_heartbeat),
            "task.halt": (3, self._by_id),
            "task.continue": (4, self._task_continue),
            "task.search": (3, self._task_search),
            "schedule.get": (1, self._schedule_by_id),
            "schedule.create": (2, self._schedule_create),
            "schedule.delete": (1, self._schedule_by_id),
            "schedule.search": (1, self._schedule_search),
        }

    def draw(self, now_ms: int) -> tuple[str, Data]:
        """Return the kind and data of the next request."""
        self.now_ms = now_ms
        kinds = list(self._makers)
        kind = self.rng.choices(kinds, [self._makers[kind][0] for kind in kinds])[0]
        data = self._makers[kind][1]()
        if self._chance(0.08) and kind != "task.heartbeat":
            data = self.spoil(data)
        elif self._chance(0.03):
            data = {**data, "unheardOf": {"of": [1, None]}}
        return kind, data

    def spoil(self, data: Data) -> Data:
        """Leave a required member out, or give one the wrong type or range."""
        data = dict(data)
        if "action" in data and self._chance(0.5):
            action = data["action"]
            return {**data, "action": {**action, "data": self.spoil(action["data"])}}
        if not data:
            return data
        name = self.rng.choice(sorted(data))
        wrong: dict[str, tuple[Any, ...]] = {
            "id": ("", "a\0b", 7),
            "timeoutAt": (-1, "soon", 1.5, 2**63, True),
            "version": (-1, "1", 1.5, 2**63),
            "ttl": (0, -5, "60", 2**64),
            "limit": (0, -1, 1001, "10", 1.5),
            "tags": ([], "x", {"k": 1}),
            "state": ("unknown", 5),
            "address": BAD_ADDRESSES,
            "awaited": ("", 3),
            "awaiter": ("", 3),
            "pid": ("", 3),
            "cron": BAD_CRONS,
            "promiseTimeout": (-1, "1"),
            "promiseTags": ([], {"k": 1}, {"k": "v"}),
            "cursor": (3,),
        }
        required = ("id", "timeoutAt", "version", "ttl", "pid", "address", "awaited", "awaiter")
        if name in (*required, "cron", "promiseId", "promiseTimeout") and self._chance(0.4):
            del data[name]
        else:
            data[name] = self.rng.choice(wrong.get(name, (7, "text", [])))
        return data

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _id(self) -> str:
        return self.rng.choice(IDS)

    def _known_id(self) -> str:
        known = sorted(self.state.promises)
        return self.rng.choice(known) if known and self._chance(0.9) else self._id()

    def _pid(self) -> str:
        return self.rng.choice(self.pids)

    def _ttl(self) -> int:
        return self.rng.choice((1, 1_000, 5_000, MINUTE_MS, 10 * MINUTE_MS))

    def _by_id(self) -> Data:
        return {"id": self._known_id()}

    def _schedule_by_id(self) -> Data:
        return {"id": self.rng.choice(SCHEDULE_IDS)}

    def _value(self) -> Data:
        choices: tuple[Data, ...] = (
            {},
            {"data": "e30="},
            {"headers": {}, "data": ""},
            {"headers": None, "data": None},
            {"headers": {"k": "v", "ü": "ß"}, "data": "payload ☃"},
        )
        return self.rng.choice(choices)

    def _timeout_at(self) -> int:
        short, long = (-1_000, 0, 1, 1_000, 5_000, MINUTE_MS), (600 * MINUTE_MS, 2_000 * MINUTE_MS)
        if self._chance(0.03):
            return 2**63 - 1
        return self.now_ms + self.rng.choice(short if self._chance(0.25) else long)

    def _tags(self, id_: str) -> dict[str, str]:
        tags: dict[str, str] = {}
        if self._chance(0.6):
            tags[records.TARGET] = self.rng.choice(self.targets)
        if self._chance(0.12):
            tags[records.TIMER] = self.rng.choice(("true", "true", "false"))
        if self._chance(0.25):
            tags[records.EXTERNAL] = self.rng.choice(("true", "true", "false"))
        if self._chance(0.06):
            tags[records.DELAY] = str(self.now_ms + self.rng.choice((0, 700, 4_000)))
        if self._chance(0.5):
            tags |= self._lineage(id_)
        if self._chance(0.3):
            tags["resonate:scope"] = self.rng.choice(("global", "local"))
        if self._chance(0.2):
            tags["colour"] = self.rng.choice(("red", "blue"))
        return tags

    def _lineage(self, id_: str) -> dict[str, str]:
        if self._chance(0.05):
            return {self.rng.choice((records.ORIGIN, records.BRANCH, records.PARENT)): self._id()}
        root = id_.split(":")[0]
        ancestors = [root]
        if ":" in id_:
            segments = id_.split(":")[1].split(".")
            ancestors += [
                f"{root}:{'.'.join(segments[:count])}" for count in range(1, len(segments) + 1)
            ]
        return {
            records.ORIGIN: root,
            records.BRANCH: self.rng.choice(ancestors),
            records.PARENT: self.rng.choice(ancestors),
        }

    def _spec(self, *, target: bool = False) -> Data:
        id_ = self._id()
        data: Data = {"id": id_, "timeoutAt": self._timeout_at()}
        tags = self._tags(id_)
        if target and self._chance(0.97):
            tags.setdefault(records.TARGET, self.rng.choice(self.targets))
            tags.pop(records.DELAY, None)
        if tags or self._chance(0.5):
            data["tags"] = tags
        if self._chance(0.7):
            data["param"] = self._value()
        return data

    def _promise_create(self) -> Data:
        return self._spec()

    def _settle_spec(self, id_: str) -> Data:
        good = self._chance(0.93)
        data: Data = {
            "id": id_,
            "state": self.rng.choice(SETTLE_STATES if good else BAD_SETTLE_STATES),
        }
        if self._chance(0.7):
            data["value"] = self._value()
        return data

    def _promise_settle(self) -> Data:
        return self._settle_spec(self._known_id())

    def _register_callback(self) -> Data:
        awaited, awaiter = self._known_id(), self._task("pending", "acquired", "suspended")[0]
        if self._chance(0.7):
            awaited = self._awaitable(awaiter) or awaited
        promise = self.state.promises.get(awaited)
        if promise is not None and promise.external and promise.state_at(self.now_ms) != "pending":
            # Whether a settled promise still wakes a late awaiter differs between the sources.
            awaiter = awaited
        return {"awaited": awaited, "awaiter": awaiter}

    def _register_listener(self) -> Data:
        address = self.rng.choice(self.targets if self._chance(0.93) else BAD_ADDRESSES)
        return {"awaited": self._known_id(), "address": address}

    def _page(self, states: Sequence[str], cursors: Sequence[str]) -> Data:
        data: Data = {}
        if states and self._chance(0.5):
            data["state"] = self.rng.choice(states)
        if self._chance(0.7):
            data["limit"] = self.rng.choice((1, 2, 3, 5, 1000, 1000, 0, 1001))
        if self._chance(0.4):
            data["cursor"] = self.rng.choice(cursors)
        if self._chance(0.1):
            data |= dict.fromkeys(("limit", "cursor"))
        return data

    def _promise_search(self) -> Data:
        data = self._page(PROMISE_STATES, IDS)
        if self._chance(0.4):
            tags = {"colour": "red", "resonate:scope": "global", records.BRANCH: "a"}
            names = self.rng.sample(sorted(tags), self.rng.randint(0, 2))
            data["tags"] = {name: tags[name] for name in names}
        return data

    def _task_search(self) -> Data:
        return self._page(TASK_STATES, IDS)

    def _action(self, kind: str, data: Data) -> Data:
        return {"kind": kind, "head": {}, "data": data}

    def _task_create(self) -> Data:
        action = self._action("promise.create", self._spec(target=True))
        return {"pid": self._pid(), "ttl": self._ttl(), "action": action}

    def _task(self, *states: str) -> tuple[str, int]:
        """The id and version of a task, most often one in one of ``states``."""
        fitting = sorted(task.id for task in self.state.tasks.values() if self._fits(task, states))
        if not fitting or self._chance(0.1):
            return self._known_id(), self.rng.randint(0, 3)
        task = self.state.tasks[self.rng.choice(fitting)]
        return task.id, task.version + (self.rng.choice((-1, 1, 5)) if self._chance(0.1) else 0)

    def _fits(self, task: Task, states: Sequence[str]) -> bool:
        return self.state.task_state_at(task, self.now_ms) in states

    def _task_acquire(self) -> Data:
        id_, version = self._task("pending")
        return {"id": id_, "version": max(version, 0), "pid": self._pid(), "ttl": self._ttl()}

    def _task_release(self) -> Data:
        id_, version = self._task("acquired")
        return {"id": id_, "version": max(version, 0)}

    def _task_fulfill(self) -> Data:
        id_, version = self._task("acquired")
        action = self._action("promise.settle", self._settle_spec(id_))
        return {"id": id_, "version": max(version, 0), "action": action}

    def _awaitables(self, awaiter: str) -> list[str]:
        return sorted(
            promise.id
            for promise in self.state.promises.values()
            if promise.external
            and promise.state_at(self.now_ms) == "pending"
            and promise.id != awaiter
        )

    def _awaitable(self, awaiter: str) -> str | None:
        fitting = self._awaitables(awaiter)
        return self.rng.choice(fitting) if fitting else None

    def _task_suspend(self) -> Data:
        id_, version = self._task("acquired")
        pending = self._awaitables(id_)
        count = self.rng.choice((1, 1, 1, 2, 3))
        if len(pending) >= count and self._chance(0.75):
            awaited = self.rng.sample(pending, count)
        elif self._chance(0.4):
            awaited = sorted(
                promise.id for promise in self.state.promises.values() if promise.external
            )[:3]
        else:
            awaited = [self._known_id() for _ in range(self.rng.choice((0, 1, 2, 3)))]
        actions = [
            self._action("promise.register_callback", {"awaited": item, "awaiter": id_})
            for item in awaited
        ]
        return {"id": id_, "version": max(version, 0), "actions": actions}

    def _task_fence(self) -> Data:
        id_, version = self._task("acquired")
        if self._chance(0.6):
            action = self._action("promise.create", self._spec())
        else:
            action = self._action("promise.settle", self._settle_spec(self._known_id()))
        if self._chance(0.03):
            action["kind"] = "promise.get"
        return {"id": id_, "version": max(version, 0), "action": action}

    def _task_heartbeat(self) -> Data:
        claims: list[Data] = []
        for _ in range(self.rng.choice((0, 1, 1, 2, 3))):
            id_, version = self._task("acquired")
            claims.append({"id": id_, "version": max(version, 0)})
        task = self.state.tasks.get(claims[0]["id"]) if claims else None
        pid = task.pid if task is not None and task.pid and self._chance(0.6) else self._pid()
        return {"pid": pid, "tasks": claims}

    def _task_continue(self) -> Data:
        return {"id": self._task("halted")[0]}

    def _schedule_create(self) -> Data:
        data: Data = {
            "id": self.rng.choice(SCHEDULE_IDS),
            "cron": self.rng.choice(CRONS if self._chance(0.9) else BAD_CRONS),
            "promiseId": self.rng.choice(("{{.id}}-{{.timestamp}}", "x-{{.id}}", "a")),
            "promiseTimeout": self.rng.choice((0, 1_000, 90_000, 60 * MINUTE_MS)),
            "promiseTags": {records.TARGET: self.rng.choice(self.targets), "colour": "red"},
        }
        if self._chance(0.5):
            data["promiseParam"] = self._value()
        return data

    def _schedule_search(self) -> Data:
        data = self._page((), SCHEDULE_IDS)
        if self._chance(0.3):
            data["tags"] = {"colour": self.rng.choice(("red", "blue"))}
        return data
