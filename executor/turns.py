"""First come, first served: the order in which one session's cells run."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """A lock that is handed over in the order of asking, and that costs nothing when free."""

    __slots__ = ("_waiting", "is_taken")

    def __init__(self) -> None:
        self.is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take the turn if it is free; if so it needs a ``leave()``."""
        if self.is_taken:
            return False
        self.is_taken = True
        return True

    async def enter(self) -> None:
        """Wait for one's turn; every ``enter()`` that returned needs one ``leave()``."""
        if self.take():
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave()  # the turn came together with the cancellation
            else:
                self._forget(place)
            raise

    def leave(self) -> None:
        """Hand the turn to whoever asked first."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.is_taken = False

    def refuse_waiting(self, error: type[Exception], message: str) -> None:
        """Raise ``error`` in everybody who still waits."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(error(message))

    def _forget(self, place: asyncio.Future[None]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
