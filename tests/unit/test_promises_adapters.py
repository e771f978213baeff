"""What a user of the adapters between promises, futures and handles relies on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading

import pytest

from promises import (
    AwaitablePromise,
    NoRunningLoopError,
    SourceLoopClosedError,
    UnsupportedSourceError,
)

pytestmark = pytest.mark.unit


class BoomError(Exception):
    """A user's exception."""


class Handle:
    """A handle as the SDK's: an async result() over an event of its loop."""

    def __init__(self, value=None, error=None):
        self.value = value
        self.error = error
        self.calls = 0
        self.loops = []
        self.open = asyncio.Event()

    async def result(self):
        self.calls += 1
        self.loops.append(asyncio.get_running_loop())
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture
async def handled():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


# From concurrent futures ------------------------------------------------


async def test_a_concurrent_future_gives_its_result_from_its_thread():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        gate = threading.Event()
        promise = AwaitablePromise.from_future(pool.submit(lambda: gate.wait(10) and "worked"))
        assert not promise.done()
        gate.set()
        assert await asyncio.wait_for(promise, 5) == "worked"


async def test_a_concurrent_future_gives_its_exception_as_it_is():
    error = BoomError("in the pool")
    error.add_note("a note")
    future = concurrent.futures.Future()
    promise = AwaitablePromise.from_future(future)
    future.set_exception(error)
    with pytest.raises(BoomError) as caught:
        await promise
    assert caught.value is error
    assert caught.value.__notes__ == ["a note"]


def test_a_settled_concurrent_future_settles_the_promise_at_once_without_a_loop():
    future = concurrent.futures.Future()
    future.set_result(3)
    assert AwaitablePromise.from_future(future).result() == 3


def test_cancellation_passes_both_ways_with_a_concurrent_future():
    future = concurrent.futures.Future()
    promise = AwaitablePromise.from_future(future)
    promise.cancel()
    assert future.cancelled()
    future = concurrent.futures.Future()
    promise = AwaitablePromise.from_future(future)
    future.cancel()
    assert promise.cancelled()


