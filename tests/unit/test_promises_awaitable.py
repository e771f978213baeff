"""What a user of AwaitablePromise relies on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import gc
import logging
import signal
import sys
import threading
import traceback
import weakref

import pytest

from promises import (
    AwaitablePromise,
    NoRunningLoopError,
    NotAnExceptionError,
    NotSettledError,
    PromiseError,
)

pytestmark = pytest.mark.unit


class BoomError(Exception):
    """A user's exception."""


@pytest.fixture
async def handled():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


def test_it_is_made_and_settled_where_no_loop_runs():
    promise = AwaitablePromise()
    assert not promise.done()
    assert promise.set_result(42) is True
    assert promise.done()
    assert promise.result() == 42

    async def main():
        return await promise

    assert asyncio.run(main()) == 42


def test_one_promise_is_awaited_by_one_loop_after_another():
    promise = AwaitablePromise()
    promise.set_result("same")

    async def main():
        return await promise

    assert [asyncio.run(main()) for _ in range(3)] == ["same"] * 3


@pytest.mark.parametrize(
    "first",
    [lambda p: p.set_result(1), lambda p: p.set_exception(BoomError()), lambda p: p.cancel()],
)
@pytest.mark.parametrize(
    "second",
    [lambda p: p.set_result(2), lambda p: p.set_exception(ValueError()), lambda p: p.cancel()],
)
def test_the_first_settlement_wins_and_says_so(first, second):
    promise = AwaitablePromise()
    assert first(promise) is True
    before = repr(promise)
    assert second(promise) is False
    assert repr(promise) == before
    if not promise.cancelled():
        promise.exception()


async def test_none_and_falsy_values_are_results_like_any_other():
    for value in (None, 0, "", False, ()):
        promise = AwaitablePromise()
        promise.set_result(value)
        assert await promise is value


async def test_many_tasks_receive_the_same_object():
    promise = AwaitablePromise()
    tasks = [asyncio.create_task(promise.wait()) for _ in range(100)]
    await asyncio.sleep(0)
    value = object()
    promise.set_result(value)
    assert all(result is value for result in await asyncio.gather(*tasks))


async def test_a_thread_settles_what_a_task_awaits():
    promise = AwaitablePromise()
    thread = threading.Timer(0.02, promise.set_result, ["from a thread"])
    thread.start()
    assert await asyncio.wait_for(promise, 5) == "from a thread"
    thread.join()


def test_a_signal_handler_settles_what_the_main_thread_awaits():
    promise = AwaitablePromise()
    previous = signal.signal(signal.SIGUSR1, lambda *_: promise.set_result("signalled"))
    try:

        async def main():
            asyncio.get_running_loop().call_later(0.02, signal.raise_signal, signal.SIGUSR1)
            return await asyncio.wait_for(promise, 5)

        assert asyncio.run(main()) == "signalled"
    finally:
        signal.signal(signal.SIGUSR1, previous)


async def test_cancelling_one_awaiter_leaves_the_promise_and_the_others_alone():
    promise = AwaitablePromise()
    doomed = asyncio.create_task(promise.wait())
    other = asyncio.create_task(promise.wait())
    await asyncio.sleep(0)
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    assert not promise.done()
    promise.set_result("kept")
    assert await other == "kept"


