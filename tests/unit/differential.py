"""Plays one random script of requests to the store and to the model, and stops where they differ.

After every step both are ticked and every message is compared: what, and to which connection. A
group's message may go to any one of its members. A failing script is cut down to a short one that
still fails, so that the report can be read.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model import Answer, Message, State, comparison, respond, take_messages, tick
from model.requests import IDS, RequestGenerator
from protocol_subjects import MEMBERS, START_MS, Received, StoreSubject

LATE_GROUP = "late"
"""A group nobody listens to until the end: its messages pile up in the outbox."""
FOREIGN_PIDS = ("stranger", "p4")
PROBES_OF_SETTLED = ("promise.settle", "promise.register_listener")
PROBE_KINDS = ("promise.get", "task.get", *PROBES_OF_SETTLED)


@dataclass(frozen=True)
class Send:
    """One request through one of the connections."""

    member: int
    kind: str
    data: Any


@dataclass(frozen=True)
class Advance:
    """Move the clock, ask ``probes`` before anything is swept, then tick."""

    now_ms: int
    probes: tuple[Send, ...] = ()


@dataclass(frozen=True)
class Crowd:
    """Requests sent through one connection without waiting for one another."""

    sends: tuple[Send, ...]


type Step = Send | Advance | Crowd


class MismatchError(AssertionError):
    """The store and the model said different things."""


class Comparison:
    """The two sides of one script."""

    def __init__(self, store: StoreSubject, coverage: Counter[tuple[str, int]]) -> None:
        self.store, self.coverage = store, coverage
        self.state = State()
        self.fleeting: list[Message] = []
        self.groups: dict[str, set[int]] = {}
        for member, (_, group) in enumerate(MEMBERS):
            self.groups.setdefault(store.group(group), set()).add(member)
        self.receivers = dict(self.groups)
        for member in range(len(MEMBERS)):
            self.receivers[store.unicast(member)] = {member}

    @property
    def now_ms(self) -> int:
        return self.store.clock.now_ms

    async def play(self, step: Step) -> None:
        """Take one step on both sides.

        Raises:
            MismatchError: an answer or a message differs.
        """
        self.fleeting = []
        if isinstance(step, Send):
            await self._crowd((step,))
        elif isinstance(step, Crowd):
            await self._crowd(step.sends)
        else:
            self.store.clock.now_ms = step.now_ms
            for probe in step.probes:
                await self._probe(probe)
        # Twice: a run that a schedule missed is made by the first and may expire in the second.
        for _ in range(2):
            tick(self.state, self.now_ms)
            await self.store.tick()
            self._compare_messages(step)

    async def finish(self) -> None:
        """Let the late group listen, and compare what waited for it."""
        member = await self.store.join("p9", LATE_GROUP)
        self.receivers[self.store.group(LATE_GROUP)] = {member}
        await self.store.tick()
        self._compare_messages("the late group opens its connection")
        await self._audit()

    async def _audit(self) -> None:
        """Close every connection, and compare what a new one finds in the file.

        Tasks in hand are left out: closing gives those of the closed connections back.
        """
        await self.store.close()
        member = await self.store.join("auditor", "auditors")
        for name in ("promise", "schedule", "task"):
            data = {"limit": 1000}
            expected = respond(self.state, self.now_ms, {"kind": f"{name}.search", "data": data})
            answer = await self.store.ask(f"{name}.search", data, member)
            if name == "task":
                held = {task.id for task in self.state.tasks.values() if task.state == "acquired"}
                for side in (expected, answer):
                    kept = [task for task in side.data["tasks"] if task["id"] not in held]
                    side.data["tasks"] = kept
            if not comparison.same(expected, answer):
                raise MismatchError(f"in the file: {name}\nmodel: {expected}\nstore: {answer}")

    async def _crowd(self, sends: Sequence[Send]) -> None:
        """Send at once what the model answers one by one, in the same order."""
        expected = []
        for send in sends:
            request = {"kind": send.kind, "data": send.data}
            expected.append(respond(self.state, self.now_ms, request))
            self.coverage[send.kind, expected[-1].status] += 1
            # One that a later request of the crowd replaces may have left before.
            self.fleeting += self.state.outbox.values()
        answers = await asyncio.gather(
            *(self.store.ask(send.kind, send.data, send.member) for send in sends)
        )
        for send, one, answer in zip(sends, expected, answers, strict=True):
            if not (comparison.same(one, answer) or tolerated(send, one, answer)):
                raise MismatchError(f"{send}\nmodel: {one}\nstore: {answer}")

    async def _probe(self, step: Send) -> None:
        """Ask before the sweep: whether the sweep has already happened is the store's choice."""
        request = {"kind": step.kind, "data": step.data}
        promise = self.state.promises.get(step.data.get("id") or step.data["awaited"])
        is_open = promise is not None and promise.state_at(self.now_ms) == "pending"
        if is_open and step.kind in PROBES_OF_SETTLED:
            return  # in a shortened script only: it would take effect
        unswept, swept = self.state.copy(), self.state.copy()
        tick(swept, self.now_ms)
        answer = await self.store.ask(step.kind, step.data, step.member)
        expected = [respond(side, self.now_ms, request) for side in (unswept, swept)]
        self.coverage[step.kind, expected[0].status] += 1
        if not any(comparison.same(one, answer) for one in expected):
            raise MismatchError(f"before the sweep: {step}\nmodel: {expected}\nstore: {answer}")

    def _compare_messages(self, step: Any) -> None:
        expected = take_messages(self.state, set(self.receivers))
        for received in self.store.received():
            match = self._find(received, expected)
            if match is not None:
                expected.remove(match)
            elif not (self._excusable(received) or self._find(received, self.fleeting)):
                raise MismatchError(
                    f"after {step}\nunexpected message: {received}\nleft: {expected}"
                )
        missing = [message for message in expected if not message.optional]
        if missing:
            raise MismatchError(f"after {step}\nmissing messages: {missing}")

    def _find(self, received: Received, expected: Sequence[Message]) -> Message | None:
        form = comparison.message(received.kind, received.data)
        # The message to this member alone first: a group's may have gone to another member.
        known = [message for message in expected if message.address in self.receivers]
        for message in sorted(known, key=lambda one: len(self.receivers[one.address])):
            if (
                received.member in self.receivers[message.address]
                and comparison.message(message.kind, message.data) == form
            ):
                return message
        return None

    def _excusable(self, received: Received) -> bool:
        """True for what the sources time, or send, differently.

        The offers of a task that is released in a row, and the news that a promise which no timer
        expires is past its deadline.
        """
        if received.kind == "execute":
            task = self.state.tasks.get(received.data["task"]["id"])
            return task is not None and task.held_back
        promise = self.state.promises[received.data["promise"]["id"]]
        return not promise.external and promise.timeout_at <= self.now_ms


