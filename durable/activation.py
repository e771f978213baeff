"""One run of a durable function or step: where its ids start and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, Protocol

import msgspec
from resonate.context import Context
from resonate.error import ResonateError
from resonate.ids import join_id
from resonate.resonate import Resonate
from resonate.timing import Clock, Sleeper
from resonate.types import PromiseCreateReq, PromiseRecord

from durable.arguments import ArgumentWatch
from durable.calls import CallShape, call_function
from durable.closers import add_note
from durable.engine import Carrier, DurableEffects, StepContext, StepMeta
from durable.errors import ExecutionTimeoutError, ReplayDivergenceError
from durable.events import EventKind
from durable.histories import read_below
from durable.outcomes import record_error
from durable.retries import Attempt, RetryPolicy
from durable.scopes import Scope, bind
from durable.stacks import stood_in, stood_in_cells, stood_in_threads, stood_note
from durable.supervision import is_own_exit
from durable.values import ValueCodec

__all__ = ["Activation", "Container", "Execution", "Host", "StepCall", "perform_step"]

#: Marks the records of attempts below a step; no coroutine or key can be called so.
_ATTEMPT = "!"


class Container(Protocol):
    """The dependencies of one execution."""

    def get(self, name: str) -> Any:
        """Return the dependency ``name``."""
        ...

    async def aget(self, name: str) -> Any:
        """Return the dependency ``name``, whose factory may be async."""
        ...

    async def aclose(self) -> None:
        """Close what was built for this execution."""
        ...


class Host(Protocol):
    """What an execution needs of the app that runs it."""

    clock: Clock
    sleeper: Sleeper
    values: ValueCodec
    grace_s: float
    engine: Resonate

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
        """Tell listeners."""
        ...

    def registered_name(self, fn: str | Callable[..., Any], version: int) -> tuple[str, int]:
        """Return name and version under which ``fn`` is dispatched."""
        ...

    def watch_held(
        self, execution_id: str, interrupt: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Callable[[], None]:
        """Interrupt code that holds the event loop when others settle its execution."""
        ...


class Execution:
    """The state of one execution while this process runs it.

    Attributes:
        id: Execution id.
        attempt: Which attempt of the function runs, from 1.
        timeout_at_ms: Its deadline, wall clock; 0 until that is known.
        closed: True once the function has ended; ``ctx`` refuses from then on.
        namespace: Names of the source, by which its own classes are found.
        diverged: The divergence found, if one was; kept as user code may swallow it.
        store_failure: Why the store stopped answering, if it did.
        is_stopped: Tells whether its code is being stopped from outside it.
        tasks: What its code has started and that has not ended.
        thread_ids: Identifiers of the threads that run its synchronous functions now.
        arguments: Notices steps that change what they are given.
        refusals: How often ``ctx`` has refused an operation, as the code was over or stopped.
    """

    def __init__(self, host: Host, execution_id: str, name: str, effects_inner: Any) -> None:
        self.host = host
        self.id = execution_id
        self.name = name
        self.attempt = 1
        self.timeout_at_ms = 0
        self.closed = False
        self.container: Container
        self.namespace: Mapping[str, Any] | None = None
        self.diverged: ReplayDivergenceError | None = None
        self.store_failure: ResonateError | None = None
        self.is_stopped: Callable[[], bool] = lambda: False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.thread_ids: set[int] = set()
        self.refusals = 0
        self.arguments = ArgumentWatch(execution_id, host.values.digest)
        self.effects = DurableEffects(effects_inner, self)
        self._live_errors: dict[str, BaseException] = {}

    @property
    def values(self) -> ValueCodec:
        """The codec of typed values."""
        return self.host.values

    def encode(self, value: Any, where: str) -> Any:
        """Encode a result or argument; raises UnserializableValueError naming ``where``."""
        return self.values.encode(value, where=where, namespace=self.namespace)

    def decode(self, data: Any) -> Any:
        """Decode a result of a step."""
        return self.values.decode(data, namespace=self.namespace)

    def registered_name(self, fn: str | Callable[..., Any], version: int) -> tuple[str, int]:
        """Return name and version under which ``fn`` is dispatched."""
        return self.host.registered_name(fn, version)

    def step_error(self, record: PromiseRecord) -> BaseException:
        """Return a failed step's exception, with its traceback where it failed just now."""
        error = record_error(record, self.values, self.namespace)
        live = self._live_errors.pop(record.id, None)
        if live is not None and type(live) is type(error):
            return error.with_traceback(live.__traceback__)
        return error

    def note_live_error(self, step_id: str, error: BaseException) -> None:
        """Keep a failed step's traceback for the coroutine that awaits it."""
        self._live_errors[step_id] = error

    def check_going(self) -> None:
        """Raise in code that is being stopped.

        What a ``finally`` block, or an ``except`` around a cancelled call, does then is
        no part of the history: a restart comes by there at another time, or not at all.

        Raises:
            asyncio.CancelledError: The execution is being stopped.
        """
        if self.is_stopped():
            self.refusals += 1
            msg = f"execution {self.id!r} is being stopped: no step can be made or recorded"
            raise asyncio.CancelledError(msg)

    def stands_at(self, main: asyncio.Task[Any]) -> str:
        """Return one line on where its code stands now, or ''.

        Args:
            main: The task that runs its function.
        """
        filename = f"<sostenuto {self.id} "
        return (
            stood_in(main.get_coro())
            or stood_in_cells(filename)
            or stood_in_threads(filename, self.thread_ids)
        )

    def left_s(self) -> float:
        """Return the seconds until the deadline, zero or more."""
        return max(0.0, (self.timeout_at_ms - self.host.clock()) / 1000)

    # -- told by the effects ---------------------------------------------------

    def created(self, record: PromiseRecord, meta: StepMeta | None) -> None:
        """Compare what is recorded under an id with what was asked for."""
        if meta is None or meta.kind == "attempt":
            return
        recorded = record.param.data
        asked = meta.as_param()
        if isinstance(recorded, dict) and "step" in recorded and not _same_step(recorded, asked):
            self.diverged = _divergence(self.id, record.id, recorded, asked)
            raise self.diverged
        if record.state != "pending":
            self.host.emit(EventKind.STEP_REPLAYED, self.id, record.id, meta.step)
        elif meta.kind == "run":
            self.host.emit(EventKind.STEP_STARTED, self.id, record.id, meta.step)

    async def below(self, step_id: str) -> list[PromiseRecord]:
        """Return what is recorded right below a step."""
        return await read_below(self.host.engine, step_id)

    def failed(self, cause: ResonateError) -> None:
        """Remember why the store stopped this execution."""
        if self.store_failure is None:
            self.store_failure = cause


