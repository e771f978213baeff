"""The store answers, and sends, what the model says."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from differential import explore
from model.protocol import KINDS
from protocol_subjects import StoreSubject

pytestmark = pytest.mark.unit

SHORT_SEEDS = range(24)
SYNCED_SEEDS = range(500, 506)
LONG_SEEDS = range(1_000, 1_400)
LENGTH = 150


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[], StoreSubject]:
    numbers = itertools.count()
    return lambda: StoreSubject(tmp_path / f"run{next(numbers)}.db")


@pytest.mark.parametrize("seed", SHORT_SEEDS)
async def test_random_requests_get_the_answers_and_messages_of_the_model(make_store, seed):
    await explore(make_store, seed, LENGTH, Counter())


@pytest.mark.parametrize("seed", SYNCED_SEEDS)
async def test_the_answers_are_the_same_when_every_commit_is_synced(tmp_path, seed):
    numbers = itertools.count()

    def make_store() -> StoreSubject:
        return StoreSubject(tmp_path / f"run{next(numbers)}.db", "full")

    await explore(make_store, seed, LENGTH, Counter())


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_every_kind_of_request_succeeds_many_times_as_the_model_says(make_store, capsys):
    coverage: Counter[tuple[str, int]] = Counter()
    for seed in LONG_SEEDS:
        await explore(make_store, seed, LENGTH, coverage)
    with capsys.disabled():
        for (kind, status), count in sorted(coverage.items()):
            print(f"{kind:28} {status} {count:7}")
    succeeded = {kind: coverage[kind, 200] for kind in KINDS}
    assert min(succeeded.values()) >= 100, succeeded
    assert coverage["task.suspend", 300] >= 20
