"""Being told that a promise is settled, by whoever settles it.

On private names of the SDK, see :mod:`durable.engine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from resonate.error import ApplicationError
from resonate.handle import PromiseResult, Subscription
from resonate.resonate import Resonate

__all__ = ["LocalFailure", "Settlement", "Subscriptions"]


class LocalFailure(PromiseResult, frozen=True, kw_only=True):
    """Wakes whoever waits here for a promise that stays open in the store.

    Attributes:
        error: Why nobody here can wait on.
    """

    error: Any


class Settlement(Subscription):
    """The SDK's subscription with callbacks, so that to follow one takes no task."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[PromiseResult], None]] = []

    def settle(self, result: PromiseResult) -> None:
        """Record the result and tell everybody. The first counts."""
        if self.settled():
            return
        super().settle(result)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(result)

    def follow(self, callback: Callable[[PromiseResult], None]) -> None:
        """Call ``callback`` once it is settled."""
        self._callbacks.append(callback)

    def leave(self, callback: Callable[[PromiseResult], None]) -> None:
        """Forget a callback."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)


class Subscriptions:
    """Asks to be told of settlements, once for each promise however many wait for it.

    The SDK's ``get`` hands the subscription of a lookup that is under way to whoever comes
    second, and drops it where there is no such promise, so that the second waits for ever.
    """

    def __init__(self, engine: Resonate) -> None:
        self._engine = engine
        self._asking: dict[str, asyncio.Task[Subscription]] = {}
        engine._subscribe = self._subscribe  # type: ignore[method-assign]  # noqa: SLF001

    def _subscribe(self, id: str) -> tuple[Subscription, bool]:
        subscriptions = self._engine._runtime.subs  # noqa: SLF001
        known = subscriptions.get(id)
        if known is not None:
            return known, False
        new = subscriptions[id] = Settlement()
        return new, True

    async def of(self, promise_id: str) -> Subscription:
        """Return a subscription whose ``wait()`` returns once the promise is settled, anywhere.

        Raises:
            ResonateError: No such promise (code 404), or the store does not answer.
        """
        asking = self._asking.get(promise_id)
        if asking is None:
            known = self._engine._runtime.subs.get(promise_id)  # noqa: SLF001
            if known is not None:
                return known
            asking = asyncio.create_task(self._ask(promise_id))
            self._asking[promise_id] = asking
            asking.add_done_callback(lambda task: self._answered(promise_id, task))
        return await asyncio.shield(asking)

    def follow(
        self, promise_id: str, callback: Callable[[PromiseResult], None]
    ) -> Callable[[], None]:
        """Call ``callback`` when others settle an execution that is open now.

        Returns:
            What ends it.
        """
        subscription, is_new = self._subscribe(promise_id)
        assert isinstance(subscription, Settlement)
        subscription.follow(callback)
        if is_new:
            register = self._engine._register_and_settle(promise_id, subscription)  # noqa: SLF001
            self._engine._spawn(register)  # noqa: SLF001
        return lambda: subscription.leave(callback)

    def fail(self, promise_id: str, error: BaseException) -> None:
        """Raise ``error`` at whoever waits for the promise here; the store keeps it open."""
        subscription = self._engine._runtime.subs.pop(promise_id, None)  # noqa: SLF001
        if subscription is not None:
            text = self._engine.promises.codec.encode(ApplicationError(str(error)))
            subscription.settle(LocalFailure(state="rejected", value=text, error=error))

    def waited_for(self) -> list[str]:
        """Return the ids that anybody here waits for."""
        return list(self._engine._runtime.subs)  # noqa: SLF001

    async def _ask(self, promise_id: str) -> Subscription:
        handle = await self._engine.get(promise_id)
        return handle._sub  # noqa: SLF001 - result() would decode; the caller does

    def _answered(self, promise_id: str, task: asyncio.Task[Subscription]) -> None:
        del self._asking[promise_id]
        if not task.cancelled():
            task.exception()  # retrieved here: who asked may be gone