def tolerated(step: Send, model: Answer, store: Answer) -> bool:
    """True where the sources give different answers that change nothing."""
    if model.status != 400 or store.status != 200:
        return False
    if step.kind == "schedule.create":
        # The server checks the request first, resonate-pg the existing schedule.
        return bool(store.data["schedule"]["id"] == step.data.get("id"))
    if step.kind == "task.fence":
        return bool(store.data["action"]["head"]["status"] == 400)
    return False


def _next_deadlines(state: State, now_ms: int) -> list[int]:
    moments = [
        *(item.timeout_at for item in state.promises.values() if item.state == "pending"),
        *(item.due_at for item in state.tasks.values() if item.due_at is not None),
        *(item.next_run_at for item in state.schedules.values()),
    ]
    return sorted({moment for moment in moments if now_ms < moment < now_ms + 7_200_000})


def _advance(rng: random.Random, state: State, now_ms: int, probe: Callable[[], Send]) -> Advance:
    deadlines = _next_deadlines(state, now_ms)
    if deadlines and rng.random() < 0.5:
        target = rng.choice(deadlines[:4]) + rng.choice((-1, 0, 0, 1))
    else:
        target = now_ms + rng.choice((1, 10, 999, 999, 5_000, 5_000, 61_000, 3_600_000))
    probes = [probe() for _ in range(rng.choice((0, 0, 1, 3)))]
    return Advance(max(now_ms, target), tuple(probes))


