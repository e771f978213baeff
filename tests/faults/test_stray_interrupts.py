"""Interrupts at random moments end cells, and never touch the host beside them."""

import asyncio
import contextlib
import itertools
import random
import threading
import time

import pytest

from executor import AsyncExecutor, ExecutionInterruptedError

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]

INTERRUPTS = 1000
CELL_SHARE = 0.25  # of interrupts that come while a cell is being started or is ending

# Cells of every kind: short and long, on the loop and in a thread, inline, calling back and forth.
CELLS = [
    "x = 1",
    "sum(range(200))",
    "while True: pass",
    "n = 0\nwhile True:\n    n += 1",
    "import time\ntime.sleep(0.002)",
    "import time\nwhile True: time.sleep(0.0005)",
    "await asyncio.sleep(0)",
    "await asyncio.sleep(5)",
    "while True: await asyncio.sleep(0)",
    "await asyncio.sleep(0)\nwhile True: pass",
    "try:\n    while True: pass\nfinally:\n    done = 1",
    "while True: print('x')",
    "while True: note(1)",
    "await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(5)))",
    (
        "async def f():\n    while True: await asyncio.sleep(0)\n"
        "async with asyncio.TaskGroup() as g:\n    g.create_task(f())\n    g.create_task(f())"
    ),
    "[str(i) for i in range(3000)]",
    "import json\nwhile True: json.loads(json.dumps({'a': [1, 2, 3]}))",
    "def f(n):\n    return f(n - 1) if n else 0\nwhile True: f(50)",
    "import contextlib\nwith contextlib.suppress(ValueError):\n    while True: int('1')",
    "async def g():\n    while True: yield 1\nasync for _ in g(): pass",
    "task = asyncio.create_task(asyncio.sleep(0.01))\nawait task",
]


class Ledger:
    """Host state with an invariant that any exception between two lines would break."""

    def __init__(self):
        self.debit = self.credit = 0
        self.lock = threading.Lock()

    def book(self):
        with self.lock:
            self.debit += 1
            for _ in itertools.repeat(None, 20):
                pass
            self.credit += 1

    @property
    def is_balanced(self):
        return self.debit == self.credit and not self.lock.locked()


class LedgerTransport:
    """A transport that books every message, in whichever thread it is called."""

    def __init__(self):
        self.ledger = Ledger()

    def send(self, message):
        self.ledger.book()


async def keep_books(ledger, failures):
    """A host task: its own code, its own awaits, its own queue, none of them to be disturbed."""
    queue = asyncio.Queue(maxsize=1)
    try:
        for number in itertools.count():
            ledger.book()
            await queue.put(number)
            await asyncio.sleep(0)
            assert await queue.get() == number
            ledger.book()
            assert ledger.is_balanced
    except asyncio.CancelledError:
        if not ledger.stopping:
            failures.append("a host task was cancelled")
        raise
    except BaseException as error:
        failures.append(repr(error))
        raise


async def interrupt_at_random(rng, executor, source):
    """Run one cell and interrupt it until it has ended; how it ended, and how many it took."""
    ended = threading.Event()
    delay_s = 0 if rng.random() < CELL_SHARE else rng.random() * 0.02
    own_delay_s = None if rng.random() < 0.6 else rng.random() * 0.02
    sent = 0

    def interrupt():
        # From outside, as the loop may be frozen; again, as the first may come too early.
        nonlocal sent
        time.sleep(delay_s)
        while not ended.is_set():
            sent += 1
            asyncio.run(executor.interrupt())
            ended.wait(0.02)

    thread = threading.Thread(target=interrupt)
    thread.start()
    cell = asyncio.ensure_future(executor.execute(source, timeout=20))
    if own_delay_s is not None:
        await asyncio.sleep(own_delay_s)
        sent += 1
        await executor.interrupt()
    try:
        await cell
        outcome = "value"
    except ExecutionInterruptedError:
        outcome = "interrupted"
    ended.set()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    return outcome, sent


@pytest.mark.parametrize("seed", [1])
async def test_a_thousand_random_interrupts_disturb_nothing_of_the_host(seed):
    rng = random.Random(seed)
    failures = []
    ledgers = [Ledger() for _ in range(3)]
    for ledger in ledgers:
        ledger.stopping = False
    tasks = [asyncio.create_task(keep_books(ledger, failures)) for ledger in ledgers]
    stop = threading.Event()
    threads = [threading.Thread(target=book_in_thread, args=(stop, failures)) for _ in range(2)]
    for thread in threads:
        thread.start()
    transport = LedgerTransport()
    executor = AsyncExecutor(transport=transport)
    handled = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: handled.append(context))
    called = Ledger()
    executor.namespace.namespace["note"] = lambda _: called.book()
    tally = {"value": 0, "interrupted": 0}
    sent = 0
    while sent < INTERRUPTS:
        outcome, count = await interrupt_at_random(rng, executor, rng.choice(CELLS))
        tally[outcome] += 1
        sent += count
        assert all(ledger.is_balanced for ledger in ledgers)
    assert await executor.execute("40 + 2") == 42
    await executor.aclose()
    for ledger in ledgers:
        ledger.stopping = True
    for task in tasks:
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert handled == []
    assert all(ledger.is_balanced for ledger in [*ledgers, transport.ledger])
    assert tally["interrupted"] > 50, tally
    assert tally["value"] > 50, tally


def book_in_thread(stop, failures):
    """A host thread that runs the same library code as the cells do."""
    import json

    ledger = Ledger()
    try:
        while not stop.is_set():
            ledger.book()
            assert json.loads(json.dumps({"a": [1, 2, 3]})) == {"a": [1, 2, 3]}
            assert ledger.is_balanced
            time.sleep(0.001)
    except BaseException as error:
        failures.append(repr(error))
        raise
