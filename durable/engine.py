"""What runs inside an execution, on the SDK's private seams.

``resonate-sdk`` orchestrates: it creates, acquires, heartbeats, fulfils and releases
tasks, mints requests, and pushes messages to handles. Four of its decisions do not fit
what Sostenuto promises, and each is replaced here and nowhere else:

- step ids in call order (:meth:`StepContext._next_id`), see :mod:`durable.scopes`;
- unwinding the whole function to wait for a promise (:meth:`StepContext._await_remote`):
  here the coroutine waits in place, so output and ``finally`` blocks do not repeat;
- one day as the deadline of whatever names none (:meth:`StepContext._child_timeout`);
- pickled errors that anyone could have written (:class:`DurableCodec`).

This module, :mod:`durable.creation` and :mod:`durable.subscriptions` are the only ones that
touch private names of the SDK. It is pinned to ``<0.9`` and a test pins the names used.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import msgspec
from resonate.codec import Codec, Encryptor, NoopEncryptor
from resonate.context import Context, Opts, ResonateFuture
from resonate.durable import DurableFunction
from resonate.effects import Effects, ResonateEffects
from resonate.error import (
    DecodingError,
    FunctionNotFoundError,
    PlatformError,
    ResonateError,
)
from resonate.registry import Registry
from resonate.resonate import Resonate
from resonate.types import Args, PromiseCreateReq, PromiseRecord, Value

from durable.failures import encode_failure
from durable.supervision import end_within
from durable.values import ValueCodec

__all__ = [
    "STEP",
    "Carrier",
    "DurableCodec",
    "DurableEffects",
    "HandBack",
    "PromiseWaiter",
    "StepContext",
    "StepMeta",
    "adopt_codec",
    "register_step",
    "settle_tree",
    "stop_accepting_work",
]

logger = logging.getLogger(__name__)

#: Key of the SDK's own, unsigned error pickles: dropped before anything could load one.
_FOREIGN_PICKLE = "__py_pickle"


#: Name under which the SDK knows the function that runs every step.
STEP = "sostenuto.step"


class HandBack(ResonateError):  # noqa: N818 - a reason, not a failure
    """Why an activation ends without settling: its task goes back to the store."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Carrier(Exception):  # noqa: N818 - carries any exception across the SDK, is not one of its own
    """Takes a BaseException through the SDK, which settles only ``Exception``.

    Attributes:
        carried: What the user's code raised.
        notes_namespace: Names by which classes defined in the source are found.
    """

    def __init__(self, carried: BaseException, namespace: Mapping[str, Any] | None = None) -> None:
        super().__init__(str(type(carried)))
        self.carried = carried
        self.namespace = namespace


class DurableCodec(Codec):
    """The SDK's codec with errors as readable text and without foreign pickles."""

    def __init__(self, values: ValueCodec, encryptor: Encryptor | None = None) -> None:
        super().__init__(encryptor if encryptor is not None else NoopEncryptor())
        self.values = values

    def encode(self, value: Any) -> Value:
        """Encode for the wire; an exception becomes its readable failure."""
        if isinstance(value, Carrier):
            value = encode_failure(value.carried, self.values, namespace=value.namespace)
        elif isinstance(value, Exception):
            value = encode_failure(value, self.values)
        return super().encode(value)

    def decode(self, value: Value) -> Any:
        """Decode from the wire, leaving out pickles that the SDK would load unasked."""
        try:
            data = super().decode(value)
        except ResonateError:
            raise
        except Exception as error:
            # Of the encryptor, which may raise what it likes where the key is another one.
            raise DecodingError(f"{type(error).__name__}: {error}") from error
        if isinstance(data, dict):
            data.pop(_FOREIGN_PICKLE, None)
        return data


