"""The state table, and the promise against a model of it."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from promises import AwaitablePromise, NotSettledError
from promises.state import TRANSITIONS, Event, State, next_state

pytestmark = pytest.mark.unit


def test_the_table_names_every_state_and_only_pending_can_be_left():
    assert set(TRANSITIONS) == set(State)
    for state in State:
        for event in Event:
            target = next_state(state, event)
            assert (target is not None) == (state is State.PENDING)
            assert target is not State.PENDING


class PromiseMachine(RuleBasedStateMachine):
    """Settle, await, cancel awaiters and ask, in any order, against one remembered outcome."""

    awaiters = Bundle("awaiters")

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.reports = []
        self.loop.set_exception_handler(lambda _, context: self.reports.append(context))
        self.promise = AwaitablePromise()
        self.outcome = None
        self.received = False
        self.callbacks = []
        self.expected_callbacks = 0

    def run(self, *steps):
        async def main():
            for step in steps:
                step()
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(main())

    def settled(self, won, outcome):
        assert won is (self.outcome is None)
        self.outcome = self.outcome or outcome

    @rule(value=st.integers())
    def resolve(self, value):
        self.settled(self.promise.set_result(value), ("resolved", value))

    @rule(message=st.text(max_size=3))
    def reject(self, message):
        error = ValueError(message)
        self.settled(self.promise.set_exception(error), ("rejected", error))

    @rule(on_loop=st.booleans())
    def cancel(self, on_loop):
        won = []
        if on_loop:
            self.run(lambda: won.append(self.promise.cancel()))
        else:
            won.append(self.promise.cancel())
        self.settled(won[0], ("cancelled", None))

    @rule(target=awaiters)
    def await_it(self):
        made = []
        self.run(lambda: made.append(self.loop.create_task(self.promise.wait())))
        return made[0]

    @rule(task=consumes(awaiters))
    def cancel_awaiter(self, task):
        self.run(task.cancel)
        assert task.done()
        if self.outcome is None:
            assert task.cancelled()
            assert not self.promise.done()

    @rule(task=consumes(awaiters))
    def collect(self, task):
        self.run()
        assert task.done() is (self.outcome is not None)
        if self.outcome is None:
            task.cancel()
            self.run()
            return
        kind, payload = self.outcome
        assert task.cancelled() is (kind == "cancelled")
        if kind == "resolved":
            assert task.result() == payload
        elif kind == "rejected":
            assert task.exception() is payload
            self.received = True

    @rule()
    def add_callback(self):
        self.run(lambda: self.promise.add_done_callback(self.callbacks.append))
        self.expected_callbacks += 1

    @precondition(lambda self: self.outcome is None)
    @rule()
    def ask_too_early(self):
        with pytest.raises(NotSettledError):
            self.promise.result()

    @precondition(lambda self: self.outcome is not None)
    @rule()
    def ask(self):
        kind, payload = self.outcome
        if kind == "resolved":
            assert self.promise.result() == payload
            assert self.promise.exception() is None
        elif kind == "rejected":
            assert self.promise.exception() is payload
            self.received = True
        else:
            with pytest.raises(asyncio.CancelledError):
                self.promise.result()

    @invariant()
    def done_agrees(self):
        assert self.promise.done() is (self.outcome is not None)
        assert self.promise.cancelled() is (self.outcome == ("cancelled", None))

    def teardown(self):
        self.run()
        called = self.expected_callbacks if self.outcome is not None else 0
        assert len(self.callbacks) == called
        tasks = asyncio.all_tasks(self.loop)
        self.run(*(task.cancel for task in tasks))
        assert self.reports == []
        self.promise.exception() if self.outcome and self.outcome[0] == "rejected" else None
        self.callbacks.clear()
        gc.collect(0)
        self.loop.close()


TestPromiseAgainstItsModel = PromiseMachine.TestCase
TestPromiseAgainstItsModel.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None
)
TestPromiseAgainstItsModel.pytestmark = pytest.mark.unit