async def test_cancelling_one_awaiter_does_not_cancel_the_source():
    future = concurrent.futures.Future()
    promise = AwaitablePromise.from_future(future)
    task = asyncio.create_task(promise.wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not future.cancelled()
    future.set_result(1)
    assert await promise == 1


def test_a_running_job_is_not_cancelled_but_the_promise_is():
    future = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    promise = AwaitablePromise.from_future(future)
    promise.cancel()
    assert promise.cancelled()
    future.set_result("ends by itself")


# From asyncio futures ---------------------------------------------------


async def test_an_asyncio_task_gives_its_result():
    async def work():
        await asyncio.sleep(0)
        return 5

    assert await AwaitablePromise.from_future(asyncio.create_task(work())) == 5


async def test_an_asyncio_future_gives_its_exception_and_is_not_reported_itself(handled):
    future = asyncio.get_running_loop().create_future()
    promise = AwaitablePromise.from_future(future)
    future.set_exception(BoomError("source"))
    with pytest.raises(BoomError, match="source"):
        await promise
    del promise, future
    await asyncio.sleep(0)
    gc.collect()
    assert handled == []


async def test_an_exception_nobody_received_through_the_promise_is_reported_once(handled):
    future = asyncio.get_running_loop().create_future()
    promise = AwaitablePromise.from_future(future)
    future.set_exception(BoomError("lost"))
    await asyncio.sleep(0)
    assert promise.done()
    del promise, future
    await asyncio.sleep(0)
    gc.collect()
    assert [str(report["exception"]) for report in handled] == ["lost"]


async def test_cancelling_the_promise_cancels_the_task_it_follows():
    task = asyncio.create_task(asyncio.sleep(60))
    promise = AwaitablePromise.from_future(task)
    assert promise.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancelled_task_cancels_the_promise_with_its_message():
    task = asyncio.create_task(asyncio.sleep(60))
    promise = AwaitablePromise.from_future(task)
    await asyncio.sleep(0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await promise


async def test_a_promise_settled_by_hand_leaves_its_source_alone():
    future = asyncio.get_running_loop().create_future()
    promise = AwaitablePromise.from_future(future)
    assert promise.set_result("by hand")
    future.set_result("source")
    await asyncio.sleep(0)
    assert await promise == "by hand"


async def test_an_exception_after_settlement_by_hand_is_reported_by_its_source(handled):
    future = asyncio.get_running_loop().create_future()
    promise = AwaitablePromise.from_future(future)
    promise.set_result("by hand")
    future.set_exception(BoomError("late"))
    await asyncio.sleep(0)
    del future, promise
    await asyncio.sleep(0)
    gc.collect()
    assert [str(report["exception"]) for report in handled] == ["late"]


def test_an_asyncio_future_of_another_loop_is_followed_and_cancelled_from_any_thread():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        first, second = loop.create_future(), loop.create_future()
        loop.call_soon_threadsafe(loop.call_later, 0.02, first.set_result, "over there")

        async def main():
            return await asyncio.wait_for(AwaitablePromise.from_future(first), 5)

        assert asyncio.run(main()) == "over there"
        cancelled = threading.Event()
        loop.call_soon_threadsafe(second.add_done_callback, lambda _: cancelled.set())
        AwaitablePromise.from_future(second).cancel()
        assert cancelled.wait(5)
        assert second.cancelled()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_pending_future_of_a_closed_loop_is_refused_and_a_settled_one_is_not():
    loop = asyncio.new_event_loop()
    pending, settled = loop.create_future(), loop.create_future()
    settled.set_result(1)
    loop.close()
    with pytest.raises(SourceLoopClosedError, match="never settle"):
        AwaitablePromise.from_future(pending)
    assert AwaitablePromise.from_future(settled).result() == 1


@pytest.mark.parametrize("wrong", [None, 3, "future", object(), AwaitablePromise()])
def test_from_future_refuses_what_is_not_a_future(wrong):
    with pytest.raises(UnsupportedSourceError, match="from_handle"):
        AwaitablePromise.from_future(wrong)


# To futures -------------------------------------------------------------


async def test_to_future_settles_with_the_promise():
    for settle, expected in (
        (lambda p: p.set_result(1), 1),
        (lambda p: p.set_exception(BoomError("x")), BoomError),
        (lambda p: p.cancel(), asyncio.CancelledError),
    ):
        promise = AwaitablePromise()
        early = promise.to_future()
        await asyncio.to_thread(settle, promise)
        late = promise.to_future()
        for outcome in await asyncio.gather(early, late, return_exceptions=True):
            assert outcome == expected or type(outcome) is expected


async def test_cancelling_the_future_does_not_cancel_the_promise():
    promise = AwaitablePromise()
    promise.to_future().cancel()
    promise.to_concurrent().cancel()
    await asyncio.sleep(0)
    assert not promise.done()
    assert promise.set_result(1)
    assert promise._callbacks == []


def test_to_concurrent_lets_a_thread_wait():
    promise = AwaitablePromise()
    future = promise.to_concurrent()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    threading.Timer(0.02, promise.set_result, ["here"]).start()
    assert future.result(5) == "here"
    assert promise.to_concurrent().result(0) == "here"


def test_to_concurrent_carries_exceptions_and_cancellation():
    promise = AwaitablePromise()
    promise.set_exception(BoomError("x"))
    with pytest.raises(BoomError, match="x"):
        promise.to_concurrent().result(1)
    promise = AwaitablePromise()
    future = promise.to_concurrent()
    promise.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(1)


async def test_an_exception_given_to_a_future_is_reported_by_that_future_alone(handled):
    promise = AwaitablePromise()
    future = promise.to_future()
    promise.set_exception(BoomError("once"))
    await asyncio.sleep(0)
    del promise, future
    await asyncio.sleep(0)
    gc.collect()
    assert [str(report["exception"]) for report in handled] == ["once"]


def test_to_future_without_a_loop_is_a_typed_error():
    with pytest.raises(NoRunningLoopError, match="to_future"):
        AwaitablePromise().to_future()


def test_to_future_of_another_loop_settles_there():
    loop = asyncio.new_event_loop()
    promise = AwaitablePromise()
    future = promise.to_future(loop)
    threading.Timer(0.02, promise.set_result, [9]).start()
    assert loop.run_until_complete(asyncio.wait_for(future, 5)) == 9
    loop.close()


# From handles -----------------------------------------------------------


async def test_a_handle_is_awaited_once_for_all_awaiters():
    handle = Handle(value=42)
    promise = AwaitablePromise.from_handle(handle)
    tasks = [asyncio.create_task(promise.wait()) for _ in range(10)]
    await asyncio.sleep(0)
    handle.open.set()
    assert await asyncio.gather(*tasks) == [42] * 10
    assert handle.calls == 1


def test_without_a_loop_a_handle_is_awaited_at_the_first_await():
    handle = Handle(value="lazy")
    handle.open.set()
    promise = AwaitablePromise.from_handle(handle)
    assert handle.calls == 0

    async def main():
        return await promise

    assert asyncio.run(main()) == "lazy"
    assert asyncio.run(main()) == "lazy"
    assert handle.calls == 1


async def test_a_handles_exception_reaches_every_awaiter_and_is_not_reported_twice(handled):
    error = BoomError("rejected")
    handle = Handle(error=error)
    handle.open.set()
    promise = AwaitablePromise.from_handle(handle)
    outcomes = await asyncio.gather(promise, promise.wait(), return_exceptions=True)
    assert [outcome is error for outcome in outcomes] == [True, True]
    del promise, outcomes
    await asyncio.sleep(0)
    gc.collect()
    assert handled == []


async def test_cancelling_an_awaiter_does_not_stop_the_handle():
    handle = Handle(value=1)
    promise = AwaitablePromise.from_handle(handle)
    task = asyncio.create_task(promise.wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    handle.open.set()
    assert await promise == 1
    assert handle.calls == 1


@pytest.mark.parametrize("settle", [lambda p: p.cancel(), lambda p: p.set_result("by hand")])
async def test_settling_the_promise_stops_waiting_for_the_handle(settle):
    handle = Handle()
    promise = AwaitablePromise.from_handle(handle)
    await asyncio.sleep(0)
    settle(promise)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_handle_that_is_cancelled_itself_cancels_the_promise():
    class Cancelled:
        async def result(self):
            raise asyncio.CancelledError("by the engine")

    with pytest.raises(asyncio.CancelledError, match="by the engine"):
        await AwaitablePromise.from_handle(Cancelled())


def test_when_the_loop_that_waits_for_a_handle_ends_another_loop_takes_over():
    release = threading.Event()
    first_started, second_waits = threading.Event(), threading.Event()
    calls = []

    class Slow:
        async def result(self):
            calls.append(asyncio.get_running_loop())
            first_started.set()
            while not release.is_set():
                await asyncio.sleep(0.001)
            return "answered"

    promise = AwaitablePromise.from_handle(Slow())

    async def short_lived():
        task = asyncio.create_task(promise.wait())
        await asyncio.to_thread(second_waits.wait, 10)
        assert not task.done()

    async def patient():
        task = asyncio.create_task(promise.wait())
        await asyncio.sleep(0)
        second_waits.set()
        return await asyncio.wait_for(task, 10)

    first = threading.Thread(target=asyncio.run, args=(short_lived(),))
    first.start()
    assert first_started.wait(10)
    results = []
    second = threading.Thread(target=lambda: results.append(asyncio.run(patient())))
    second.start()
    first.join(10)
    release.set()
    second.join(10)
    assert results == ["answered"]
    assert len(calls) == 2
    assert calls[0] is not calls[1]


def test_a_handle_outlives_a_loop_that_was_closed_under_it():
    handle_calls = []

    class Slow:
        async def result(self):
            handle_calls.append(1)
            await asyncio.sleep(0.01)
            return "second time"

    promise = AwaitablePromise.from_handle(Slow())

    async def give_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(promise, 0.001)

    asyncio.run(give_up())

    async def wait():
        return await asyncio.wait_for(promise, 5)

    assert asyncio.run(wait()) == "second time"
    assert len(handle_calls) == 2


async def test_a_future_given_as_handle_is_followed_as_a_future():
    future = asyncio.get_running_loop().create_future()
    promise = AwaitablePromise.from_handle(future)
    future.set_result(8)
    assert await promise == 8


async def test_what_has_no_async_result_is_refused():
    with pytest.raises(UnsupportedSourceError, match="async result"):
        AwaitablePromise.from_handle(object())

    class Sync:
        def result(self):
            return 3

    with pytest.raises(UnsupportedSourceError, match="cannot be awaited"):
        await AwaitablePromise.from_handle(Sync())


async def test_to_future_starts_a_handle():
    handle = Handle(value=4)
    handle.open.set()
    assert await AwaitablePromise.from_handle(handle).to_future() == 4


async def test_a_handle_is_awaited_under_an_eager_task_factory():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    handle = Handle(value="eager")
    handle.open.set()
    promise = AwaitablePromise.from_handle(handle)
    assert promise.done()
    assert await promise == "eager"
