"""Hearing of a cancellation while source holds the event loop.

A loop that is held hears nothing, and its process could not be told before the code's
deadline. So a thread asks the loop for a sign of life while source runs, and where none
comes it looks into the database itself, on a connection of its own that only reads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
from resonate_base import ConnectorError

from store.readonly import ReadOnlyConnection

__all__ = ["Sentinel"]

logger = logging.getLogger(__name__)

#: Seconds that the loop has for a sign of life, and between two looks where it gives none:
#: with what an interrupt takes, held code is stopped a quarter of a second after its promise.
_ASK_EVERY_S = 0.08

#: Seconds that the thread has to end; it takes a tenth of one, unless it is stopping code.
_CLOSE_S = 0.5

#: States of which the loop itself, and the executor's own watchdog, take care.
_NOT_OURS = frozenset({"pending", "rejected_timedout"})


class Sentinel:
    """Watches executions of source on one event loop, while there are any.

    Args:
        loop: The loop that their code may hold.
        path: The SQLite file that has their promises.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str | Path) -> None:
        self._loop = loop
        self._path = path
        self._watched: dict[str, Callable[[str], None]] = {}
        self._busy = threading.Event()
        self._closed = threading.Event()
        self._has_looked = False
        self._thread: threading.Thread | None = None

    def watch(self, execution_id: str, stop: Callable[[str], None]) -> Callable[[], None]:
        """Call ``stop(state)``, in a thread, once somebody has settled a promise unheard.

        Returns:
            What ends it.
        """
        self._watched[execution_id] = stop
        self._busy.set()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="sostenuto-sentinel", daemon=True
            )
            self._thread.start()
        return lambda: self._leave(execution_id, stop)

    def _leave(self, execution_id: str, stop: Callable[[str], None]) -> None:
        if self._watched.get(execution_id) is stop:
            del self._watched[execution_id]
        if not self._watched:
            self._busy.clear()

    def close(self) -> None:
        """End the thread, and its connection, which would keep the file's log from being merged."""
        self._closed.set()
        self._watched.clear()
        self._busy.set()
        if self._has_looked and self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        connection = ReadOnlyConnection(self._path)
        is_alive = True

        def answered() -> None:
            nonlocal is_alive
            is_alive = True

        try:
            while self._waits_for_work():
                if not is_alive:
                    self._look(connection)
                    continue
                is_alive = False
                self._loop.call_soon_threadsafe(answered)
        except RuntimeError:
            logger.debug("the event loop was closed")
        finally:
            _at_once(connection.stop())

    def _waits_for_work(self) -> bool:
        self._busy.wait()
        return not self._closed.wait(_ASK_EVERY_S) and not self._loop.is_closed()

    def _look(self, connection: ReadOnlyConnection) -> None:
        self._has_looked = True
        for execution_id, stop in list(self._watched.items()):
            try:
                state = _state_of(connection, execution_id)
                if state not in _NOT_OURS and self._watched.pop(execution_id, None) is not None:
                    stop(state)
            except ConnectorError as error:
                logger.debug("cannot look for %s: %s", execution_id, error)
            except Exception:
                logger.exception("%s was settled elsewhere and cannot be stopped", execution_id)


def _state_of(connection: ReadOnlyConnection, promise_id: str) -> str:
    request = {"kind": "promise.get", "head": {"corrId": "0"}, "data": {"id": promise_id}}
    answer = msgspec.json.decode(
        _at_once(connection.send(msgspec.json.encode(request).decode("utf-8")))
    )
    promise = answer["data"].get("promise") if isinstance(answer["data"], dict) else None
    return str(promise["state"]) if promise is not None else "pending"


def _at_once[T](coroutine: Coroutine[object, None, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    msg = "a read of the database suspended"
    raise AssertionError(msg)
