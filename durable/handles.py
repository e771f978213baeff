"""Handles: an execution or promise that someone, somewhere, settles."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any, Protocol

from durable.errors import AppClosedError, ExecutionTimeoutError, InvalidArgumentError

__all__ = ["Handle", "HandleHost"]


class HandleHost(Protocol):
    """What a handle needs of its app."""

    async def result_of(self, promise_id: str) -> Any:
        """Return the value of a settled promise or raise its error."""
        ...

    async def is_settled(self, promise_id: str) -> bool:
        """Return whether the promise is settled."""
        ...

    async def settle_cancelled(self, promise_id: str, reason: str) -> bool:
        """Cancel; returns whether this call settled it."""
        ...


class Handle[T]:
    """An execution by its id. Await it for the result, any number of times.

    Attributes:
        id: The execution id.
    """

    def __init__(
        self, host: HandleHost, promise_id: str, launching: asyncio.Future[None] | None = None
    ) -> None:
        self.id = promise_id
        self._host = host
        self._launching = launching

    def __repr__(self) -> str:
        return f"<handle of {self.id!r}>"

    def __await__(self) -> Generator[Any, Any, T]:
        return self.result().__await__()

    async def result(self, timeout: timedelta | float | None = None) -> T:  # noqa: ASYNC109 - waits, and leaves the execution alone
        """Return the result, or raise what the execution raised.

        Args:
            timeout: How long to wait, a timedelta or seconds. The execution goes on.

        Raises:
            TimeoutError: Not settled within ``timeout``.
            ExecutionTimeoutError: Its durable timeout has passed.
            ExecutionCancelledError: It was cancelled.
            ExecutionMismatchError: The id belongs to another function, arguments or source.
            UnknownExecutionError: There is no such execution.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if seconds is not None and not (isinstance(seconds, (int, float)) and seconds >= 0):
            msg = f"timeout={timeout!r} must be a timedelta or seconds, zero or more"
            raise InvalidArgumentError(msg)
        if seconds is None:
            await self.started()
            result: T = await self._host.result_of(self.id)
            return result
        try:
            async with asyncio.timeout(seconds) as limit:
                await self.started()
                value: T = await self._host.result_of(self.id)
                return value
        except TimeoutError as error:
            if limit.expired() and not isinstance(error, ExecutionTimeoutError):
                msg = (
                    f"{self.id!r} was not settled within {seconds:g} s; it goes on, await it again"
                )
                raise TimeoutError(msg) from None
            raise

    async def started(self) -> None:
        """Wait until the execution is recorded in the store."""
        if self._launching is None:
            return
        if self._launching.done() and not self._launching.cancelled():
            self._launching.result()
            return
        try:
            await asyncio.shield(self._launching)
        except asyncio.CancelledError:
            if self._launching.cancelled():
                msg = f"the app was closed before {self.id!r} was started: start it again"
                raise AppClosedError(msg) from None
            raise

    async def done(self) -> bool:
        """Return whether the execution is settled."""
        await self.started()
        return await self._host.is_settled(self.id)

    async def cancel(self, reason: str = "") -> bool:
        """Cancel the execution, wherever it runs.

        Its promise is settled at once; where its code runs, it is stopped and its
        ``finally`` blocks run. Steps that are done stay done.

        Args:
            reason: A line for whoever reads the record.

        Returns:
            True if this call cancelled it, False if it was settled already.
        """
        await self.started()
        return await self._host.settle_cancelled(self.id, reason)