def adopt_codec(engine: Resonate, codec: DurableCodec) -> None:
    """Make ``codec`` the engine's only codec; call before the engine starts."""
    engine._codec = codec  # noqa: SLF001 - the SDK builds its codec itself
    engine._core.codec = codec  # noqa: SLF001
    engine.promises.codec = codec
    engine.schedules.codec = codec


def stop_accepting_work(engine: Resonate) -> None:
    """Refuse new execute messages while what runs is being handed back."""
    engine._runtime.stopping = True  # noqa: SLF001 - set by stop() only after the network is gone


async def cancel_background(engine: Resonate) -> None:
    """Cancel what the engine runs in the background, for an app that is dropped."""
    tasks = list(engine._runtime.bg_tasks)  # noqa: SLF001
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Unordered:
    """In place of the SDK's creation chain, which orders creates by call.

    Ids here do not depend on call order, so creates need none; and a link of the
    chain that is cancelled leaves every later create waiting for ever.
    """

    class Link:
        __slots__ = ("done",)

        def __init__(self) -> None:
            self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def run[T](self, work: Callable[[], Awaitable[T]]) -> T:
            try:
                result = await work()
            except BaseException as error:
                if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit)):
                    self.done.cancel()
                else:
                    self.done.set_exception(error)
                    self.done.exception()
                raise
            self.done.set_result(None)
            return result

    def link(self) -> Link:
        return self.Link()


class PromiseWaiter(Protocol):
    """Waits in this process until a durable promise is settled."""

    async def __call__(self, pending: PromiseRecord, *, timer: bool) -> PromiseRecord:
        """Return the settled, decoded record."""
        ...


class StepContext(Context):
    """The SDK's context with ids minted by scopes and waits that stay in place.

    Attributes:
        minted: The id of the one durable operation this copy is made for.
        waiter: Waits for promises that others settle.
    """

    minted: str
    waiter: PromiseWaiter

    @classmethod
    def adopt(cls, context: Context, effects: Effects | None, waiter: PromiseWaiter) -> StepContext:
        """Take over a context that the SDK made for an activation."""
        state = context._state  # noqa: SLF001 - shared by design of the SDK's own options()
        state.chain = _Unordered()  # type: ignore[assignment]
        if effects is not None:
            state.effects = effects
        adopted = cls(state, context.opts)
        adopted.waiter = waiter
        return adopted

    @property
    def used(self) -> bool:
        """Whether a durable operation was called on this context."""
        return self._state.workflow

    @property
    def effects(self) -> Effects:
        """The two durable operations of this activation."""
        return self._state.effects

    def minting(self, promise_id: str, opts: Opts) -> StepContext:
        """Return a copy whose next durable operation has this id and these options."""
        new = copy.copy(self)
        new.minted = promise_id
        new.opts = opts
        return new

    def _next_id(self) -> str:
        return self.minted

    def _child(self, id: str, func_name: str, timeout_at: int) -> Context:
        return StepContext.adopt(super()._child(id, func_name, timeout_at), None, self.waiter)

    def _child_timeout(self, requested: timedelta | None) -> int:
        if requested is None:
            return self._state.timeout_at
        return super()._child_timeout(requested)

    async def _await_remote(self, req: PromiseCreateReq, link: Any, df: Any = None) -> Any:  # noqa: ARG002 - the SDK's signature; values are decoded above
        record = await link.run(lambda: self._state.effects.create_promise(req))
        if record.state == "pending":
            timer = req.tags.get("resonate:timer") == "true"
            record = await self.waiter(record, timer=timer)
        self._state.tree.settle(req.id)
        return record

    def timer(self, duration: timedelta) -> ResonateFuture[Any]:
        """Create a durable timer without the task that a target would add to it.

        The SDK gives its timers a target so that a server schedules their deadline;
        here the waiting process keeps the time itself, also after a restart.
        """
        self._state.workflow = True
        link = self._state.chain.link()
        req = self._global_req(self._next_id(), duration, timer=True)
        return self._remote_future(req, link)

    async def settle_leftovers(self, *, grace_s: float | None) -> None:
        """End what the function started and did not await.

        Waits for promises are dropped: nobody is left to see them. Steps are
        awaited, or cancelled where the function failed.

        Args:
            grace_s: Seconds that cancelled steps have to clean up; None to await them.
        """
        state = self._state
        remotes, state.spawned_remote_tasks = state.spawned_remote_tasks, []
        locals_, state.spawned_locals = state.spawned_locals, []
        for task in remotes:
            task.cancel()
        steps = [spawned.handle for spawned in locals_]
        state.spawned_remote.clear()
        if grace_s is None:
            await asyncio.gather(*remotes, *steps, return_exceptions=True)
            return
        for task in steps:
            # One that is being cancelled already would take another for the end of its cleanup.
            if not task.cancelling():
                task.cancel()
        await end_within(grace_s, {*remotes, *steps})


