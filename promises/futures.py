"""Adapters between promises and the futures of asyncio and concurrent.futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from promises.errors import SourceLoopClosedError, UnsupportedSourceError
from promises.reports import report_lost, running_loop

__all__ = [
    "AnyFuture",
    "FutureBridge",
    "Settleable",
    "Settled",
    "copy_to_asyncio",
    "copy_to_concurrent",
    "run_on",
]

type AnyFuture[T] = asyncio.Future[T] | concurrent.futures.Future[T]


class Settleable[T](Protocol):
    """The side of a promise that a source of results needs."""

    def done(self) -> bool:
        """Tell whether it is settled."""

    def set_result(self, value: T) -> bool:
        """Resolve it; tell whether this call settled it."""

    def set_exception(self, exception: BaseException | type[BaseException]) -> bool:
        """Reject it; tell whether this call settled it."""

    def cancel(self, msg: object = None) -> bool:
        """Cancel it; tell whether this call settled it."""


class Settled[T](Protocol):
    """The side of a settled promise that a receiver of its outcome needs."""

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""

    def exception(self) -> BaseException | None:
        """Return the exception it was rejected with."""

    def result(self) -> T:
        """Return its value."""


def run_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Run ``call`` on ``loop``: now if that loop runs in this thread, else soon, in its own.

    Returns:
        Whether the call was made or scheduled; ``False`` when the loop is closed.
    """
    if running_loop() is loop:
        call()
        return True
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True


def _transfer[T](promise: Settleable[T], source: AnyFuture[T]) -> None:
    # A promise settled by other means leaves the exception with its source: an asyncio future
    # then reports it itself.
    if promise.done():
        return
    if source.cancelled():
        promise.cancel(_cancel_message(source))
        return
    exception = source.exception()
    if exception is None:
        promise.set_result(source.result())
    elif not promise.set_exception(exception):
        report_lost("a future's exception came after its promise was settled", exception, source)


def _cancel_message(source: AnyFuture[Any]) -> object:
    try:
        source.result()
    except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
        return error.args[0] if error.args else None
    return None


class FutureBridge[T]:
    """Feeds a promise from a future, and passes the promise's cancellation back to it.

    Args:
        promise: the promise to settle.
        future: the future to follow.

    Raises:
        UnsupportedSourceError: ``future`` is not a future.
    """

    def __init__(self, promise: Settleable[T], future: AnyFuture[T]) -> None:
        if not (isinstance(future, concurrent.futures.Future) or asyncio.isfuture(future)):
            raise UnsupportedSourceError(
                "from_future takes a concurrent.futures.Future or an asyncio.Future, not"
                f" {type(future).__name__}: {future!r}; for an object with an async result(),"
                " use from_handle"
            )
        self._promise = promise
        self._future = future

    def attach(self) -> None:
        """Follow the future from now on, from whichever thread this is called.

        Raises:
            SourceLoopClosedError: the future is pending on a closed event loop.
        """
        future = self._future
        follow = partial(_transfer, self._promise)
        if isinstance(future, concurrent.futures.Future):
            future.add_done_callback(follow)
        elif future.done():
            follow(future)
        elif not run_on(future.get_loop(), partial(future.add_done_callback, follow)):
            raise SourceLoopClosedError(
                f"{future!r} is pending and its event loop is closed, so it can never settle;"
                " settle it before closing the loop"
            )

    def start(self) -> None:
        """Do nothing: a future makes its own progress."""

    def settled(self, *, cancelled: bool) -> None:
        """Cancel the future with the promise; leave it alone on any other settlement."""
        if not cancelled or self._future.done():
            return
        if isinstance(self._future, concurrent.futures.Future):
            self._future.cancel()
        else:
            run_on(self._future.get_loop(), self._future.cancel)


def copy_to_asyncio[T](future: asyncio.Future[T], promise: Settled[T]) -> None:
    """Copy a settled promise's outcome to ``future``; call it on the future's own loop."""
    if future.done():
        return
    if promise.cancelled():
        future.cancel()
        return
    exception = promise.exception()
    if exception is None:
        future.set_result(promise.result())
    else:
        future.set_exception(exception)


def copy_to_concurrent[T](future: concurrent.futures.Future[T], promise: Settled[T]) -> None:
    """Copy a settled promise's outcome to ``future``, from any thread."""
    if promise.cancelled():
        future.cancel()
    # The one atomic step: after it nobody can cancel the future, so setting it cannot fail.
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        if not future.set_running_or_notify_cancel():
            return
        exception = promise.exception()
        if exception is None:
            future.set_result(promise.result())
        else:
            future.set_exception(exception)
