"""Re-running recorded code against its recorded steps, where nothing is written or executed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import msgspec
from resonate.context import Context
from resonate.dependencies import DependencyMap
from resonate.error import PlatformError, ServerError
from resonate.handle import Subscription
from resonate.registry import Registry as EngineRegistry
from resonate.timing import now_ms, sleep
from resonate.types import PromiseCreateReq, PromiseRecord

from durable.activation import perform_step
from durable.dependencies import Dependencies
from durable.engine import Carrier, register_step
from durable.entries import Entry
from durable.errors import DurableError, NotRegisteredError, ReplayDivergenceError
from durable.failures import encode_failure
from durable.histories import History, natural_key
from durable.registry import Registry
from durable.scopes import install_task_factory
from durable.supervision import Abandoned
from durable.values import ValueCodec, same_json
from durable.worker import Worker

__all__ = ["Divergence", "ReplayReport", "replay_history"]

#: Kinds of record that stand for a call of the code; attempts and notes do not.
_CALLS = frozenset({"run", "sleep", "promise", "rpc"})

#: Deadline of a replay: a recorded one may be long past.
_FAR_MS = 253_402_300_799_000

#: Seconds that code outside steps may take before a replay gives up on it.
DEFAULT_LIMIT_S = 60.0


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where the code and its history differ.

    Attributes:
        kind: ``renamed``, ``reordered``, ``arguments``, ``added``, ``missing``,
            ``result`` or ``stuck``.
        step_id: Durable promise id.
        recorded: The call, or result, as recorded; None where there is none.
        asked: The same as the code has it now; None where there is none.
    """

    kind: str
    step_id: str
    recorded: str | None = None
    asked: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.kind} at {self.step_id}\n"
            f"  recorded: {self.recorded if self.recorded is not None else '(nothing)'}\n"
            f"  now:      {self.asked if self.asked is not None else '(nothing)'}"
        )


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found.

    Attributes:
        execution_id: Which execution.
        name: Registered name of its function.
        divergence: The first difference, or None.
        steps: How many recorded calls the code made again.
        complete: Whether the history has the execution's end.
    """

    execution_id: str
    name: str
    divergence: Divergence | None
    steps: int
    complete: bool

    @property
    def identical(self) -> bool:
        """Whether the code does what its history says."""
        return self.divergence is None

    def __bool__(self) -> bool:
        return self.identical

    def __str__(self) -> str:
        if self.divergence is not None:
            return f"{self.execution_id} ({self.name}): {self.divergence}"
        end = "" if self.complete else ", to the end of an open history"
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"{self.execution_id} ({self.name}): identical, {steps}{end}"

    def check(self) -> None:
        """Raise where the code and the history differ.

        Raises:
            ReplayDivergenceError: With the recorded and the new call side by side.
        """
        if self.divergence is not None:
            raise ReplayDivergenceError(str(self), step_id=self.divergence.step_id)


class _HistoryEnds(BaseException):
    """The code has come to where its history ends."""


class _RecordedEffects:
    """Answers durable operations from a history and refuses to make new ones."""

    def __init__(self, history: History) -> None:
        self.cache = {promise.id: promise for promise in history.promises}
        # A history that stopped on its own is whole; one cut by a deadline or a
        # person may lack what the code would have asked next.
        self.is_whole = history.execution.state in {"resolved", "rejected"}
        self.asked: dict[str, Any] = {}
        self.divergence: Divergence | None = None
        self.ended = asyncio.Event()

    async def create_promise(self, req: PromiseCreateReq) -> PromiseRecord:
        param = req.param.data if isinstance(req.param.data, dict) else {}
        self.asked[req.id] = param
        record = self.cache.get(req.id)
        if record is None:
            if self.is_whole and param.get("kind", "run") in _CALLS:
                self._diverge("added", req.id, None, param)
            self.ended.set()
            raise _HistoryEnds
        self._compare(record, param)
        if record.state != "pending":
            return record
        if self.is_whole:
            # The code gave up on this call, as with asyncio.wait_for, and will again.
            await asyncio.Event().wait()
        self.ended.set()
        raise _HistoryEnds

    async def settle_promise(self, id: str, result: Any) -> PromiseRecord:  # noqa: ARG002 - the SDK's signature
        raise _HistoryEnds

    def _compare(self, record: PromiseRecord, param: Mapping[str, Any]) -> None:
        recorded = record.param.data if isinstance(record.param.data, dict) else {}
        if "step" not in recorded or "step" not in param:
            return
        if _signature(recorded) == _signature(param):
            return
        if recorded["step"] == param["step"]:
            kind = "arguments"
        elif any(_signature(other) == _signature(param) for other in _params(self.cache.values())):
            kind = "reordered"
        else:
            kind = "renamed"
        self._diverge(kind, record.id, recorded, param)

    def _diverge(
        self,
        kind: str,
        step_id: str,
        recorded: Mapping[str, Any] | None,
        asked: Mapping[str, Any] | None,
    ) -> None:
        if self.divergence is None:
            self.divergence = Divergence(
                kind=kind, step_id=step_id, recorded=_shown(recorded), asked=_shown(asked)
            )
            self.ended.set()

    def find_missing(self) -> None:
        """Note the first recorded call that the code did not make."""
        if self.divergence is not None:
            return
        for promise_id in sorted(self.cache, key=natural_key):
            promise = self.cache[promise_id]
            data = promise.param.data
            if promise_id in self.asked or not isinstance(data, dict):
                continue
            if data.get("kind", "rpc" if "func" in data else "") not in _CALLS:
                continue
            if self._below_a_call(promise):
                continue
            self._diverge("missing", promise_id, data, None)
            return

    def _below_a_call(self, promise: PromiseRecord) -> bool:
        """Whether the call was made inside a step or rpc, whose body does not run again."""
        return promise.tags.get("resonate:parent", "") in self.cache


def _params(promises: Any) -> Iterator[Mapping[str, Any]]:
    for promise in promises:
        if isinstance(promise.param.data, dict):
            yield promise.param.data


def _signature(param: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return param.get("kind"), param.get("step"), param.get("args", "")


def _shown(param: Mapping[str, Any] | None) -> str | None:
    if param is None:
        return None
    if "step" not in param:
        return f"rpc {param.get('func', '?')}"
    digest = param.get("args", "")
    return f"{param.get('kind', '?')} {param['step']}({digest})"


class _RecordedPromises:
    """The engine's promises client, over a history."""

    def __init__(self, history: History) -> None:
        self._known = {promise.id: promise for promise in history.promises}

    async def get(self, id: str) -> PromiseRecord:
        record = self._known.get(id)
        if record is None:
            raise ServerError(404, "not in the history")
        return record

    async def create(self, *_: Any) -> None:
        """Write nothing."""


