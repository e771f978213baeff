"""Group commit: requests of one turn of an event loop share a transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from store import errors
from store.database import Busy
from store.opening import LOCK_WAIT_S
from store.patience import pauses
from store.protocol import Call

__all__ = ["Lane"]

#: Most requests in one transaction: it holds the write lock and the loop for that long.
GROUP: Final = 64

#: Requests in one turn from which sharing a transaction pays for the detour through the
#: loop: two are applied sooner each by itself.
CROWD: Final = 3

#: Requests applied at once before a turn is watched, and groups smaller than a crowd after
#: which requests are applied at once again.
STREAK: Final = 32
LONELY: Final = 4

type Transact = Callable[[Sequence[Call]], tuple[list[str], bool]]


class Lane:
    """The requests of one event loop that wait for the next transaction.

    While requests come one at a time each is applied at once, so that a single workflow
    pays for no detour through the loop. When several come in one turn of the loop, they
    wait for its end and share a transaction, so that many pay for one commit and the
    loop gets its turn in between.

    Args:
        loop: The event loop the requests come from.
        transact: Applies requests in one transaction.
        path: The database file, for errors.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transact: Transact, path: str) -> None:
        self._loop = loop
        self._transact = transact
        self._path = path
        self._queue: list[tuple[Call, asyncio.Future[tuple[str, bool]]]] = []
        self._streak = 0
        self._watching = False
        self._crowded = False
        self._lonely = 0
        self._scheduled = False
        self._pauses = pauses()
        self._give_up = 0.0

    def take(self) -> bool:
        """Whether a request may be applied at once.

        Every few requests the rest of the turn is watched: another request in it shows
        that several are at work (or one that never lets the loop have its turn).
        """
        if self._crowded or self._watching or self._queue:
            return False
        self._streak += 1
        if self._streak >= STREAK:
            self._streak = 0
            self._watching = True
            self._loop.call_soon(self._turn)
        return True

    def _turn(self) -> None:
        self._watching = False

    def enqueue(self, call: Call) -> asyncio.Future[tuple[str, bool]]:
        """Queue a request.

        Returns:
            A future of its answer and whether that must be synced first.
        """
        future: asyncio.Future[tuple[str, bool]] = self._loop.create_future()
        self._queue.append((call, future))
        if not self._scheduled:
            self._scheduled = True
            self._give_up = time.monotonic() + LOCK_WAIT_S
            self._loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._scheduled = False
        group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
        if len(group) >= CROWD or self._queue:
            self._crowded, self._lonely = True, 0
        elif self._crowded:
            self._lonely += 1
            self._crowded = self._lonely < LONELY
        group = [entry for entry in group if not entry[1].done()]
        try:
            if group:
                self._apply(group)
        except Busy as busy:
            if time.monotonic() > self._give_up:
                self._fail(group, errors.locked(self._path, LOCK_WAIT_S), busy)
            else:
                self._queue = group + self._queue
                self._scheduled = True
                self._loop.call_later(next(self._pauses), self._flush)
                return
        self._pauses = pauses()
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._give_up = time.monotonic() + LOCK_WAIT_S
            self._loop.call_soon(self._flush)

    def _apply(self, group: list[tuple[Call, asyncio.Future[tuple[str, bool]]]]) -> None:
        """Apply a group; when it fails as a whole, each of its requests by itself."""
        try:
            answers, must_sync = self._transact([call for call, _ in group])
        except Busy:
            raise
        except Exception as error:  # noqa: BLE001  # whoever asked is told
            if len(group) == 1:
                self._fail(group, error, None)
                return
            for index, entry in enumerate(group):
                try:
                    self._apply([entry])
                except Busy:
                    self._queue = group[index:] + self._queue
                    return
            return
        for (_, future), text in zip(group, answers, strict=True):
            if not future.done():
                future.set_result((text, must_sync))

    def _fail(
        self,
        group: list[tuple[Call, asyncio.Future[tuple[str, bool]]]],
        error: Exception,
        cause: Exception | None,
    ) -> None:
        error.__cause__ = error.__cause__ or cause
        for _, future in group:
            if not future.done():
                future.set_exception(error)

    def close(self) -> None:
        """Answer what is queued, or fail it when that is not possible right now."""
        while self._queue:
            group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
            try:
                self._apply([entry for entry in group if not entry[1].done()])
            except Busy as busy:
                self._fail(group, errors.closed(self._path), busy)
