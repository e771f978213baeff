"""Cost of awaiting a promise beside asyncio.Future, as ratios taken in one run.

Prints one JSON object. Times are the best of several rounds, in nanoseconds per operation;
``ratio`` is promise over future. Run: ``python tests/bench/promises_bench.py [--json]``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import platform
import threading
import time

from promises import AwaitablePromise

ROUNDS = 7
OPERATIONS = 20_000


def future():
    return asyncio.get_running_loop().create_future()


async def settled(make):
    """Make, settle, then await: no suspension."""
    for _ in range(OPERATIONS):
        waited = make()
        waited.set_result(None)
        await waited


async def woken(make):
    """Await while pending; a callback on the same loop settles it."""
    loop = asyncio.get_running_loop()
    for _ in range(OPERATIONS):
        waited = make()
        loop.call_soon(waited.set_result, None)
        await waited


async def fan_out(make):
    """A hundred tasks await one pending value."""

    async def wait(waited):
        return await waited

    for _ in range(OPERATIONS // 100):
        waited = make()
        tasks = [asyncio.create_task(wait(waited)) for _ in range(100)]
        await asyncio.sleep(0)
        waited.set_result(None)
        await asyncio.gather(*tasks)


def from_thread(wrap):
    """A second thread settles what this loop awaits; ``wrap`` makes it awaitable."""

    async def run():
        requests: list[concurrent.futures.Future | AwaitablePromise] = []
        ready = threading.Semaphore(0)
        count = OPERATIONS // 10

        def settle():
            for _ in range(count):
                ready.acquire()
                requests.pop().set_result(None)

        thread = threading.Thread(target=settle)
        thread.start()
        for _ in range(count):
            source, awaitable = wrap()
            requests.append(source)
            ready.release()
            await awaitable
        thread.join()

    return run


def wrapped_future():
    source = concurrent.futures.Future()
    return source, asyncio.wrap_future(source)


def bare_promise():
    source = AwaitablePromise()
    return source, source


def best_ns(coroutine_function, operations):
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        asyncio.run(coroutine_function())
        best = min(best, time.perf_counter_ns() - start)
    return best / operations


def compare(ours, theirs, operations=OPERATIONS):
    promise_ns, future_ns = best_ns(ours, operations), best_ns(theirs, operations)
    return {
        "promise_ns": round(promise_ns),
        "future_ns": round(future_ns),
        "ratio": round(promise_ns / future_ns, 2),
    }


def main():
    cases = {
        case.__name__: compare(
            lambda case=case: case(AwaitablePromise), lambda case=case: case(future)
        )
        for case in (settled, woken, fan_out)
    }
    cases["from_thread"] = compare(
        from_thread(bare_promise), from_thread(wrapped_future), OPERATIONS // 10
    )
    report = {
        "python": platform.python_version(),
        "baseline": "asyncio.Future; from_thread: asyncio.wrap_future(concurrent.futures.Future)",
        "cases": cases,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
