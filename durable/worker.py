"""Runs the executions that the engine hands to this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec
from resonate.context import Context
from resonate.error import PlatformError, ResonateError, ServerError
from resonate.handle import PromiseResult
from resonate.resonate import Resonate
from resonate.timing import Clock, Sleeper
from resonate.types import PromiseRecord, Value

from durable.activation import Activation, Execution, attempt_id, run_attempts
from durable.calls import call_function
from durable.closers import add_note
from durable.context import DurableContext
from durable.dependencies import Dependencies
from durable.engine import Carrier, HandBack, StepContext, settle_tree
from durable.entries import Entry
from durable.errors import AppClosedError, EngineUnavailableError
from durable.events import Event, EventKind, Listener
from durable.failures import notes_of
from durable.notes import excerpt, limit_s, notes_id
from durable.records import SOURCE_FUNCTION
from durable.scopes import bind, own_cells
from durable.sentinel import Sentinel
from durable.stacks import stood_note
from durable.subscriptions import LocalFailure, Subscriptions
from durable.supervision import (
    LONGEST_WAIT_S,
    Abandoned,
    StopReason,
    Supervisor,
    end_within,
    error_of,
)
from durable.values import ValueCodec

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

_STOP_REASONS = {
    "rejected_canceled": StopReason.CANCELLED,
    "rejected_timedout": StopReason.TIMEOUT,
}

#: Seconds between two looks at a promise whose deadline has passed here and not there.
_LOOK_AGAIN_S = 0.02

#: Seconds for which a task is kept that this process cannot go on with, doubled each time
#: up to the longest: enough not to spin, little enough for a process that can.
_DECLINE_FIRST_S = 0.01
_DECLINE_LONGEST_S = 1.0

#: Milliseconds of the shortest deadline that stands for none: half of the hundred years
#: that are recorded for it.
_UNLIMITED_MS = 50 * 365 * 86_400_000


class Worker:
    """Runs executions, waits for promises, and tells listeners.

    Args:
        values: Codec of typed values.
        dependencies: Where executions get their dependencies.
        clock: Wall clock in milliseconds since the epoch.
        sleeper: Sleeps for seconds.
        grace_s: Seconds that stopped code has for its ``finally`` blocks.
    """

    def __init__(
        self,
        *,
        values: ValueCodec,
        dependencies: Dependencies,
        clock: Clock,
        sleeper: Sleeper,
        grace_s: float,
    ) -> None:
        self.values = values
        self.clock = clock
        self.sleeper = sleeper
        self.engine: Resonate
        self.subscriptions: Subscriptions
        self.sentinel: Sentinel | None = None
        self._dependencies = dependencies
        self.grace_s = grace_s
        self._running: dict[str, Supervisor[Any]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closing = False
        self._diverged: dict[str, BaseException] = {}
        self._declined: dict[str, int] = {}
        self.listeners: list[Listener] = []
        self.name_of: Callable[[str | Callable[..., Any], int], tuple[str, int]]

    # -- telling ---------------------------------------------------------------

    def emit(
        self,
        kind: EventKind,
        execution_id: str,
        step_id: str,
        name: str,
        *,
        due_ms: int | None = None,
        detail: str = "",
    ) -> None:
        """Tell every listener; one that raises is logged and does no harm."""
        if not self.listeners:
            return
        event = Event(
            kind=kind,
            execution_id=execution_id,
            step_id=step_id,
            name=name,
            at_ms=self.clock(),
            due_ms=due_ms,
            detail=detail,
        )
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %s", event)

    def registered_name(self, fn: str | Callable[..., Any], version: int) -> tuple[str, int]:
        """Return name and version under which ``fn`` is dispatched."""
        return self.name_of(fn, version)

    def watch_held(
        self, execution_id: str, interrupt: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Callable[[], None]:
        """Interrupt code that holds the event loop when others settle its execution.

        Args:
            execution_id: Which execution.
            interrupt: Stops its code, from the event loop of another thread.

        Returns:
            What ends it.
        """
        supervisor = self._running.get(execution_id)
        if self.sentinel is None or supervisor is None:
            return lambda: None

        def stop(state: str) -> None:
            supervisor.stop_threadsafe(_STOP_REASONS.get(state, StopReason.SUPERSEDED))
            asyncio.run(interrupt())

        return self.sentinel.watch(execution_id, stop)

    # -- running ---------------------------------------------------------------

    async def activate(
        self, entry: Entry, sdk_context: Context, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run one execution and return its encoded result; the SDK settles it.

        Raises:
            Carrier: What the user's code raised.
            PlatformError: The task is to be handed back.
            Abandoned: The execution is over already, or is another process's.
        """
        if self._is_closing:
            raise PlatformError([HandBack("the process is closing")])
        if sdk_context.info.id in self._diverged:
            await self._decline(sdk_context.info.id)
        run = _Run(self, entry, sdk_context)
        self.emit(EventKind.EXECUTION_STARTED, run.id, run.id, entry.name)
        supervisor: Supervisor[Any] = Supervisor(
            lambda: run.body(args, kwargs), self.grace_s, run.execution.stands_at
        )
        run.execution.is_stopped = lambda: supervisor.reason is not None
        self._running[run.id] = supervisor
        self._idle.clear()
        leave = self.subscriptions.follow(run.id, partial(_stop_settled, supervisor))
        try:
            task = await supervisor.run(
                run.execution.left_s, lambda reason: run.note_stop(reason, supervisor)
            )
            return await run.conclude(supervisor, task)
        finally:
            leave()
            await run.close(supervisor.grace_left_s())
            settle_tree(sdk_context)
            del self._running[run.id]
            if not self._running:
                self._idle.set()
            self.emit(EventKind.EXECUTION_FINISHED, run.id, run.id, entry.name)

    def is_running(self, execution_id: str) -> bool:
        """Return whether this process runs the execution now."""
        return execution_id in self._running

    def stop(self, execution_id: str, reason: StopReason) -> None:
        """Stop the execution's code if it runs here."""
        supervisor = self._running.get(execution_id)
        if supervisor is not None:
            supervisor.stop(reason)

    def abandon(self) -> None:
        """Cancel every running execution's code, for an app that is dropped."""
        self.grace_s = 0.0
        for supervisor in self._running.values():
            supervisor.stop(StopReason.SUPERSEDED)

    async def hand_back(self) -> None:
        """Stop everything that runs here; the tasks go back to the store at once."""
        self._is_closing = True  # also what an answer that is under way is about to start
        for supervisor in self._running.values():
            supervisor.stop(StopReason.CLOSING)
        await self._idle.wait()

    # -- failures that settle nothing ------------------------------------------

    def refuse(self, execution_id: str, error: BaseException) -> None:
        """Raise ``error`` at whoever awaits the execution here, now or until it is started anew."""
        self._diverged[execution_id] = error
        self.fail_locally(execution_id, error)

    def accept(self, execution_id: str) -> None:
        """Let an execution run again whose history was found to be another."""
        self._diverged.pop(execution_id, None)
        self._declined.pop(execution_id, None)

    async def _decline(self, execution_id: str) -> None:
        """Hand back a task that came again, after a moment, as an engine may send it at once."""
        times = self._declined[execution_id] = self._declined.get(execution_id, 0) + 1
        await self.sleeper(min(_DECLINE_FIRST_S * 2 ** min(times, 16), _DECLINE_LONGEST_S))
        raise PlatformError([HandBack("another history")])

    def fail_locally(self, execution_id: str, error: BaseException) -> None:
        """Raise ``error`` at whoever awaits the execution here; the store keeps it pending."""
        self.subscriptions.fail(execution_id, error)

    def end_waits(self) -> None:
        """Tell whoever awaits an execution here that the app has closed."""
        for execution_id in self.subscriptions.waited_for():
            msg = f"the app was closed while {execution_id!r} was awaited; it goes on elsewhere"
            self.fail_locally(execution_id, AppClosedError(msg))

    # -- waiting ---------------------------------------------------------------

    async def wait_in_place(self, pending: PromiseRecord, *, timer: bool) -> PromiseRecord:
        """Wait until a promise is settled by its deadline, another process or a person."""
        promise_id, timeout_at_ms = pending.id, pending.timeout_at
        execution_id = promise_id.split(":", 1)[0]
        name = "sleep" if timer else "promise"
        self.emit(
            EventKind.WAITING,
            execution_id,
            promise_id,
            name,
            due_ms=timeout_at_ms if timer else None,
        )
        try:
            if timer:
                return await self._wait_for_deadline(promise_id, timeout_at_ms)
            return await self._settled(pending)
        finally:
            self.emit(EventKind.WOKEN, execution_id, promise_id, name)

    async def _wait_for_deadline(self, promise_id: str, timeout_at_ms: int) -> PromiseRecord:
        while True:
            left_s = (timeout_at_ms - self.clock()) / 1000
            if left_s > 0:
                await self.sleeper(min(left_s, LONGEST_WAIT_S))
                continue
            record = await self.engine.promises.get(promise_id)
            if record.state != "pending":
                return record
            await self.sleeper(_LOOK_AGAIN_S)

    async def _settled(self, pending: PromiseRecord) -> PromiseRecord:
        outcome = await self.outcome_of(pending.id)
        if outcome.state != "resolved":
            return await self.engine.promises.get(pending.id)
        value = Value(data=self.engine.promises.codec.decode(outcome.value))
        return msgspec.structs.replace(pending, state="resolved", value=value)

    async def outcome_of(self, promise_id: str) -> PromiseResult:
        """Wait until a promise is settled, anywhere, and return state and encoded value.

        Raises:
            EngineUnavailableError: The store or engine stopped answering.
            ServerError: There is no such promise (code 404).
            ReplayDivergenceError: This process ran it and found another history.
        """
        subscription = await self.subscriptions.of(promise_id)
        if promise_id in self._diverged and not subscription.settled():
            raise self._diverged[promise_id]
        outcome = await subscription.wait()
        if isinstance(outcome, LocalFailure):
            raise outcome.error
        return outcome


