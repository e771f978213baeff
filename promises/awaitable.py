"""A promise that is awaited on any number of loops and settled from any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, cast

from promises.errors import NoRunningLoopError, NotSettledError
from promises.futures import AnyFuture, FutureBridge, copy_to_asyncio, copy_to_concurrent
from promises.handles import AsyncResult, HandleBridge
from promises.reports import logger, report_lost, running_loop
from promises.state import Event, Rejection, State, as_exception, next_state

__all__ = ["AwaitablePromise"]


class _Bridge(Protocol):
    """What feeds a promise from elsewhere, as the promise sees it."""

    def start(self) -> None:
        """Somebody awaits on the running loop: make progress."""

    def settled(self, *, cancelled: bool) -> None:
        """The promise is settled, by whomever."""


class _Callback(NamedTuple):
    function: Callable[[Any], object]
    loop: asyncio.AbstractEventLoop | None
    context: contextvars.Context

    def call(self, promise: object) -> None:
        if self.loop is not None:
            # A closed loop runs nothing any more; the other callbacks still count.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.function, promise, context=self.context)
            return
        try:
            self.context.run(self.function, promise)
        except Exception:  # noqa: BLE001 - a user's callback; the settler is not to blame
            logger.exception("a done callback of %r raised", promise)


class AwaitablePromise[T]:
    """A value that will be there later: settled once, awaited by anyone, anywhere.

    It needs no event loop to be made. It may be settled from any thread, also from a signal
    handler or a finalizer, and awaited from any number of tasks on any number of loops at once.
    The first settlement wins; every settling method says whether it was the one.

    Awaiting follows :class:`asyncio.Future`. A cancelled promise raises
    :class:`asyncio.CancelledError` in every awaiter, which looks to it as if it had been
    cancelled itself. An exception is raised as the same object everywhere, with the type,
    notes, cause and traceback it was settled with. Cancelling an awaiter leaves the promise
    alone. An exception that nobody receives is reported once, when the promise is collected:
    to the exception handler of the loop running then, else to the ``promises`` logger.

    It can be given to :func:`asyncio.wait_for`, :func:`~asyncio.gather`,
    :func:`~asyncio.shield`, :func:`~asyncio.as_completed`, :func:`~asyncio.wait` and
    :func:`~asyncio.ensure_future` as it is; ``TaskGroup.create_task`` takes ``promise.wait()``.
    """

    __slots__ = (
        "__weakref__",
        "_bridge",
        "_callbacks",
        "_cancel_message",
        "_claimed",
        "_lock",
        "_rejection",
        "_state",
        "_unreceived",
        "_value",
        "_waiters",
    )

    def __init__(self) -> None:
        # Reentrant: a finalizer or a signal handler may settle in the middle of a settlement.
        self._lock = threading.RLock()
        self._state = State.PENDING
        self._claimed = False
        self._value: T | None = None
        self._rejection: Rejection | None = None
        self._unreceived = False
        self._cancel_message: object = None
        self._waiters: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._callbacks: list[_Callback] = []
        self._bridge: _Bridge | None = None

    def __repr__(self) -> str:
        detail = ""
        if self._state is State.RESOLVED:
            detail = f" result={self._value!r}"
        elif self._rejection is not None:
            detail = f" exception={self._rejection.exception!r}"
        return f"<{type(self).__name__} {self._state}{detail} at {id(self):#x}>"

    def __del__(self) -> None:
        if self._unreceived and self._rejection is not None:
            message = f"{type(self).__name__} exception was never retrieved"
            report_lost(message, self._rejection.restored(), self)

    # Adapters -----------------------------------------------------------

    @classmethod
    def from_future(cls, future: AnyFuture[T]) -> Self:
        """Follow a future of asyncio or of concurrent.futures, from any thread.

        Cancellation passes both ways: a cancelled future cancels the promise, and
        :meth:`cancel` cancels the future if it is pending. Cancelling one awaiter does neither.
        Work that already runs in a thread cannot be cancelled: the promise is, the work ends
        by itself.

        Args:
            future: a :class:`concurrent.futures.Future` or an :class:`asyncio.Future` (a task
                too), of any loop.

        Raises:
            UnsupportedSourceError: it is not a future.
            SourceLoopClosedError: it is pending and its loop is closed.
        """
        promise = cls()
        bridge = FutureBridge(promise, future)
        promise._bridge = bridge
        bridge.attach()
        return promise

    @classmethod
    def from_handle(cls, handle: AsyncResult[T]) -> Self:
        """Follow a handle: anything whose ``result()`` is awaited, such as the SDK's.

        ``result()`` is called once and shared: at once if a loop runs in this thread, else on
        the loop of the first awaiter. It is called again only if that loop ends before the
        answer. :meth:`cancel` stops waiting; it does not cancel what the handle stands for.

        Args:
            handle: an object with an async ``result()``; a future is followed as
                :meth:`from_future` does.

        Raises:
            UnsupportedSourceError: it has no ``result`` method.
        """
        if isinstance(handle, concurrent.futures.Future) or asyncio.isfuture(handle):
            return cls.from_future(cast("AnyFuture[T]", handle))
        promise = cls()
        promise._bridge = HandleBridge(promise, handle)
        if running_loop() is not None:
            promise._bridge.start()
        return promise

    def to_future(self, loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Future[T]:
        """Make an :class:`asyncio.Future` that settles with this promise.

        It counts as one awaiter: cancelling it does not cancel the promise. From then on it is
        the future that reports an exception nobody retrieves.

        Args:
            loop: the loop it belongs to; the running one by default.

        Raises:
            NoRunningLoopError: no loop is given and none runs in this thread.
        """
        loop = loop or self._running_loop("to_future() without a loop")
        future: asyncio.Future[T] = loop.create_future()
        copy = partial(copy_to_asyncio, future)
        self._subscribe(_Callback(copy, loop, contextvars.copy_context()))
        future.add_done_callback(lambda _: self.remove_done_callback(copy))
        if self._bridge is not None:
            loop.call_soon_threadsafe(self._bridge.start)
        return future

    def to_concurrent(self) -> concurrent.futures.Future[T]:
        """Make a :class:`concurrent.futures.Future` that settles with this promise.

        This is how a thread waits: ``promise.to_concurrent().result(timeout_s)``. Cancelling it
        does not cancel the promise. It does not start a handle that waits for its first
        awaiter, having no loop to start it on.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        copy = partial(copy_to_concurrent, future)
        self._subscribe(_Callback(copy, None, contextvars.copy_context()))
        future.add_done_callback(lambda _: self.remove_done_callback(copy))
        return future

    # Settling -----------------------------------------------------------

    def set_result(self, value: T) -> bool:
        """Resolve the promise, from any thread.

        Returns:
            Whether this call settled it; ``False`` if it was settled before, which stands.
        """
        return self._settle(Event.RESOLVE, value=value)

    def set_exception(self, exception: BaseException | type[BaseException]) -> bool:
        """Reject the promise, from any thread.

        An :class:`asyncio.CancelledError` cancels it instead, as a task that ends with one is
        cancelled. ``StopIteration`` is replaced by a ``RuntimeError`` it is the cause of.

        Args:
            exception: the exception every awaiter receives, or its class.

        Returns:
            Whether this call settled it; ``False`` if it was settled before, which stands.

        Raises:
            NotAnExceptionError: ``exception`` is not one.
        """
        error = as_exception(exception)
        if isinstance(error, asyncio.CancelledError):
            return self.cancel(error.args[0] if error.args else None)
        return self._settle(Event.REJECT, rejection=Rejection(error))

    def cancel(self, msg: object = None) -> bool:
        """Settle the promise as cancelled, from any thread, for all its awaiters.

        Args:
            msg: passed on to the :class:`asyncio.CancelledError` of each awaiter.

        Returns:
            Whether this call settled it; ``False`` if it was settled before, which stands.
        """
        return self._settle(Event.CANCEL, message=msg)

    def _settle(
        self,
        event: Event,
        *,
        value: T | None = None,
        rejection: Rejection | None = None,
        message: object = None,
    ) -> bool:
        with self._lock:
            state = next_state(self._state, event)
            # Claimed before it is published: a finalizer or signal handler that settles the same
            # promise in between, in this thread, must lose.
            if state is None or self._claimed:
                return False
            self._claimed = True
            self._value = value
            self._rejection = rejection
            self._unreceived = rejection is not None
            self._cancel_message = message
            # Last, because done() and result() read without the lock.
            self._state = state
            waiters, self._waiters = self._waiters, {}
            callbacks, self._callbacks = self._callbacks, []
            bridge, self._bridge = self._bridge, None
        if waiters:
            _wake(waiters)
        for callback in callbacks:
            callback.call(self)
        if bridge is not None:
            bridge.settled(cancelled=state is State.CANCELLED)
        return True

    # Reading ------------------------------------------------------------

    def done(self) -> bool:
        """Tell whether the promise is settled: resolved, rejected or cancelled."""
        return self._state is not State.PENDING

    def cancelled(self) -> bool:
        """Tell whether the promise was cancelled."""
        return self._state is State.CANCELLED

    def result(self) -> T:
        """Return the value, or raise the exception, without waiting.

        Raises:
            NotSettledError: the promise is pending.
            asyncio.CancelledError: it was cancelled.
        """
        if self._state is State.RESOLVED:
            return cast("T", self._value)
        exception = self.exception()
        try:
            raise cast("BaseException", exception)
        finally:
            # The traceback holds this frame: it must not lead back to the promise.
            del self, exception

    def exception(self) -> BaseException | None:
        """Return the exception of a rejected promise, ``None`` for a resolved one.

        Raises:
            NotSettledError: the promise is pending.
            asyncio.CancelledError: it was cancelled.
        """
        if self._state is State.PENDING:
            raise NotSettledError(
                f"{self!r} has no outcome yet: await it, wait for it in a thread with"
                " to_concurrent().result(), or check done() first"
            )
        if self._state is State.CANCELLED:
            message = self._cancel_message
            raise asyncio.CancelledError() if message is None else asyncio.CancelledError(message)
        if self._rejection is None:
            return None
        self._unreceived = False
        return self._rejection.restored()

    def waiting_loops(self) -> set[asyncio.AbstractEventLoop]:
        """Return the event loops on which somebody awaits the promise now."""
        return set(self._waiters.values())

    # Waiting ------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, T]:
        """Wait until the promise is settled; give its value or raise its exception.

        Raises:
            NoRunningLoopError: it is pending and no asyncio loop runs in this thread.
            asyncio.CancelledError: the promise, or the awaiting task, was cancelled.
        """
        try:
            if self._state is State.PENDING:
                yield from self._suspend()
            return self.result()
        finally:
            del self

    async def wait(self) -> T:
        """Await the promise as a coroutine, for APIs that accept nothing else (TaskGroup)."""
        try:
            return await self
        finally:
            del self

    def _suspend(self) -> Generator[Any, None, None]:
        loop = self._running_loop("await")
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._state is not State.PENDING:
                return
            self._waiters[waiter] = loop
            bridge = self._bridge
        try:
            if bridge is not None:
                bridge.start()
            yield from waiter
        finally:
            # Without the lock: this may run in a finalizer, and one dict operation is atomic.
            self._waiters.pop(waiter, None)

    def _running_loop(self, action: str) -> asyncio.AbstractEventLoop:
        loop = running_loop()
        if loop is None:
            raise NoRunningLoopError(
                f"{action} on {self!r} needs a running asyncio event loop in this thread; in a"
                " thread without one use to_concurrent().result()"
            )
        return loop

    # Callbacks ----------------------------------------------------------

    def add_done_callback(
        self,
        function: Callable[[Self], object],
        *,
        context: contextvars.Context | None = None,
    ) -> None:
        """Call ``function(promise)`` once the promise is settled.

        Added while a loop runs in this thread, it is called on that loop, as an asyncio
        future would. Added elsewhere, it is called in the thread that settles the promise, or
        at once if it is settled, as a concurrent future would; what it raises is logged.

        Args:
            function: called with the promise.
            context: the context to call it in; a copy of the current one by default.
        """
        callback = _Callback(function, running_loop(), context or contextvars.copy_context())
        self._subscribe(callback)

    def remove_done_callback(self, function: Callable[[Self], object]) -> int:
        """Forget every registration of ``function``; return how many there were."""
        with self._lock:
            kept = [callback for callback in self._callbacks if callback.function != function]
            removed = len(self._callbacks) - len(kept)
            self._callbacks = kept
        return removed

    def _subscribe(self, callback: _Callback) -> None:
        with self._lock:
            if self._state is State.PENDING:
                self._callbacks.append(callback)
                return
        callback.call(self)


def _wake(waiters: dict[asyncio.Future[None], asyncio.AbstractEventLoop]) -> None:
    here = running_loop()
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter, loop in list(waiters.items()):
        by_loop.setdefault(loop, []).append(waiter)
    for loop, group in by_loop.items():
        if loop is here:
            _release(group)
            continue
        # Nobody is left to wake on a closed loop; the other loops still count.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_release, group)


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
