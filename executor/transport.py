"""The messages of a running cell, and how they reach the host in order and on its own thread."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable
from contextvars import copy_context
from typing import Any, ClassVar, Literal, Protocol

import msgspec

__all__ = [
    "ErrorMessage",
    "Message",
    "NoteMessage",
    "Outlet",
    "OutputMessage",
    "ResultMessage",
    "Transport",
]

_logger = logging.getLogger(__name__)

# A result waits this long for a slow transport, so that a dead one cannot hold up the session.
_DRAIN_LIMIT_S = 5.0


class OutputMessage(msgspec.Struct, frozen=True, tag="output"):
    """Text that a cell, one of its tasks or one of its threads wrote.

    Attributes:
        execution_id: The executor's id.
        cell: Number of the cell that wrote it.
        stream: Which stream it was written to.
        text: What was written, as it was written.
    """

    kind: ClassVar[str] = "output"
    execution_id: str
    cell: int
    stream: Literal["stdout", "stderr"]
    text: str


class ResultMessage(msgspec.Struct, frozen=True, tag="result"):
    """The value of a cell that has one.

    Attributes:
        execution_id: The executor's id.
        cell: Number of the cell.
        value: The object itself; its ``repr`` is never taken here.
    """

    kind: ClassVar[str] = "result"
    execution_id: str
    cell: int
    value: Any


class ErrorMessage(msgspec.Struct, frozen=True, tag="error"):
    """What a cell raised, or what a task that it left behind raised while nobody awaited it.

    Attributes:
        execution_id: The executor's id.
        cell: Number of the cell.
        error: The exception, with its notes.
        task: Name of the task, ``callback`` and its name for a callback, or None where the cell
            itself raised.
    """

    kind: ClassVar[str] = "error"
    execution_id: str
    cell: int
    error: BaseException
    task: str | None = None


class NoteMessage(msgspec.Struct, frozen=True, tag="note"):
    """Something the user should know about how the cell was run.

    Attributes:
        execution_id: The executor's id.
        cell: Number of the cell.
        topic: What it is about: ``"rewrite"``, ``"routing"``, ``"blocking"`` ...
        text: The note, for people.
        line: The line of the cell it is about, from 1, or None.
    """

    kind: ClassVar[str] = "note"
    execution_id: str
    cell: int
    topic: str
    text: str
    line: int | None = None


type Message = OutputMessage | ResultMessage | ErrorMessage | NoteMessage


class Transport(Protocol):
    """Where the messages of a session go while its cells run."""

    def send(self, message: Message) -> Awaitable[None] | None:
        """Take one message; always called on the event loop's thread, in order.

        An awaitable that is returned is awaited before the next message is sent.
        """
        ...


class Outlet:
    """Hands messages to one transport, which never sees two at a time and cannot harm a cell."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # The creator's context: what a transport prints is the host's output, not the cell's.
        self._context = copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._queue: deque[Message] = deque()
        self._pump: asyncio.Task[None] | None = None
        self.is_open = True

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver on ``loop``, which is the one that is running on this thread."""
        self._loop = loop
        self._thread_id = threading.get_ident()

    def send(self, message: Message) -> bool:
        """Send ``message`` from any thread; False where nobody can take it any more."""
        if not self.is_open or self._loop is None:
            return False
        if threading.get_ident() == self._thread_id:
            self._deliver(message)
            return True
        try:
            self._loop.call_soon_threadsafe(self._deliver, message, context=self._context)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _deliver(self, message: Message) -> None:
        if self._pump is not None:
            self._queue.append(message)
            return
        answer = self._call(message)
        if answer is not None and self._loop is not None:
            self._pump = self._loop.create_task(
                self._pump_queue(answer), context=self._context.copy()
            )

    def _call(self, message: Message) -> Awaitable[None] | None:
        try:
            answer = self._context.copy().run(self._transport.send, message)
        except Exception:
            _logger.exception("the transport refused a %s message", message.kind)
            return None
        return answer if inspect.isawaitable(answer) else None

    async def _pump_queue(self, answer: Awaitable[None] | None) -> None:
        try:
            while True:
                if answer is not None:
                    await self._wait(answer)
                if not self._queue:
                    return
                answer = self._call(self._queue.popleft())
        finally:
            self._pump = None

    async def _wait(self, answer: Awaitable[None]) -> None:
        try:
            await answer
        except Exception:
            _logger.exception("the transport failed to send a message")

    async def drain(self) -> None:
        """Wait until an asynchronous transport has taken everything, within a limit."""
        if self._pump is not None:
            await asyncio.wait({self._pump}, timeout=_DRAIN_LIMIT_S)

    async def close(self) -> None:
        """Send what is left, then take no more."""
        await self.drain()
        self.is_open = False