class _RecordedEngine:
    """What a worker needs of the engine, without one."""

    def __init__(self, history: History) -> None:
        self.promises = _RecordedPromises(history)


class _NobodyElse:
    """Follows nothing: of a history, nobody settles anything any more."""

    def follow(self, promise_id: str, callback: Callable[..., None]) -> Callable[[], None]:  # noqa: ARG002 - the port's signature
        return lambda: None

    def fail(self, promise_id: str, error: BaseException) -> None:
        """Tell nobody."""

    async def of(self, promise_id: str) -> Subscription:  # noqa: ARG002 - the port's signature
        return Subscription()


async def replay_history(
    history: History,
    registry: Registry,
    values: ValueCodec,
    dependencies: Dependencies,
    *,
    limit_s: float = DEFAULT_LIMIT_S,
) -> ReplayReport:
    """Run an execution's code against its history.

    Steps are answered from the history and never executed; nothing is written. Code
    outside steps runs, as in any replay.

    Args:
        history: What was recorded.
        registry: Where its function is found.
        values: Codec of typed values.
        dependencies: Where its dependencies come from.
        limit_s: Seconds that the code may take.

    Raises:
        NotRegisteredError: Its function is not registered.
    """
    param = history.execution.param.data
    if not isinstance(param, dict) or "func" not in param:
        msg = f"{history.id!r} is a plain promise and no execution: it has no code to replay"
        raise NotRegisteredError(msg)
    name, version = str(param["func"]), int(param.get("version", 1))
    entry = registry.find(name, version)
    if entry is None:
        raise NotRegisteredError(registry.unknown(name, version))
    effects = _RecordedEffects(history)
    outcome = await _run(entry, history, param, effects, values, dependencies, limit_s)
    if outcome is not None and effects.divergence is None:
        effects.find_missing()
        if effects.divergence is None and effects.is_whole:
            _compare_outcome(history, outcome, effects, values)
    return ReplayReport(
        execution_id=history.id,
        name=name,
        divergence=effects.divergence,
        steps=len(effects.asked.keys() & effects.cache.keys()),
        complete=effects.is_whole,
    )


