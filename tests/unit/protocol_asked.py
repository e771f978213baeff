"""Short names for the requests that the protocol's sentences need."""

from __future__ import annotations

from model import comparison
from protocol_subjects import START_MS

HOUR_MS = 3_600_000
TARGET = "resonate:target"


class Asked:
    """Short names for the requests the sentences below need."""

    def __init__(self, subject):
        self.subject = subject
        self.workers = subject.group("workers")

    async def ask(self, kind, **data):
        return await self.subject.ask(kind, data)

    async def ok(self, kind, **data):
        answer = await self.ask(kind, **data)
        assert answer.status == 200, answer
        return answer.data

    async def status(self, kind, **data):
        answer = await self.ask(kind, **data)
        assert answer.status < 400 or isinstance(answer.data, str)
        return answer.status

    async def advance(self, ms):
        self.subject.clock.now_ms += ms
        await self.subject.tick()

    async def messages(self):
        """Every message that waited, as comparable tuples, without who got it."""
        await self.subject.tick()
        return [comparison.message(kind, data) for _, kind, data in self.subject.received()]

    async def create(self, id_, *, timeout_ms=HOUR_MS, target=False, **tags):
        tags = {f"resonate:{name}": text for name, text in tags.items()}
        if target:
            tags[TARGET] = self.workers
        data = {"id": id_, "timeoutAt": START_MS + timeout_ms, "tags": tags}
        return (await self.ok("promise.create", **data))["promise"]

    async def settle(self, id_, state="resolved"):
        return (await self.ok("promise.settle", id=id_, state=state, value={"data": "v"}))[
            "promise"
        ]

    async def promise(self, id_):
        return (await self.ok("promise.get", id=id_))["promise"]

    async def task(self, id_):
        return comparison.task((await self.ok("task.get", id=id_))["task"])

    async def acquire(self, id_, version=0, pid="p1", ttl=60_000):
        return await self.ok("task.acquire", id=id_, version=version, pid=pid, ttl=ttl)

    def task_create(self, id_, *, timeout_ms=HOUR_MS, **extra):
        tags = {TARGET: self.workers}
        action = {"id": id_, "timeoutAt": START_MS + timeout_ms, "tags": tags, "param": {}}
        return {
            "pid": "p1",
            "ttl": 60_000,
            "action": {"kind": "promise.create", "head": {}, "data": action},
            **extra,
        }

    def suspend(self, id_, version, *awaited):
        actions = [
            {
                "kind": "promise.register_callback",
                "head": {},
                "data": {"awaited": a, "awaiter": id_},
            }
            for a in awaited
        ]
        return {"id": id_, "version": version, "actions": actions}

    def fence(self, id_, version, kind, /, **data):
        return {"id": id_, "version": version, "action": {"kind": kind, "head": {}, "data": data}}

    def fulfill(self, id_, version, state="resolved"):
        return self.fence(id_, version, "promise.settle", id=id_, state=state, value={"data": "v"})

    async def acquired(self, id_, **create):
        """A task in hand at version 1, its execute message already delivered."""
        await self.create(id_, target=True, **create)
        await self.acquire(id_)
        await self.messages()
