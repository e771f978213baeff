"""``retry=``: tenacity's strategies, driven so that attempts survive a crash."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import Any

import tenacity
from tenacity import RetryCallState
from tenacity.asyncio import AsyncRetrying

from durable.errors import InvalidArgumentError

__all__ = ["Attempt", "RetryPolicy", "retry_policy"]


class Attempt:
    """One attempt that has ended.

    Attributes:
        number: From 1.
        started_at_ms: Wall clock of the first attempt, milliseconds since the epoch.
    """

    __slots__ = ("error", "number", "result", "started_at_ms")

    def __init__(
        self,
        number: int,
        started_at_ms: int,
        *,
        error: BaseException | None = None,
        result: Any = None,
    ) -> None:
        self.number = number
        self.started_at_ms = started_at_ms
        self.error = error
        self.result = result


class RetryPolicy:
    """Asks tenacity's stop, wait and retry strategies, and keeps no state of its own."""

    def __init__(self, retrying: tenacity.BaseRetrying) -> None:
        self._retrying = retrying

    async def next_wait_s(self, attempt: Attempt, now_ms: int) -> float | None:
        """Return the wait before the next attempt in seconds, or None to give up.

        Args:
            attempt: The one that has just ended.
            now_ms: Wall clock now. The time since the first attempt counts also
                where that was made by a process that has died since.
        """
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = attempt.number
        state.start_time = time.monotonic() - (now_ms - attempt.started_at_ms) / 1000
        if attempt.error is not None:
            error = attempt.error
            state.set_exception((type(error), error, error.__traceback__))
        else:
            state.set_result(attempt.result)
        if not await _ask(self._retrying.retry, state):
            return None
        upcoming = float(await _ask(self._retrying.wait, state))
        state.upcoming_sleep = upcoming
        if await _ask(self._retrying.stop, state):
            return None
        return upcoming


async def _ask(strategy: Any, state: RetryCallState) -> Any:
    answer = strategy(state)
    if inspect.isawaitable(answer):
        return await answer
    return answer


def retry_policy(retry: Any) -> RetryPolicy:
    """Return the policy that ``retry=`` describes.

    Args:
        retry: A ``tenacity.AsyncRetrying`` or ``Retrying``, a mapping with any of
            ``stop``, ``wait`` and ``retry``, or a stop strategy alone.

    Raises:
        InvalidArgumentError: It is none of these.
    """
    if isinstance(retry, RetryPolicy):
        return retry
    if isinstance(retry, tenacity.BaseRetrying):
        return RetryPolicy(retry)
    if isinstance(retry, tenacity.stop.stop_base):
        return RetryPolicy(AsyncRetrying(stop=retry))
    if isinstance(retry, Mapping) and retry.keys() <= {"stop", "wait", "retry"}:
        return RetryPolicy(AsyncRetrying(**retry))
    msg = (
        f"retry={retry!r} is not a retry policy: pass tenacity.AsyncRetrying(stop=..., wait=..., "
        "retry=...), a dict of those three strategies, or a stop strategy"
    )
    raise InvalidArgumentError(msg)