def _stop_settled(supervisor: Supervisor[Any], outcome: PromiseResult) -> None:
    """Stop the code of an execution whose promise somebody else has settled."""
    if not isinstance(outcome, LocalFailure):
        supervisor.stop(_STOP_REASONS.get(outcome.state, StopReason.SUPERSEDED))


class _Run:
    """One activation of a registered function."""

    def __init__(self, worker: Worker, entry: Entry, sdk_context: Context) -> None:
        self.worker = worker
        self.entry = entry
        info = sdk_context.info
        self.id = info.id
        self.started_at_ms = worker.clock()
        self.timeout_at_ms = info.timeout_at
        self.source = ""
        self._is_noted = False
        effects = sdk_context._state.effects  # noqa: SLF001 - wrapped here, see durable.engine
        self.execution = Execution(worker, info.id, entry.name, effects)
        self.execution.timeout_at_ms = info.timeout_at
        self.context = StepContext.adopt(sdk_context, self.execution.effects, worker.wait_in_place)
        self.activation = Activation(self.execution, self.context, info.id)
        self.ctx = DurableContext(self.execution)
        self.execution.container = worker._dependencies.container(self.ctx)  # noqa: SLF001 - one unit

    async def body(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function, with its retries, and encode what it returns."""
        task = asyncio.current_task()
        assert task is not None
        execution = self.execution
        bind(task, self.activation.scope)
        own_cells(self.activation)
        decoded = tuple(execution.decode(value) for value in args)
        named = {key: execution.decode(value) for key, value in kwargs.items()}
        if self.entry.name == SOURCE_FUNCTION:
            self.source = str(named.get("source", ""))

        async def once(number: int) -> Any:
            if number > 1:
                self._begin_attempt(task, number)
            return await call_function(
                self.entry.function,
                (self.ctx, *decoded),
                named,
                is_async=self.entry.shape.is_async,
                thread_ids=execution.thread_ids,
            )

        if self.entry.retry is None:
            value = await once(1)
        else:
            value = await run_attempts(
                execution, self.context, self.entry.name, self.entry.retry, once
            )
        # Steps that were started and not awaited are part of the function, deadline and all.
        await self.context.settle_leftovers(grace_s=None)
        return execution.encode(value, f"{self.entry.name}, execution {self.id}")

    def _begin_attempt(self, task: asyncio.Task[Any], number: int) -> None:
        """Give an attempt an id space of its own: its steps are made anew."""
        self.execution.attempt = number
        self.activation.begin_again(attempt_id(self.id, number))
        bind(task, self.activation.scope)

    async def conclude(self, supervisor: Supervisor[Any], task: asyncio.Task[Any] | None) -> Any:
        """Turn how the body ended into what the SDK is to do with the task."""
        execution = self.execution
        if task is not None and not task.cancelled():
            task.exception()  # retrieved: what stopped code raises is told below, or not at all
        if supervisor.reason is None and self.worker.clock() >= self.timeout_at_ms:
            # It ended too late by itself, or held the loop until it was interrupted.
            supervisor.reason = StopReason.TIMEOUT
        if supervisor.reason is not None and not self._is_noted:
            if task is not None:
                supervisor.stood = stood_note(error_of(task))
            await self.note_stop(supervisor.reason, supervisor)
        if supervisor.reason is StopReason.CLOSING:
            raise PlatformError([HandBack("the process is closing")])
        if supervisor.reason is not None:
            raise Abandoned(supervisor.reason.value)
        if execution.diverged is not None:
            self.worker.refuse(self.id, execution.diverged)
            # Back at once: another process may have the code that made the history.
            raise PlatformError([HandBack("another history")]) from execution.diverged
        assert task is not None
        error = error_of(task)
        if execution.store_failure is not None:
            self._store_failed(execution.store_failure, error)
        if error is None:
            return task.result()
        await self._annotate(error)
        raise Carrier(error, execution.namespace) from error

    def _store_failed(self, cause: ResonateError, error: BaseException | None) -> None:
        if isinstance(cause, ServerError) and cause.code in {404, 409}:
            # The lease is another process's now: its result is the one that counts.
            raise Abandoned("lease lost") from error
        told = EngineUnavailableError(
            f"the store or engine stopped answering while {self.id!r} ran: {cause}. Steps that are "
            "done stay done; start it again under the same id when the cause is mended"
        )
        told.__cause__ = cause
        self.worker.fail_locally(self.id, told)
        raise PlatformError([cause]) from error

    async def _annotate(self, error: BaseException) -> None:
        notes = [f"Execution ID: {self.id}"]
        if self.timeout_at_ms - self.started_at_ms < _UNLIMITED_MS:
            notes.append(f"limit: {await self._limit_s():g} s")
        if self.source:
            notes.append(excerpt(self.source))
        notes.append(stood_note(error))
        present = notes_of(error)
        for note in notes:
            if note and note not in present:
                add_note(error, note)

    async def _limit_s(self) -> float:
        record = await self._own_record()
        created_at_ms = record.created_at if record is not None else self.started_at_ms
        return limit_s(created_at_ms, self.timeout_at_ms)

    async def note_stop(self, reason: StopReason, supervisor: Supervisor[Any]) -> None:
        """Record why and where a timed-out or cancelled execution was stopped."""
        self._is_noted = True
        if reason not in {StopReason.TIMEOUT, StopReason.CANCELLED}:
            return
        notes = [f"Execution ID: {self.id}"]
        if reason is StopReason.TIMEOUT:
            notes.insert(0, f"timed out: the limit of {await self._limit_s():g} s had passed")
        else:
            notes.insert(0, "cancelled while it ran")
        if self.source:
            notes.append(excerpt(self.source))
        if supervisor.stood:
            notes.append(supervisor.stood)
        if self.execution.attempt > 1:
            notes.append(f"attempt {self.execution.attempt}, {self.execution.attempt - 1} retried")
        try:
            await self._keep_notes(notes)
        except ResonateError as error:
            logger.warning("the notes of %s could not be recorded: %s", self.id, error)

    async def _own_record(self) -> PromiseRecord | None:
        try:
            return await self.worker.engine.promises.get(self.id)
        except ResonateError:
            return None

    async def _keep_notes(self, notes: list[str]) -> None:
        promise_id = notes_id(self.id)
        info = self.context.info
        await self.worker.engine.promises.create(
            promise_id,
            # A timer whose deadline is past is born resolved: one request, and final.
            self.worker.clock() - 1,
            Value(data={"kind": "notes", "step": "notes", "args": "", "notes": notes}),
            {
                "resonate:scope": "global",
                "resonate:branch": promise_id,
                "resonate:parent": info.id,
                "resonate:origin": info.origin_id,
                "resonate:timer": "true",
            },
        )

    async def close(self, grace_s: float) -> None:
        """End it here: refuse its context, drop its leftovers, close its dependencies.

        Args:
            grace_s: Seconds that what its code has left running has to clean up.
        """
        self.activation.closed = True
        self.execution.closed = True
        leftovers = self.context.settle_leftovers(grace_s=grace_s)
        if self.execution.is_stopped():
            await asyncio.gather(self._stop_tasks(grace_s), leftovers)
        else:
            await leftovers
        await self.execution.effects.drain(self.worker.grace_s)
        try:
            await self.execution.container.aclose()
        except Exception:
            logger.exception("closing the dependencies of %s failed", self.id)

    async def _stop_tasks(self, grace_s: float) -> None:
        """End the tasks that stopped code has started and left running."""
        tasks = {task for task in self.execution.tasks if not task.done()}
        for task in tasks:
            task.cancel()
        for task in await end_within(grace_s, tasks):
            logger.warning("%s of stopped execution %s does not end", task, self.id)
