"""The code of an execution runs until it ends, is stopped, or is late by the wall clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable.supervision import StopReason, Supervisor

pytestmark = pytest.mark.unit


def nowhere(_: asyncio.Task[Any]) -> str:
    return ""


async def test_code_that_outlives_the_longest_timer_of_a_loop_is_not_late() -> None:
    async def body() -> str:
        await asyncio.sleep(0.1)
        return "done"

    supervisor: Supervisor[str] = Supervisor(body, 1.0, nowhere, longest_wait_s=0.01)
    task = await supervisor.run(lambda: 3600.0)
    assert task is not None
    assert task.result() == "done"
    assert supervisor.reason is None


async def test_code_is_stopped_when_the_wall_clock_has_passed_its_deadline() -> None:
    left_s = [0.02, 0.02, 0.0]  # the clock was set back once

    async def body() -> None:
        await asyncio.sleep(60)

    supervisor: Supervisor[None] = Supervisor(body, 1.0, nowhere)
    task = await supervisor.run(lambda: left_s.pop(0))
    assert task is not None
    assert task.cancelled()
    assert supervisor.reason is StopReason.TIMEOUT
    assert left_s == []
