"""Waiting for another process's write lock, asleep."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Final

from store import errors
from store.database import Busy
from store.opening import LOCK_WAIT_S

__all__ = ["patiently", "pauses"]

#: A transaction of another process takes some 50 microseconds, so the first pause is
#: short; a checkpoint that empties the log takes milliseconds.
FIRST_PAUSE_S: Final = 0.0003
LONGEST_PAUSE_S: Final = 0.01


def pauses() -> Iterator[float]:
    """Seconds to sleep between attempts: growing, and spread so that rivals miss each other."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # spreads attempts, guards nothing
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def patiently[**P, T](
    path: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run work that may find the write lock taken, sleeping between attempts.

    Raises:
        LockedError: The lock was not free for too long.
    """
    give_up = time.monotonic() + LOCK_WAIT_S
    for pause_s in pauses():
        try:
            return work(*args, **kwargs)
        except Busy as busy:
            if time.monotonic() > give_up:
                raise errors.locked(path, LOCK_WAIT_S) from busy
        await asyncio.sleep(pause_s)
    raise AssertionError("pauses never end")
