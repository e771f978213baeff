"""Promises under threads: many settlers, many loops, cancellations, all at once."""

from __future__ import annotations

import asyncio
import random
import sys
import threading

import pytest

from promises import AwaitablePromise

pytestmark = pytest.mark.unit

LOOPS = 3
PROMISES = 300


@pytest.fixture
def frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def run_all(*targets):
    failures = []

    def guarded(target):
        try:
            target()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


@pytest.mark.parametrize("seed", range(3))
def test_every_awaiter_on_every_loop_sees_the_one_winning_settlement(seed, frequent_switches):
    promises = [AwaitablePromise() for _ in range(PROMISES)]
    wins = [[] for _ in promises]
    seen = [[] for _ in promises]

    def settler(number):
        order = list(range(PROMISES))
        random.Random(f"{seed}-{number}").shuffle(order)

        def run():
            for index in order:
                promise = promises[index]
                kind = (index + number) % 3
                error = LookupError(number, index)
                if kind == 0 and promise.set_result((number, index)):
                    wins[index].append(("result", (number, index)))
                elif kind == 1 and promise.set_exception(error):
                    wins[index].append(("error", error))
                elif kind == 2 and promise.cancel(number):
                    wins[index].append(("cancelled", number))

        return run

    async def observe(index):
        try:
            seen[index].append(("result", await promises[index]))
        except LookupError as error:
            seen[index].append(("error", error))
        except asyncio.CancelledError as error:
            seen[index].append(("cancelled", error.args[0]))

    async def observe_all():
        await asyncio.wait_for(asyncio.gather(*map(observe, range(PROMISES))), 50)

    run_all(*[lambda: asyncio.run(observe_all())] * LOOPS, *map(settler, range(4)))
    for index in range(PROMISES):
        assert len(wins[index]) == 1
        assert seen[index] == wins[index] * LOOPS


def test_awaiters_cancelled_while_others_settle_never_hang_nor_disturb(frequent_switches):
    promises = [AwaitablePromise() for _ in range(PROMISES)]
    got = []

    async def observe_all():
        keen = [asyncio.create_task(promise.wait()) for promise in promises]
        fickle = [asyncio.create_task(promise.wait()) for promise in promises]
        for task in fickle:
            await asyncio.sleep(0)
            task.cancel()
        got.append(await asyncio.wait_for(asyncio.gather(*keen), 50))
        await asyncio.gather(*fickle, return_exceptions=True)

    def settle():
        for number, promise in enumerate(promises):
            promise.set_result(number)

    run_all(*[lambda: asyncio.run(observe_all())] * LOOPS, settle)
    assert got == [list(range(PROMISES))] * LOOPS
    assert not any(promise.waiting_loops() for promise in promises)


def test_callbacks_added_while_it_settles_are_each_called_once(frequent_switches):
    for _ in range(100):
        promise = AwaitablePromise()
        calls = []
        start = threading.Barrier(5)

        def subscribe(number, promise=promise, calls=calls, start=start):
            start.wait(10)
            for step in range(5):
                promise.add_done_callback(lambda _, call=(number, step): calls.append(call))

        def settle(promise=promise, start=start):
            start.wait(10)
            promise.set_result(None)

        run_all(settle, *(lambda n=n, s=subscribe: s(n) for n in range(4)))
        assert sorted(calls) == [(n, step) for n in range(4) for step in range(5)]


def test_a_handle_is_awaited_once_though_several_loops_await_it_first(frequent_switches):
    for _ in range(30):
        calls = []

        class Handle:
            async def result(self, calls=calls):
                calls.append(threading.get_ident())
                await asyncio.sleep(0.001)
                return "once"

        promise = AwaitablePromise.from_handle(Handle())
        start = threading.Barrier(LOOPS)
        stay = threading.Barrier(LOOPS)
        got = []

        async def main(promise=promise, start=start, stay=stay, got=got):
            start.wait(10)
            got.append(await asyncio.wait_for(promise, 10))
            # No loop ends before all are served: its end would hand the handle over.
            await asyncio.to_thread(stay.wait, 10)

        run_all(*[lambda main=main: asyncio.run(main())] * LOOPS)
        assert got == ["once"] * LOOPS
        assert len(calls) == 1