def settle_tree(context: Context) -> None:
    """Tell the SDK's assertion-only call tree that nothing is outstanding.

    A cancelled step leaves its node pending, which the SDK takes for a bug of its own.
    """
    tree = context.tree
    root = tree.root()
    for node_id in tree.ids():
        if node_id != root:
            tree.settle(node_id)


class StepMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a durable operation records of itself beside its id.

    Attributes:
        kind: ``run``, ``sleep``, ``promise``, ``rpc`` or ``attempt``.
        step: Name of the function, or of the kind.
        args: Digest of the arguments, hexadecimal; empty where there are none.
        extra: More that is recorded and not compared, as JSON.
    """

    kind: str
    step: str
    args: str = ""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)

    def as_param(self) -> dict[str, Any]:
        """Return the promise's param, as JSON builtins."""
        return {"kind": self.kind, "step": self.step, "args": self.args, **self.extra}


class EffectsObserver(Protocol):
    """Told of each durable operation as it happens."""

    def created(self, record: PromiseRecord, meta: StepMeta | None) -> None:
        """Check a created or found promise; raises ReplayDivergenceError on a mismatch."""
        ...

    def failed(self, cause: ResonateError) -> None:
        """Note that the store refused or did not answer."""
        ...

    async def below(self, step_id: str) -> list[PromiseRecord]:
        """Return what is recorded right below a step, decoded."""
        ...


