"""A reader that is closed while it is being used, or opened by many at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

import store
from store import schema
from store.reader import Reader

pytestmark = pytest.mark.unit

PAUSES = (0, 0, 0.0002, 0.001, 0.003)


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "a.db")
    schema.prepare(path)
    return path


def workers():
    """Threads that serve a connection; one that is ending may need a moment."""
    return [thread for thread in threading.enumerate() if "connection_worker" in thread.name]


async def asked(reader, outcomes):
    try:
        for _ in range(5):
            assert await reader.rows("SELECT count(*) FROM promises") == [(0,)]
            outcomes.append("rows")
    except store.ClosedError:
        outcomes.append("closed")


async def test_queries_that_meet_the_close_are_answered_or_say_so_and_no_thread_is_left(path):
    before = len(workers())
    outcomes: list[str] = []
    for attempt in range(60):
        reader = Reader(path)
        asking = [asyncio.create_task(asked(reader, outcomes)) for _ in range(4)]
        await asyncio.sleep(PAUSES[attempt % len(PAUSES)])
        await reader.close()
        await asyncio.gather(*asking)
    assert set(outcomes) == {"rows", "closed"}
    for thread in workers()[before:]:
        thread.join(timeout=5)
    assert len(workers()) == before


async def test_a_closed_reader_stays_closed(path):
    reader = Reader(path)
    await reader.rows("SELECT 1")
    await reader.close()
    await reader.close()
    with pytest.raises(store.ClosedError, match=r"a\.db"):
        await reader.rows("SELECT 1")