def script(rng: random.Random, run: Comparison, length: int) -> Iterator[Step]:
    """Draw steps one at a time, each aimed by the state the earlier ones led to."""
    store = run.store
    targets = [
        *run.groups,
        *(store.unicast(member) for member in (0, 2)),
        store.group(LATE_GROUP),
        "http://example.invalid/hook",
    ]
    pids = [*(pid for pid, _ in MEMBERS), *FOREIGN_PIDS]
    generator = RequestGenerator(rng, run.state, targets, pids)

    def send() -> Send:
        return Send(rng.randrange(len(MEMBERS)), *generator.draw(run.now_ms))

    def probe() -> Send:
        kind = rng.choice(PROBE_KINDS)
        id_ = rng.choice(sorted(run.state.promises) or IDS)
        extra = {
            "promise.settle": {"id": id_, "state": "resolved"},
            "promise.register_listener": {"awaited": id_, "address": targets[0]},
        }
        return Send(rng.randrange(len(MEMBERS)), kind, extra.get(kind, {"id": id_}))

    for _ in range(length):
        chance = rng.random()
        if chance < 0.18:
            yield _advance(rng, run.state, run.now_ms, probe)
        elif chance < 0.28:
            member = rng.randrange(len(MEMBERS))
            drawn = [replace(send(), member=member) for _ in range(rng.choice((2, 5, 12)))]
            # A search may see what others of the crowd do, or not: nothing orders them.
            yield Crowd(tuple(one for one in drawn if not one.kind.endswith(".search")))
        else:
            yield send()


async def replay(make_store: Callable[[], StoreSubject], steps: Sequence[Step]) -> str | None:
    """Play a fixed script on a fresh store; return the mismatch, or None."""
    store = make_store()
    await store.open()
    try:
        run = Comparison(store, Counter())
        for step in steps:
            await run.play(step)
        await run.finish()
    except MismatchError as mismatch:
        return str(mismatch)
    finally:
        await store.close()
    return None


async def shortened(make_store: Callable[[], StoreSubject], steps: Sequence[Step]) -> list[Step]:
    """Cut a failing script down, in halves, quarters and at last single steps."""
    steps = list(steps)
    size = max(1, len(steps) // 2)
    while True:
        position = 0
        while position < len(steps):
            shorter = steps[:position] + steps[position + size :]
            if await replay(make_store, shorter) is not None:
                steps = shorter
            else:
                position += size
        if size == 1:
            return steps
        size //= 2


async def explore(
    make_store: Callable[[], StoreSubject],
    seed: int,
    length: int,
    coverage: Counter[tuple[str, int]],
) -> None:
    """Play one random script.

    Raises:
        MismatchError: with the shortest failing script found, and what differed.
    """
    store = make_store()
    await store.open()
    run = Comparison(store, coverage)
    steps: list[Step] = []
    try:
        for step in script(random.Random(seed), run, length):
            steps.append(step)
            await run.play(step)
        await run.finish()
    except MismatchError as first:
        await store.close()
        short = await shortened(make_store, steps)
        text = await replay(make_store, short) or f"did not repeat: {first}"
        lines = "\n".join(_described(step) for step in short)
        raise MismatchError(f"seed {seed}\n{lines}\n--\n{text}\n-- at first\n{first}") from None
    await store.close()


def _described(step: Step) -> str:
    if isinstance(step, Advance):
        return f"clock to start + {step.now_ms - START_MS} ms, probes {step.probes}"
    if isinstance(step, Crowd):
        return "at once:\n  " + "\n  ".join(_described(send) for send in step.sends)
    return f"{step.kind} {step.data} (connection {step.member})"
