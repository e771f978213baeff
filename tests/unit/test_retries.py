"""tenacity's strategies decide, with the numbers and times of attempts that may be long past."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from durable.errors import InvalidArgumentError
from durable.retries import Attempt, RetryPolicy, retry_policy

pytestmark = pytest.mark.unit


def failed(number: int, error: Exception | None = None, started_at_ms: int = 0) -> Attempt:
    return Attempt(number, started_at_ms, error=error or ConnectionError("x"))


@pytest.mark.parametrize(
    "given",
    [
        tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3)),
        tenacity.Retrying(stop=tenacity.stop_after_attempt(3)),
        {"stop": tenacity.stop_after_attempt(3)},
        tenacity.stop_after_attempt(3),
    ],
)
async def test_every_form_of_a_policy_stops_where_it_says(given: Any) -> None:
    policy = retry_policy(given)
    assert [await policy.next_wait_s(failed(n), 0) for n in (1, 2, 3, 4)] == [0, 0, None, None]
    assert retry_policy(policy) is policy


@pytest.mark.parametrize("given", [3, "3", {"attempts": 3}, True, object(), [3], lambda: None])
def test_what_is_no_policy_is_refused_by_name(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="retry="):
        retry_policy(given)


async def test_waits_grow_with_the_number_of_the_attempt() -> None:
    policy = retry_policy({"wait": tenacity.wait_exponential(multiplier=1, max=5)})
    assert [await policy.next_wait_s(failed(n), 0) for n in (1, 2, 3, 4)] == [1, 2, 4, 5]


async def test_errors_and_results_are_chosen_by_the_retry_strategy() -> None:
    by_type = retry_policy({"retry": tenacity.retry_if_exception_type(ConnectionError)})
    assert await by_type.next_wait_s(failed(1), 0) == 0
    assert await by_type.next_wait_s(failed(1, ValueError("permanent")), 0) is None
    by_result = retry_policy({"retry": tenacity.retry_if_result(lambda value: value is None)})
    assert await by_result.next_wait_s(Attempt(1, 0, result=None), 0) == 0
    assert await by_result.next_wait_s(Attempt(1, 0, result=5), 0) is None


async def test_time_counts_from_the_first_attempt_of_whichever_process() -> None:
    policy = retry_policy({"stop": tenacity.stop_after_delay(10)})
    assert await policy.next_wait_s(failed(1, started_at_ms=0), 9_000) == 0
    assert await policy.next_wait_s(failed(1, started_at_ms=0), 11_000) is None


async def test_async_strategies_are_awaited() -> None:
    async def decide(error: BaseException) -> bool:
        return isinstance(error, ConnectionError)

    from tenacity.asyncio import retry_if_exception

    policy = retry_policy({"retry": retry_if_exception(decide)})
    assert isinstance(policy, RetryPolicy)
    assert await policy.next_wait_s(failed(1), 0) == 0
    assert await policy.next_wait_s(failed(1, ValueError()), 0) is None