def _same_step(recorded: dict[str, Any], asked: dict[str, Any]) -> bool:
    return bool(
        recorded.get("kind") == asked["kind"]
        and recorded["step"] == asked["step"]
        and recorded.get("args", "") == asked["args"]
    )


def _divergence(
    execution_id: str, step_id: str, recorded: dict[str, Any], asked: dict[str, Any]
) -> ReplayDivergenceError:
    def shown(step: dict[str, Any]) -> str:
        return f"{step.get('kind', '?')} {step['step']}({step.get('args', '')})"

    what, hint = "another step", ""
    if recorded["step"] == asked["step"]:
        what = "other arguments"
        hint = "; let steps return what they change, as a resume does not change arguments again"
    return ReplayDivergenceError(
        f"execution {execution_id!r} asked for {what} than its history has at {step_id!r}: "
        f"recorded {shown(recorded)}, asked {shown(asked)}. Nothing was answered from the store. "
        "Run the code that made the history, or start a fresh execution under another id; where "
        f"timing decides which task makes a call, name the step with ctx.options(key=...){hint}",
        step_id=step_id,
        recorded=recorded,
        asked=asked,
    )


class Activation:
    """One running function: the root function of an execution, or a step.

    Attributes:
        base_id: Durable promise id of the function; the ids of its steps extend it.
        scope: The id space of the task that runs it.
        closed: True once it has ended.
    """

    __slots__ = ("_keys", "base_id", "closed", "context", "execution", "scope")

    def __init__(self, execution: Execution, context: StepContext, base_id: str) -> None:
        self.execution = execution
        self.context = context
        self.base_id = base_id
        self.scope = Scope(self, base_id)
        self.closed = False
        self._keys: set[str] = set()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Note a task that the code has started, to end it with the execution."""
        tasks = self.execution.tasks
        if not task.done():
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def begin_again(self, base_id: str) -> None:
        """Start a fresh id space, for another attempt."""
        self.base_id = base_id
        self.scope = Scope(self, base_id)
        self._keys.clear()

    def claim_key(self, key: str) -> bool:
        """Return whether ``key`` was free here, and take it."""
        if key in self._keys:
            return False
        self._keys.add(key)
        return True


class StepCall(msgspec.Struct, kw_only=True):
    """A call of ``ctx.run``, carried through the SDK to :func:`perform_step`."""

    execution: Any
    function: Any
    shape: CallShape
    args: Any
    kwargs: Any
    digest: str
    name: str
    timeout: timedelta | None
    retry: Any
    context: Any


async def perform_step(sdk_context: Context, call: StepCall) -> Any:
    """Run one step and return its encoded result; the SDK settles it.

    Registered with the SDK by name, so that its signature is inspected once.
    """
    execution: Execution = call.execution
    assert isinstance(sdk_context, StepContext)
    step_id = sdk_context.info.id
    activation = Activation(execution, sdk_context, step_id)
    task = asyncio.current_task()
    assert task is not None
    before = bind(task, activation.scope)
    failed = True
    try:
        value = await _within_deadline(call, sdk_context)
        _check_uncancelled(execution, task)
        execution.arguments.look(call.name, call.args, call.kwargs, call.digest)
        encoded = execution.encode(value, f"step {call.name} of {execution.id}")
        failed = False
    except Exception as error:
        _check_uncancelled(execution, task)
        execution.note_live_error(step_id, error)
        execution.host.emit(
            EventKind.STEP_FAILED, execution.id, step_id, call.name, detail=_brief(error)
        )
        if execution.namespace is None:
            raise
        raise Carrier(error, execution.namespace) from error
    except (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError) as error:
        if not execution.is_stopped():
            execution.host.emit(
                EventKind.STEP_FAILED, execution.id, step_id, call.name, detail=_brief(error)
            )
        if task.cancelling() or not is_own_exit(error):
            raise
        # Raised by the step itself: a failure like any other, and no end of the loop.
        execution.note_live_error(step_id, error)
        raise Carrier(error, execution.namespace) from error
    finally:
        activation.closed = True
        bind(task, before)
        if sdk_context.used:
            await sdk_context.settle_leftovers(grace_s=execution.host.grace_s if failed else None)
    execution.host.emit(EventKind.STEP_FINISHED, execution.id, step_id, call.name)
    return encoded


def _check_uncancelled(execution: Execution, task: asyncio.Task[Any]) -> None:
    """Raise where a step ended because it was cancelled, whatever it made of that."""
    if task.cancelling():
        execution.check_going()


async def _within_deadline(call: StepCall, context: StepContext) -> Any:
    if call.timeout is None:
        return await _attempts(call, context)
    host = call.execution.host
    left_s = max(0.0, (context.info.timeout_at - host.clock()) / 1000)
    try:
        async with asyncio.timeout(left_s) as limit:
            return await _attempts(call, context)
    except TimeoutError as error:
        if not limit.expired():
            raise
        timed_out = ExecutionTimeoutError(
            f"step {call.name} of {call.execution.id!r} was stopped at its limit of "
            f"{call.timeout.total_seconds():g} s"
        )
        note = stood_note(error)
        if note:
            timed_out.add_note(note)
        raise timed_out from None


async def _attempts(call: StepCall, context: StepContext) -> Any:
    args = (call.context, *call.args) if call.shape.wants_context else call.args

    async def once() -> Any:
        return await call_function(
            call.function,
            args,
            call.kwargs,
            is_async=call.shape.is_async,
            thread_ids=call.execution.thread_ids,
        )

    if call.retry is None:
        return await once()
    return await run_attempts(
        call.execution, context, call.name, call.retry, lambda _number: once()
    )


async def run_attempts(
    execution: Execution,
    context: StepContext,
    name: str,
    policy: RetryPolicy,
    once: Callable[[int], Any],
) -> Any:
    """Call ``once(number)`` until it succeeds or the policy gives up.

    Each failed attempt is a durable record of its own (number, error, wait), so a
    restart goes on with the next attempt, after what is left of the wait.
    """
    host = execution.host
    base_id = context.info.id
    number, started_at_ms, due_ms = _recorded_attempts(execution, base_id, host.clock())
    while True:
        left_s = (due_ms - host.clock()) / 1000
        if left_s > 0:
            await host.sleeper(left_s)
        error: BaseException | None = None
        value: Any = None
        try:
            value = await once(number)
        except Exception as raised:  # noqa: BLE001 - the policy decides what to do with it
            error = raised
        task = asyncio.current_task()
        assert task is not None
        _check_uncancelled(execution, task)
        ended = Attempt(number, started_at_ms, error=error, result=value)
        wait_s = await policy.next_wait_s(ended, host.clock())
        if wait_s is None:
            if error is not None:
                if number > 1:
                    add_note(error, f"{name}: attempt {number}, the last; {number - 1} retried")
                raise error
            return value
        due_ms = host.clock() + round(wait_s * 1000)
        await _record_attempt(execution, context, name, ended, due_ms)
        host.emit(
            EventKind.STEP_RETRYING,
            execution.id,
            base_id,
            name,
            due_ms=due_ms,
            detail=_brief(error) if error is not None else "result refused by the retry policy",
        )
        number += 1


def attempt_id(base_id: str, number: int) -> str:
    """Return the durable promise id of the record of one failed attempt."""
    return join_id(base_id, f"{_ATTEMPT}{number}")


def _recorded_attempts(execution: Execution, base_id: str, now_ms: int) -> tuple[int, int, int]:
    number, started_at_ms, due_ms = 1, now_ms, now_ms
    while (record := execution.effects.known(attempt_id(base_id, number))) is not None:
        data = record.param.data
        if isinstance(data, dict):
            started_at_ms = int(data.get("started_at", started_at_ms))
            due_ms = int(data.get("next_at", due_ms))
        number += 1
    return number, started_at_ms, due_ms


async def _record_attempt(
    execution: Execution, context: StepContext, name: str, ended: Attempt, due_ms: int
) -> None:
    info = context.info
    now_ms = execution.host.clock()
    promise_id = attempt_id(info.id, ended.number)
    meta = StepMeta(
        kind="attempt",
        step=name,
        extra={
            "attempt": ended.number,
            "error": _brief(ended.error) if ended.error is not None else "",
            "started_at": ended.started_at_ms,
            "ended_at": now_ms,
            "next_at": due_ms,
            "wait_s": (due_ms - now_ms) / 1000,
        },
    )
    execution.effects.announce(promise_id, meta)
    await execution.effects.create_promise(
        PromiseCreateReq(
            id=promise_id,
            # A timer whose deadline is now is born resolved: one request, and final.
            timeout_at=now_ms,
            tags={
                "resonate:scope": "local",
                # The execution's own branch, also below a step: an engine hands a task
                # the records of its branch, and these must be known before they are asked.
                "resonate:branch": execution.id,
                "resonate:parent": info.id,
                "resonate:origin": info.origin_id,
                "resonate:timer": "true",
            },
        )
    )


def _brief(error: BaseException | None) -> str:
    if error is None:
        return ""
    text = ""
    with contextlib.suppress(Exception):
        text = str(error).strip().split("\n", 1)[0][:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