async def test_an_awaiter_cancelled_in_the_same_tick_as_the_settlement_is_cancelled():
    promise = AwaitablePromise()
    task = asyncio.create_task(promise.wait())
    await asyncio.sleep(0)
    promise.set_result(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await promise == 1


async def test_cancel_raises_cancelled_error_with_its_message_in_every_awaiter():
    promise = AwaitablePromise()
    tasks = [asyncio.create_task(promise.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert promise.cancel("no longer needed") is True
    assert promise.cancelled()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in results] == [asyncio.CancelledError] * 2
    with pytest.raises(asyncio.CancelledError, match="no longer needed"):
        await promise
    with pytest.raises(asyncio.CancelledError, match="no longer needed"):
        promise.result()
    with pytest.raises(asyncio.CancelledError):
        promise.exception()


async def test_a_cancelled_error_given_as_exception_cancels_the_promise():
    promise = AwaitablePromise()
    assert promise.set_exception(asyncio.CancelledError("stop")) is True
    assert promise.cancelled()
    with pytest.raises(asyncio.CancelledError, match="stop"):
        await promise


async def test_an_exception_keeps_identity_type_notes_and_cause_for_every_awaiter():
    promise = AwaitablePromise()
    cause = KeyError("root")
    try:
        raise BoomError("failed") from cause
    except BoomError as raised:
        error = raised
    error.add_note("limit: 30 s")
    promise.set_exception(error)
    for _ in range(3):
        with pytest.raises(BoomError) as caught:
            await promise
        assert caught.value is error
        assert caught.value.__notes__ == ["limit: 30 s"]
        assert caught.value.__cause__ is cause


async def test_awaiters_do_not_add_their_frames_to_each_others_traceback():
    promise = AwaitablePromise()

    def origin():
        raise BoomError

    try:
        origin()
    except BoomError as error:
        promise.set_exception(error)

    depths = []
    for _ in range(5):
        try:
            await promise
        except BoomError as error:
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            depths.append(len(frames))
            assert frames.count("origin") == 1
    assert len(set(depths)) == 1


async def test_what_one_awaiter_was_handling_does_not_become_the_context_of_the_next():
    promise = AwaitablePromise()
    promise.set_exception(BoomError("shared"))
    try:
        raise ValueError("private to the first awaiter")
    except ValueError:
        with pytest.raises(BoomError) as first:
            await promise
    assert isinstance(first.value.__context__, ValueError)
    with pytest.raises(BoomError) as second:
        await promise
    assert second.value.__context__ is None


async def test_a_cause_one_awaiter_adds_is_not_seen_by_the_next():
    promise = AwaitablePromise()
    cause = KeyError("the real one")
    error = BoomError()
    error.__cause__ = cause
    promise.set_exception(error)
    with pytest.raises(BoomError):
        try:
            await promise
        except BoomError as caught:
            raise caught from ValueError("an awaiter's opinion")
    assert promise.exception().__cause__ is cause
    assert promise.exception().__suppress_context__ is True


async def test_an_exception_that_refuses_attributes_is_delivered_like_any_other():
    @dataclasses.dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    promise = AwaitablePromise()
    promise.set_exception(FrozenError(7))
    for _ in range(2):
        with pytest.raises(FrozenError) as caught:
            await promise.wait()
        assert caught.value.code == 7


async def test_an_exception_class_is_instantiated():
    promise = AwaitablePromise()
    promise.set_exception(BoomError)
    with pytest.raises(BoomError):
        await promise


@pytest.mark.parametrize("wrong", ["boom", 3, None, int])
def test_what_is_not_an_exception_is_refused_and_leaves_the_promise_pending(wrong):
    promise = AwaitablePromise()
    with pytest.raises(NotAnExceptionError, match="set_result"):
        promise.set_exception(wrong)
    assert not promise.done()


async def test_stop_iteration_reaches_the_awaiter_as_a_runtime_error_it_caused():
    promise = AwaitablePromise()
    stop = StopIteration(3)
    promise.set_exception(stop)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await promise
    assert caught.value.__cause__ is stop


def test_asking_a_pending_promise_for_its_outcome_is_a_typed_error():
    promise = AwaitablePromise()
    for ask in (promise.result, promise.exception):
        with pytest.raises(NotSettledError, match="await it") as caught:
            ask()
        assert isinstance(caught.value, PromiseError)
        assert isinstance(caught.value, asyncio.InvalidStateError)


def test_awaiting_a_pending_promise_outside_a_loop_says_what_to_do():
    promise = AwaitablePromise()
    with pytest.raises(NoRunningLoopError, match="to_concurrent"):
        promise.wait().send(None)
    assert not promise.waiting_loops()


# asyncio's own tools ----------------------------------------------------


async def test_wait_for_times_out_without_touching_the_promise():
    promise = AwaitablePromise()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(promise, 0.01)
    assert not promise.done()
    assert not promise.waiting_loops()
    promise.set_result(1)
    assert await asyncio.wait_for(promise, 1) == 1


async def test_asyncio_timeout_leaves_the_promise_pending():
    promise = AwaitablePromise()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await promise
    assert not promise.done()


async def test_gather_takes_promises_as_they_are():
    promises = [AwaitablePromise() for _ in range(5)]
    gathered = asyncio.gather(*promises)
    await asyncio.sleep(0)
    for number, promise in reversed(list(enumerate(promises))):
        promise.set_result(number)
    assert await gathered == [0, 1, 2, 3, 4]


async def test_gather_propagates_the_first_exception_and_keeps_the_rest_pending():
    failing, pending = AwaitablePromise(), AwaitablePromise()
    asyncio.get_running_loop().call_soon(failing.set_exception, BoomError("one"))
    with pytest.raises(BoomError, match="one"):
        await asyncio.gather(failing, pending)
    assert not pending.done()
    pending.set_result(None)


async def test_a_task_group_awaits_promises_and_cancels_only_its_tasks():
    failing, pending = AwaitablePromise(), AwaitablePromise()
    asyncio.get_running_loop().call_soon(failing.set_exception, BoomError("group"))
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing.wait())
            group.create_task(pending.wait())
    assert caught.group_contains(BoomError, match="group")
    assert not pending.done()


async def test_as_completed_gives_them_in_order_of_settlement():
    promises = [AwaitablePromise() for _ in range(3)]
    loop = asyncio.get_running_loop()
    for delay, number in ((0.03, 0), (0.01, 1), (0.02, 2)):
        loop.call_later(delay, promises[number].set_result, number)
    assert [await next_one for next_one in asyncio.as_completed(promises)] == [1, 2, 0]


async def test_wait_takes_promises_as_they_are():
    fast, slow = AwaitablePromise(), AwaitablePromise()
    asyncio.get_running_loop().call_soon(fast.set_result, 1)
    done, pending = await asyncio.wait([fast, slow], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert (done, pending) == ({fast}, {slow})
    slow.set_result(2)
    done, pending = await asyncio.wait([fast, slow])
    assert done == {fast, slow}


async def test_shield_and_ensure_future_take_promises_as_they_are():
    promise = AwaitablePromise()
    shielded = asyncio.shield(promise)
    task = asyncio.ensure_future(promise)
    await asyncio.sleep(0)
    shielded.cancel()
    promise.set_result("through")
    assert await task == "through"


async def test_it_works_in_eager_tasks():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    promise = AwaitablePromise()
    task = asyncio.create_task(promise.wait())
    assert promise.waiting_loops() == {loop}
    promise.set_result("eager")
    assert await task == "eager"


# Callbacks --------------------------------------------------------------


async def test_a_callback_added_on_a_loop_is_called_on_that_loop():
    promise = AwaitablePromise()
    seen = asyncio.get_running_loop().create_future()
    promise.add_done_callback(lambda p: seen.set_result((p, threading.current_thread())))
    await asyncio.to_thread(promise.set_result, 1)
    assert await seen == (promise, threading.current_thread())


def test_a_callback_added_outside_a_loop_is_called_by_the_settling_thread():
    promise = AwaitablePromise()
    seen = []
    promise.add_done_callback(lambda p: seen.append((p.result(), threading.current_thread())))
    thread = threading.Thread(target=promise.set_result, args=("x",))
    thread.start()
    thread.join()
    assert seen == [("x", thread)]
    promise.add_done_callback(lambda p: seen.append("late"))
    assert seen[-1] == "late"


def test_callbacks_are_called_in_order_and_one_that_raises_stops_no_other(caplog):
    promise = AwaitablePromise()
    seen = []
    promise.add_done_callback(lambda _: seen.append(1))
    promise.add_done_callback(lambda _: 1 / 0)
    promise.add_done_callback(lambda _: seen.append(2))
    promise.set_result(None)
    assert seen == [1, 2]
    assert "ZeroDivisionError" in caplog.text


def test_a_removed_callback_is_not_called():
    promise = AwaitablePromise()
    seen = []
    promise.add_done_callback(seen.append)
    promise.add_done_callback(seen.append)
    assert promise.remove_done_callback(seen.append) == 2
    promise.set_result(None)
    assert seen == []


# Exceptions nobody receives ---------------------------------------------


async def test_an_exception_never_received_is_reported_once_to_the_loop(handled, caplog):
    promise = AwaitablePromise()
    error = BoomError("lost")
    promise.set_exception(error)
    del promise
    gc.collect()
    assert [report["exception"] for report in handled] == [error]
    assert "never retrieved" in handled[0]["message"]
    assert caplog.records == []


def test_without_a_loop_it_is_reported_once_to_the_log(caplog):
    promise = AwaitablePromise()
    promise.set_exception(BoomError("lost"))
    with caplog.at_level(logging.ERROR, logger="promises"):
        del promise
        gc.collect()
    assert [record.name for record in caplog.records] == ["promises"]
    assert "BoomError: lost" in caplog.text


async def test_an_exception_one_awaiter_received_is_not_reported(handled):
    promise = AwaitablePromise()
    tasks = [asyncio.create_task(promise.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    promise.set_exception(BoomError())
    await asyncio.gather(*tasks, return_exceptions=True)
    del promise, tasks
    gc.collect()
    assert handled == []


async def test_an_exception_whose_only_awaiter_was_cancelled_is_reported(handled):
    promise = AwaitablePromise()
    task = asyncio.create_task(promise.wait())
    await asyncio.sleep(0)
    promise.set_exception(BoomError("nobody saw it"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del promise, task
    await asyncio.sleep(0)  # the loop lets go of the task it woke this test with
    gc.collect()
    assert [str(report["exception"]) for report in handled] == ["nobody saw it"]


@pytest.mark.parametrize("settle", [lambda p: p.cancel(), lambda p: p.set_result(1)])
async def test_cancelled_and_resolved_promises_are_collected_in_silence(settle, handled):
    promise = AwaitablePromise()
    settle(promise)
    del promise
    gc.collect()
    assert handled == []


@pytest.mark.parametrize("awaiting", [lambda promise: promise, AwaitablePromise.wait])
async def test_a_rejected_promise_is_freed_without_the_cycle_collector(awaiting):
    gc.disable()
    try:
        promise = AwaitablePromise()
        reference = weakref.ref(promise)
        promise.set_exception(BoomError())
        with pytest.raises(BoomError) as caught:
            await awaiting(promise)
        del promise
        assert reference() is None, gc.get_referrers(reference())
        assert isinstance(caught.value, BoomError)
    finally:
        gc.enable()


# Several loops, several threads -----------------------------------------


def run_in_thread(main):
    outcome: concurrent.futures.Future = concurrent.futures.Future()

    def target():
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=target)
    thread.start()
    return thread, outcome


def test_tasks_on_several_loops_await_one_promise_at_once():
    promise = AwaitablePromise()
    ready = threading.Barrier(5)

    async def main():
        tasks = [asyncio.create_task(promise.wait()) for _ in range(10)]
        await asyncio.sleep(0)
        ready.wait(10)
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    threads = [run_in_thread(main) for _ in range(4)]
    ready.wait(10)
    assert len(promise.waiting_loops()) == 4
    promise.set_result("all")
    for thread, outcome in threads:
        assert outcome.result(10) == ["all"] * 10
        thread.join()


def test_a_loop_closed_with_a_pending_awaiter_does_not_break_the_others():
    promise = AwaitablePromise()
    abandoned = asyncio.new_event_loop()
    awaiting = promise.wait()

    async def start():
        iterator = awaiting.__await__()
        iterator.send(None)
        return iterator

    iterator = abandoned.run_until_complete(start())
    promise_called = []

    async def subscribe():
        promise.add_done_callback(promise_called.append)

    abandoned.run_until_complete(subscribe())
    abandoned.close()

    async def main():
        task = asyncio.create_task(promise.wait())
        await asyncio.sleep(0)
        assert promise.set_result("still delivered") is True
        return await asyncio.wait_for(task, 5)

    assert asyncio.run(main()) == "still delivered"
    assert promise_called == []
    iterator.close()


def test_of_many_threads_that_settle_at_once_exactly_one_wins():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            promise = AwaitablePromise()
            start = threading.Barrier(4)
            wins = []

            def settle(number, promise=promise, start=start, wins=wins):
                start.wait(10)
                if promise.set_result(number):
                    wins.append(number)

            threads = [threading.Thread(target=settle, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wins == [promise.result()]
    finally:
        sys.setswitchinterval(interval)


def test_no_wakeup_is_lost_when_awaits_race_settlements():
    rounds = 2000
    promises = [AwaitablePromise() for _ in range(rounds)]
    settler = threading.Thread(
        target=lambda: [promise.set_result(n) for n, promise in enumerate(promises)]
    )
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    async def main():
        settler.start()
        return [await promise for promise in promises]

    try:
        assert asyncio.run(asyncio.wait_for(main(), 60)) == list(range(rounds))
    finally:
        sys.setswitchinterval(interval)
        settler.join()