async def _run(
    entry: Entry,
    history: History,
    param: Mapping[str, Any],
    effects: _RecordedEffects,
    values: ValueCodec,
    dependencies: Dependencies,
    limit_s: float,
) -> tuple[str, Any] | None:
    """Return how the code ended, as state and payload; None where its history ended first."""
    async with _worker(history, values, dependencies) as worker:
        context = Context.root(
            id=history.id,
            origin_id=history.execution.tags.get("resonate:origin") or history.id,
            timeout_at=_FAR_MS,
            func_name=entry.name,
            effects=effects,
            target_resolver=lambda target: target or "",
            deps=DependencyMap(),
            registry=_steps(),
        )
        task = asyncio.create_task(
            worker.activate(
                entry, context, tuple(param.get("args") or ()), dict(param.get("kwargs") or {})
            )
        )
        ended = asyncio.create_task(effects.ended.wait())
        done, _ = await asyncio.wait(
            {task, ended}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        ended.cancel()
        if task not in done:
            if not effects.ended.is_set():
                effects.divergence = Divergence(
                    kind="stuck",
                    step_id=history.id,
                    asked=f"not at its end after {limit_s:g} s outside steps",
                )
            await worker.hand_back()
            await asyncio.gather(task, return_exceptions=True)
            return None
        return _outcome(task, values)


def _steps() -> EngineRegistry:
    registry = EngineRegistry()
    register_step(registry, perform_step)
    return registry


def _outcome(task: asyncio.Task[Any], values: ValueCodec) -> tuple[str, Any] | None:
    try:
        return "resolved", task.result()
    except Carrier as error:
        if isinstance(error.carried, _HistoryEnds):
            return None
        return "rejected", encode_failure(error.carried, values, namespace=error.namespace)
    except (Abandoned, PlatformError, _HistoryEnds):
        return None


def _compare_outcome(
    history: History, outcome: tuple[str, Any], effects: _RecordedEffects, values: ValueCodec
) -> None:
    state, payload = outcome
    recorded = history.execution
    if state == recorded.state and _same_payload(state, recorded.value.data, payload, values):
        return
    effects.divergence = Divergence(
        kind="result",
        step_id=history.id,
        recorded=_shown_outcome(recorded.state, recorded.value.data),
        asked=_shown_outcome(state, payload),
    )


def _same_payload(state: str, recorded: Any, now: Any, values: ValueCodec) -> bool:
    if state == "resolved":
        return same_json(recorded, now) or _same_value(recorded, now, values)
    if isinstance(recorded, dict) and isinstance(now, dict):
        return all(recorded.get(key) == now.get(key) for key in ("type", "message"))
    return bool(recorded == now)


def _same_value(recorded: Any, now: Any, values: ValueCodec) -> bool:
    """Compare what two encodings stand for: those of code and of pickles may differ."""
    try:
        old, new = (values.digest((values.decode(each),), {}) for each in (recorded, now))
    except DurableError:
        return False
    return old == new


def _shown_outcome(state: str, payload: Any) -> str:
    if state != "resolved" and isinstance(payload, dict):
        return f"{state}: {payload.get('type')}: {payload.get('message')}"
    text = repr(payload)
    return f"{state}: {text[:300]}{'...' if len(text) > 300 else ''}"


@contextlib.asynccontextmanager
async def _worker(
    history: History, values: ValueCodec, dependencies: Dependencies
) -> AsyncIterator[Worker]:
    worker = Worker(
        values=values, dependencies=dependencies, clock=now_ms, sleeper=sleep, grace_s=1.0
    )
    worker.engine = _RecordedEngine(history)  # type: ignore[assignment]
    worker.subscriptions = _NobodyElse()  # type: ignore[assignment]
    worker.name_of = lambda fn, version: (fn if isinstance(fn, str) else fn.__name__, version)
    uninstall = install_task_factory(asyncio.get_running_loop())
    try:
        yield worker
    finally:
        uninstall()
