"""The store's schedules run when the model's do."""

from __future__ import annotations

import random

import pytest
from model import CronError, next_run_ms
from protocol_subjects import START_MS, StoreSubject

pytestmark = pytest.mark.unit

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
YEAR_MS = 366 * 86_400_000


def random_part(rng: random.Random, low: int, high: int) -> str:
    first = rng.randint(low, high)
    last = rng.randint(first, high)
    return rng.choice(
        (
            str(first),
            str(first),
            f"{first}-{last}",
            f"{first}-{last}/{rng.randint(1, 7)}",
            f"*/{rng.randint(1, 20)}",
            f"{first}/{rng.randint(1, 20)}",
        )
    )


def random_field(rng: random.Random, low: int, high: int) -> str:
    if rng.random() < 0.35:
        return "*"
    return ",".join(random_part(rng, low, high) for _ in range(rng.choice((1, 1, 2, 4))))


def random_cron(rng: random.Random) -> str:
    fields = [random_field(rng, *bounds) for bounds in BOUNDS]
    if rng.random() < 0.15:
        spoiled = rng.choice(("", "x", "-1", "60", "7", "1-", "5-3", "*/0", "1,,2", "1/2/3", "MON"))
        fields[rng.randrange(5)] = spoiled
    if rng.random() < 0.05:
        fields.append("*")
    return rng.choice((" ", " ", "  ")).join(fields)


def model_next_run(cron: str, now_ms: int) -> int | None:
    try:
        return next_run_ms(cron, now_ms)
    except CronError:
        return None


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_random_cron_expressions_name_the_same_minute(tmp_path, count):
    rng = random.Random(count)
    store = StoreSubject(tmp_path / "cron.db")
    await store.open()
    refused = 0
    for _ in range(count):
        store.clock.now_ms = START_MS + rng.randrange(10 * YEAR_MS)
        cron = random_cron(rng)
        data = {
            "id": "s",
            "cron": cron,
            "promiseId": "{{.id}}-{{.timestamp}}",
            "promiseTimeout": 1,
            "promiseTags": {"resonate:target": store.group("workers")},
        }
        status, answer = await store.ask("schedule.create", data)
        expected = model_next_run(cron, store.clock())
        found = answer["schedule"]["nextRunAt"] if status == 200 else None
        assert found == expected, (cron, store.clock(), status)
        refused += found is None
        if status == 200:
            assert (await store.ask("schedule.delete", {"id": "s"})).status == 200
    await store.close()
    assert 0 < refused < count / 2