class DurableEffects:
    """The SDK's two durable operations, with each step's name and digest recorded.

    Args:
        inner: The SDK's own effects, fenced by the task's lease.
        observer: Compares recorded and asked steps, and follows progress.
    """

    def __init__(self, inner: Effects, observer: EffectsObserver) -> None:
        self._inner = inner
        self._observer = observer
        self._announced: dict[str, StepMeta] = {}
        self._loads = isinstance(inner, ResonateEffects)
        # Steps that a former process had begun, of whose own steps nothing is loaded yet.
        self._resumed: dict[str, asyncio.Task[None] | None] = {}
        self._settling: set[asyncio.Task[PromiseRecord]] = set()

    def announce(self, promise_id: str, meta: StepMeta) -> None:
        """Say what the next create of this id is for."""
        self._announced[promise_id] = meta

    def known(self, promise_id: str) -> PromiseRecord | None:
        """Return the record if this activation has loaded or made it."""
        cache: dict[str, PromiseRecord] = getattr(self._inner, "cache", {})
        return cache.get(promise_id)

    async def create_promise(self, req: PromiseCreateReq) -> PromiseRecord:
        """Create the promise or find it, and compare what was recorded with it."""
        meta = self._announced.pop(req.id, None)
        if meta is not None and req.param.data is None:
            req = msgspec.structs.replace(req, param=Value(data=meta.as_param()))
        if self._resumed:
            parent_id = req.tags.get("resonate:parent", "")
            if parent_id in self._resumed:
                await self._load_below(parent_id)
        known = self.known(req.id)
        if known is not None and known.state == "pending" and self._loads:
            self._resumed.setdefault(req.id)
        try:
            record = await self._inner.create_promise(req)
        except PlatformError as error:
            self._observer.failed(error.cause)
            raise
        self._observer.created(record, meta)
        return record

    async def _load_below(self, step_id: str) -> None:
        """Load a resumed step's own steps at once, which a task is not given with its branch.

        Only where such a step asks for the first of them: most have none.
        """
        loading = self._resumed[step_id]
        if loading is None:
            # Not through the loop's factory, which would count it among the user's tasks.
            loading = asyncio.Task(self._load(step_id), loop=asyncio.get_running_loop())
            self._resumed[step_id] = loading
        await asyncio.shield(loading)
        self._resumed.pop(step_id, None)

    async def _load(self, step_id: str) -> None:
        try:
            records = await self._observer.below(step_id)
        except ResonateError as error:
            logger.debug("what is below %s is asked for one by one: %s", step_id, error)
            return
        for record in records:
            self._inner._insert_monotonic(record)  # type: ignore[attr-defined]  # noqa: SLF001 - as its preload

    async def settle_promise[T](self, id: str, result: T | Exception) -> PromiseRecord:
        """Settle a step. Cancelling the waiter does not lose a finished step."""
        # Begun at once: a store that answers at once needs no turn of the event loop.
        settling = asyncio.Task(
            self._inner.settle_promise(id, result),
            loop=asyncio.get_running_loop(),
            eager_start=True,
        )
        try:
            if settling.done():
                return settling.result()
            self._settling.add(settling)
            settling.add_done_callback(self._settled)
            return await asyncio.shield(settling)
        except PlatformError as error:
            self._observer.failed(error.cause)
            raise

    def _settled(self, settling: asyncio.Task[PromiseRecord]) -> None:
        self._settling.discard(settling)
        if not settling.cancelled():
            settling.exception()  # retrieved here: its waiter may be gone

    async def drain(self, grace_s: float) -> None:
        """Wait for settlements whose waiters were cancelled; drop those that take too long.

        Args:
            grace_s: Seconds that the store has; zero for an app that is dropped.
        """
        if self._settling and grace_s > 0:
            await asyncio.wait(self._settling, timeout=grace_s)
        for settling in self._settling:
            settling.cancel()


class _StepFunction(DurableFunction):
    """The SDK's wrapper of a function whose one argument needs no binding and no coercion."""

    def pack_args(self, *args: Any, **kwargs: Any) -> Args:
        return Args(args=args, kwargs=kwargs)

    async def invoke(self, ctx: Context, packed: Args, *, coerce_args: bool = True) -> Any:  # noqa: ARG002 - the SDK's signature
        return await self._fn(ctx, *packed.args)


def register_step(registry: Registry, function: Callable[..., Awaitable[Any]]) -> None:
    """Register the function that runs every step, under :data:`STEP`."""
    registry.register(STEP, function)
    registry._by_key[STEP, 1] = _StepFunction(function)  # noqa: SLF001


class _ExpectedEnds(logging.Filter):
    """Drops the SDK's error logs about tasks that are handed back on purpose.

    A function that is not registered here may be another worker's: that is one line for
    each function, and not a traceback for each time its task is offered.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unknown: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, PlatformError):
            return not any(isinstance(cause, HandBack) for cause in error.causes)
        if isinstance(error, FunctionNotFoundError):
            return self._is_news(record, error)
        return not isinstance(error, HandBack)

    def _is_news(self, record: logging.LogRecord, error: FunctionNotFoundError) -> bool:
        if (error.name, error.version) in self._unknown:
            return False
        self._unknown.add((error.name, error.version))
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        record.msg = (
            "%r (version %d) is not registered in this process, which hands its executions back: "
            "register it here, or run a worker that has it"
        )
        record.args = (error.name, error.version)
        return True


logging.getLogger("resonate.core").addFilter(_ExpectedEnds())
