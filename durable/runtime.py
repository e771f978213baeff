"""``Durable``: the app that starts, finds, awaits and stops durable executions."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, overload

import msgspec
from resonate.codec import Encryptor
from resonate.error import ServerError
from resonate.observability import BackgroundTaskFailed, logging_observer
from resonate.observability import Event as EngineEvent
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.timing import Clock, Sleeper, now_ms, sleep
from resonate.types import PromiseRecord, Value
from resonate_base import Network

from durable.activation import perform_step
from durable.calls import shape_of
from durable.config import default_database, parse_url
from durable.context import as_duration
from durable.creation import NewExecution, create_execution, list_scheduled
from durable.dependencies import Dependencies
from durable.engine import (
    DurableCodec,
    adopt_codec,
    cancel_background,
    register_step,
    stop_accepting_work,
)
from durable.engines import OpenEngine, open_engine
from durable.errors import (
    AppClosedError,
    EngineUnavailableError,
    ExecutionTimeoutError,
    InvalidArgumentError,
    NotRegisteredError,
    WrongLoopError,
)
from durable.events import Listener
from durable.failures import encode_failure
from durable.guards import check_promise_id, engine_errors, validated_id
from durable.handles import Handle
from durable.histories import read_history
from durable.launching import Launcher, check_same
from durable.outcomes import record_value
from durable.reading import Reader
from durable.records import SOURCE_FUNCTION, ExecutionRecord, StepRecord
from durable.registry import Registry
from durable.retries import retry_policy
from durable.scopes import install_task_factory
from durable.signing import SigningKey
from durable.sources import run_source
from durable.subscriptions import Subscriptions
from durable.supervision import StopReason
from durable.values import ValueCodec
from durable.worker import Entry, Worker

__all__ = ["Durable", "Launcher"]

#: Deadline of executions and promises that name none: a hundred years, as engines
#: keep a deadline for everything.
FOREVER = timedelta(days=36_500)

#: A lease is renewed every half of this; a process that dies on an engine without
#: liveness locks is taken over after it. The SDK's own default.
DEFAULT_LEASE = timedelta(minutes=1)

#: Seconds that a server has for its first answer.
_PROBE_S = 10.0

#: Status of a request for what does not exist.
_NOT_FOUND = 404

#: Status of a request that is well formed and cannot be applied to what is stored.
_UNPROCESSABLE = 422

#: Executions of one process at once. High, as a waiting one costs a coroutine only;
#: the SDK's 64 would let 64 sleepers block the rest.
EXECUTIONS_MAX = 100_000


class Durable:
    """An app of durable executions on one engine.

    Args:
        url: ``sqlite:///runs.db`` (relative), ``sqlite:////data/runs.db`` (absolute),
            ``memory:``, ``postgresql://...``, ``nats://...`` or ``http(s)://...``;
            a path is a SQLite file. None: the per-user database.
        group: The group whose work this process shares.
        pid: This process's name among the group; made up by default.
        lease: How long a task stays this process's without a heartbeat.
        grace: How long stopped code has for its ``finally`` blocks.
        encryptor: Encrypts payloads, see the SDK's ``Encryptor``.
        synchronous: SQLite only: ``"normal"`` survives the death of any process,
            ``"full"`` also a power cut.
        token: For ``http(s)://``: the bearer token.
        clock: Wall clock in milliseconds, for tests.
        sleeper: Sleeps for seconds, for tests.
        intercept: Wraps the connection that carries requests, for tests.

    Raises:
        ConfigurationError: The URL cannot be used.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        group: str = "default",
        pid: str | None = None,
        lease: timedelta = DEFAULT_LEASE,
        grace: timedelta = timedelta(seconds=5),
        encryptor: Encryptor | None = None,
        synchronous: Literal["normal", "full"] = "normal",
        token: str | None = None,
        clock: Clock = now_ms,
        sleeper: Sleeper = sleep,
        intercept: Callable[[Network], Network] | None = None,
    ) -> None:
        self._intercept = intercept
        self._default = url is None
        self._url = parse_url(default_database() if url is None else url)
        self._group = group
        self._pid = pid if pid is not None else f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lease = lease
        self._encryptor = encryptor
        self._synchronous = synchronous
        self._token = token
        self._key: SigningKey | None = None
        self.values = ValueCodec(self._signing_key)
        self.dependencies = Dependencies()
        self.registry = Registry()
        self._worker = Worker(
            values=self.values,
            dependencies=self.dependencies,
            clock=clock,
            sleeper=sleeper,
            grace_s=as_duration(grace, "grace", zero=True).total_seconds(),
        )
        self._worker.name_of = self.registry.name_of
        self._clock = clock
        self._sleeper = sleeper
        self._engine: Resonate | None = None
        self._open: OpenEngine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._uninstall: Callable[[], None] = lambda: None
        self._launches: set[asyncio.Task[None]] = set()
        self._closing = False
        self._reads_only = False
        self.registry.add(
            Entry(
                function=run_source,
                name=SOURCE_FUNCTION,
                version=1,
                shape=msgspec.structs.replace(shape_of(run_source), wants_context=True),
            )
        )

    def __repr__(self) -> str:
        return f"<Durable {self._url.shown!r}>"

    # -- set-up ----------------------------------------------------------------

    def set_dependency(self, name: str, factory: Any, *, singleton: bool | None = None) -> None:
        """Say how the dependency ``name`` is made; see :class:`Dependencies`."""
        self.dependencies.set_dependency(name, factory, singleton=singleton)

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` of every event; returns a callable that ends it."""
        self._worker.listeners.append(listener)

        def remove() -> None:
            with suppress(ValueError):
                self._worker.listeners.remove(listener)

        return remove

    @overload
    def register[F: Callable[..., Any]](self, function: F, /) -> F: ...
    @overload
    def register[F: Callable[..., Any]](
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        version: int = 1,
        retry: Any = None,
        timeout: timedelta | float | None = None,
    ) -> Callable[[F], F]: ...
    def register(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        version: int = 1,
        retry: Any = None,
        timeout: timedelta | float | None = None,
    ) -> Any:
        """Register a durable function, whose first parameter is the context.

        Args:
            function: The function, where used as a bare decorator.
            name: Name in the store; the function's own by default.
            version: From 1; several versions of a name may be registered.
            retry: tenacity strategies for failed attempts of the whole function.
            timeout: Default durable timeout of its executions.

        Raises:
            InvalidArgumentError: Not a function with a context parameter, or a name
                and version that are taken.
        """
        if function is None:
            return lambda f: self._register(f, name, version, retry, timeout)
        return self._register(function, name, version, retry, timeout)

    def _register(
        self,
        function: Callable[..., Any],
        name: str | None,
        version: int,
        retry: Any,
        timeout: timedelta | float | None,
    ) -> Callable[..., Any]:
        entry = self.registry.entry_for(
            function,
            name,
            version,
            retry=None if retry is None else retry_policy(retry),
            timeout=None if timeout is None else as_duration(timeout, "timeout"),
        )
        self.registry.add(entry)
        if self._engine is not None:
            self._register_with_engine(self._engine, entry)
        return function

    # -- life ------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the app is open."""
        return self._engine is not None and not self._closing

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the engine and take up work. Idempotent.

        Raises:
            EngineUnavailableError: The engine does not answer.
            ConnectorError: The database cannot be used; the message names it and the remedy.
            AppClosedError: The app was closed; make a new one.
        """
        if self._closing:
            msg = "this app was closed: make a new Durable(...)"
            raise AppClosedError(msg)
        if self._engine is not None:
            return
        if self._default and self._url.path is not None:
            self._url.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        opened = await open_engine(
            self._url,
            pid=self._pid,
            group=self._group,
            sleeper=self._sleeper,
            clock=self._clock,
            synchronous=self._synchronous,
            token=self._token,
            reads_only=self._reads_only,
        )
        engine = Resonate(
            network=opened.network if self._intercept is None else self._intercept(opened.network),
            sources=opened.sources,
            group=self._group,
            pid=self._pid,
            ttl=self._lease,
            retry_policy=Never(),
            max_concurrent_tasks=EXECUTIONS_MAX,
            clock=self._clock,
            observer=_observe,
            autostart=False,
            env={},
        )
        adopt_codec(engine, DurableCodec(self.values, self._encryptor))
        list_scheduled(engine)
        register_step(engine._registry, perform_step)  # noqa: SLF001 - see durable.engine
        for entry in self.registry:
            self._register_with_engine(engine, entry)
        self._uninstall = install_task_factory(self._loop)
        self._worker.engine, self._worker.subscriptions = engine, Subscriptions(engine)
        # The connection is started here as well, as the SDK starts it in the background
        # and only logs why it could not; starting twice is starting once.
        try:
            engine.start()
            for source in opened.sources:
                await source.start()
            if opened.is_probed:
                await self._probe(engine)
        except BaseException:
            await self._shut(engine, opened)
            raise
        self._engine, self._open = engine, opened

    async def _probe(self, engine: Resonate) -> None:
        with engine_errors(self._url.shown):
            try:
                async with asyncio.timeout(_PROBE_S):
                    await engine.promises.get("sostenuto.probe")
            except ServerError as error:
                if error.code != _NOT_FOUND:
                    raise
            except TimeoutError:
                msg = (
                    f"nothing answered at {self._url.shown!r} within {_PROBE_S:g} s: check the "
                    "address and that the server runs"
                )
                raise EngineUnavailableError(msg) from None

    def _register_with_engine(self, engine: Resonate, entry: Entry) -> None:
        async def activate(sdk_context: Any, *args: Any, **kwargs: Any) -> Any:
            return await self._worker.activate(entry, sdk_context, args, kwargs)

        activate.__name__ = entry.name
        engine.register(activate, name=entry.name, version=entry.version)

    async def close(self) -> None:
        """Stop within the grace period; what ran goes back to the store at once. Idempotent."""
        engine, opened = self._engine, self._open
        if engine is None or opened is None or self._closing:
            self._closing = True
            return
        self._closing = True
        opened.pause_delivery()
        stop_accepting_work(engine)
        for launch in list(self._launches):
            launch.cancel()
        await asyncio.gather(*self._launches, return_exceptions=True)
        await self._worker.hand_back()
        self._worker.end_waits()
        await self._shut(engine, opened)
        await self.dependencies.aclose()

    async def abandon(self) -> None:
        """Drop everything as the death of the process would: nothing is handed back."""
        engine, opened = self._engine, self._open
        self._closing = True
        if engine is None or opened is None:
            return
        stop_accepting_work(engine)
        self._worker.abandon()
        self._worker.end_waits()
        for launch in list(self._launches):
            launch.cancel()
        for source in opened.sources:
            await source.stop()
        await cancel_background(engine)
        await self._shut(engine, opened)

    def reader(self, group: str) -> Durable:
        """Return an app on the same engine that only reads.

        Of a SQLite file nothing is changed, and the file must exist.

        Args:
            group: The group it joins on other engines, one that is handed no work.
        """
        reader = Durable(
            self._url.path if self._url.path is not None else self._url.url,
            group=group,
            encryptor=self._encryptor,
            synchronous=self._synchronous,
            token=self._token,
            clock=self._clock,
        )
        reader._reads_only = True
        return reader

    @property
    def engine(self) -> Resonate:
        """The SDK's instance beneath, for what this app does not wrap.

        Raises:
            AppClosedError: The app is not open.
        """
        return self._ready()

    async def _shut(self, engine: Resonate, opened: OpenEngine) -> None:
        self._uninstall()
        await engine.stop()
        await opened.close()

    # -- starting --------------------------------------------------------------

    def options(
        self,
        *,
        timeout: timedelta | float | None = None,
        target: str | None = None,
        version: int = 1,
    ) -> Launcher:
        """Return a launcher with options: ``app.options(timeout=60).run(id, fn, ...)``."""
        limit = None if timeout is None else as_duration(timeout, "timeout")
        return Launcher(self, limit, target, version)

    def run(
        self, id: str, fn: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """Start ``fn`` durably under ``id``, or find the execution that has it.

        Returns at once. The same id is the same execution, in every process, for ever.

        Args:
            id: The execution's id.
            fn: A registered function or its name.
            *args: Its arguments, without the context.
            **kwargs: Likewise.

        Raises:
            InvalidArgumentError: The id or the number of arguments cannot be.
            NotRegisteredError: ``fn`` was not registered.
            UnserializableValueError: An argument cannot be stored.
        """
        return self.options().run(id, fn, *args, **kwargs)

    def rpc(
        self, id: str, fn: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """Like :meth:`run`, for any worker of the group to execute."""
        return self.options().rpc(id, fn, *args, **kwargs)

    def run_source(
        self,
        id: str,
        source: str,
        *,
        timeout: timedelta | float | None = None,
        filename: str | None = None,
    ) -> Handle[Any]:
        """Run source text with top-level await durably, ``ctx`` in its namespace.

        Args:
            id: The execution's id.
            source: Python source; its last expression's value is the result.
            timeout: Durable timeout.
            filename: The file it came from, recorded and given as ``__file__``.
        """
        if not isinstance(source, str):
            msg = f"source must be a string of Python, not {type(source).__name__}"
            raise InvalidArgumentError(msg)
        more = {} if filename is None else {"filename": filename}
        return self.options(timeout=timeout).run(id, SOURCE_FUNCTION, source=source, **more)

    def launch(
        self,
        launcher: Launcher,
        id: str,
        fn: str | Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        here: bool,
    ) -> Handle[Any]:
        """Start an execution for a launcher; see :meth:`run` and :meth:`rpc`."""
        engine = self._ready()
        validated_id(id)
        self._worker.accept(id)
        name, version = self.registry.name_of(fn, launcher.version)
        entry = self.registry.find(name, version)
        if entry is not None:
            self.registry.check_arity(entry, args, kwargs)
        elif here:
            raise NotRegisteredError(self.registry.unknown(name, version))
        packed = [
            self.values.encode(value, where=f"argument {position} of {name}")
            for position, value in enumerate(args, 1)
        ]
        named = {
            key: self.values.encode(value, where=f"argument {key} of {name}")
            for key, value in kwargs.items()
        }
        timeout = launcher.timeout or (entry.timeout if entry is not None else None) or FOREVER
        new = NewExecution(
            id=id,
            name=name,
            version=version,
            args=tuple(packed),
            kwargs=named,
            timeout=timeout,
            target=launcher.target,
        )

        def check(record: PromiseRecord) -> None:
            check_same(
                record, name=name, version=version, args=packed, kwargs=named, values=self.values
            )

        async def start_it() -> None:
            with engine_errors(id):
                try:
                    record = await create_execution(engine, new, here=here)
                except ServerError as refused:
                    if refused.code == _UNPROCESSABLE:
                        check(await engine.promises.get(id))  # a plain promise may have the id
                    raise
                check(record if record is not None else await engine.promises.get(id))

        task = asyncio.get_running_loop().create_task(start_it(), name=f"launch {id}")
        self._launches.add(task)
        task.add_done_callback(self._launches.discard)
        return Handle(self, id, task)

    # -- finding ---------------------------------------------------------------

    def get(self, id: str) -> Handle[Any]:
        """Return the handle of an execution that any process may have started."""
        self._ready()
        return Handle(self, validated_id(id))

    def promise(self, id: str, *, timeout: timedelta | float | None = None) -> Handle[Any]:
        """Return a durable promise by its id, made where it does not exist yet.

        Any process settles it with :meth:`resolve`, :meth:`reject` or the command
        line; whoever awaits it wakes.

        Args:
            id: Its id, also one below an execution, such as ``exec-1:3``.
            timeout: Its deadline from now, where it is made by this call.
        """
        engine = self._ready()
        check_promise_id(id)
        limit = FOREVER if timeout is None else as_duration(timeout, "timeout")

        async def create() -> None:
            with engine_errors(id):
                if ":" in id:
                    await engine.promises.get(id)
                    return
                deadline_ms = self._clock() + round(limit.total_seconds() * 1000)
                tags = {
                    "resonate:scope": "global",
                    "resonate:origin": id,
                    "resonate:branch": id,
                    "resonate:parent": id,
                    "resonate:external": "true",
                }
                await engine.promises.create(id, deadline_ms, Value(), tags)

        task = asyncio.get_running_loop().create_task(create(), name=f"promise {id}")
        self._launches.add(task)
        task.add_done_callback(self._launches.discard)
        return Handle(self, id, task)

    async def resolve(self, id: str, value: Any = None) -> bool:
        """Resolve a durable promise; returns whether this call settled it."""
        data = self.values.encode(value, where=f"the value of promise {id}")
        return await self._settle(id, "resolved", data)

    async def reject(self, id: str, error: BaseException | str) -> bool:
        """Reject a durable promise with an exception or a message."""
        raised = error if isinstance(error, BaseException) else RuntimeError(error)
        return await self._settle(id, "rejected", encode_failure(raised, self.values))

    async def reject_with(self, id: str, value: Any) -> bool:
        """Reject a durable promise with a value; whoever awaits it gets PromiseRejectedError."""
        data = self.values.encode(value, where=f"the value of promise {id}")
        return await self._settle(id, "rejected", data)

    async def cancel(self, id: str, reason: str = "") -> bool:
        """Cancel an execution or promise; returns whether this call settled it."""
        settled = await self._settle(id, "rejected_canceled", reason or None)
        self._worker.stop(id, StopReason.CANCELLED)
        return settled

    async def _settle(self, id: str, state: str, data: Any) -> bool:
        engine = self._ready()
        check_promise_id(id)
        settle = {
            "resolved": engine.promises.resolve,
            "rejected": engine.promises.reject,
            "rejected_canceled": engine.promises.cancel,
        }[state]
        with engine_errors(id):
            before = await engine.promises.get(id)
            if before.state != "pending":
                return False
            after = await settle(id, Value(data=data))
        return after.state == state

    # -- reading ---------------------------------------------------------------

    async def execution(self, id: str) -> ExecutionRecord:
        """Return what the store knows of an execution.

        Raises:
            UnknownExecutionError: There is none with this id.
        """
        check_promise_id(id)
        return await self._reader().execution(id)

    def _reader(self) -> Reader:
        return Reader(self._ready(), self.values, self._clock)

    async def executions(
        self, *, state: str | None = None, name: str | None = None
    ) -> AsyncIterator[ExecutionRecord]:
        """Iterate over executions, in the order of their ids.

        Args:
            state: ``pending``, ``resolved``, ``rejected``, ``rejected_canceled`` or
                ``rejected_timedout``; None for all.
            name: Registered name of the function; None for all.
        """
        self._ready()
        async for record in self._reader().executions(state, name):
            yield record

    async def steps(self, id: str) -> list[StepRecord]:
        """Return every step, sleep, promise and attempt below an execution, by creation."""
        engine = self._ready()
        validated_id(id)
        history = await read_history(engine, id)
        return [StepRecord(promise, self.values) for promise in history.promises]

    # -- what handles ask ------------------------------------------------------

    async def result_of(self, promise_id: str) -> Any:
        """Wait for a promise and return its value or raise its error."""
        engine = self._ready()
        with engine_errors(promise_id):
            outcome = await self._worker.outcome_of(promise_id)
            if outcome.state == "resolved":
                return self.values.decode(engine.promises.codec.decode(outcome.value))
            record = await engine.promises.get(promise_id)
        try:
            return record_value(record, self.values)
        except ExecutionTimeoutError as error:
            for note in await self._reader().notes(record):
                error.add_note(note)
            raise

    async def is_settled(self, promise_id: str) -> bool:
        """Return whether a promise is settled."""
        engine = self._ready()
        with engine_errors(promise_id):
            return (await engine.promises.get(promise_id)).state != "pending"

    async def settle_cancelled(self, promise_id: str, reason: str) -> bool:
        """Cancel, for a handle."""
        return await self.cancel(promise_id, reason)

    # -- internal --------------------------------------------------------------

    def _ready(self) -> Resonate:
        if self._engine is None or self._closing:
            state = "closed" if self._closing else "not open yet"
            msg = f"the app is {state}: use it inside 'async with app:'"
            raise AppClosedError(msg)
        if threading.get_ident() != self._thread:
            msg = (
                "the app was used from another thread than the one that opened it: hand the call "
                "to its loop with asyncio.run_coroutine_threadsafe, or open an app of its own there"
            )
            raise WrongLoopError(msg)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not self._loop:
            msg = (
                "the app was used outside the event loop that opened it: "
                "open an app of its own there"
            )
            raise WrongLoopError(msg)
        return self._engine

    def _signing_key(self) -> SigningKey:
        if self._key is None:
            self._key = SigningKey.load(self._url.path)
        return self._key


def _observe(event: EngineEvent) -> None:
    """Log what the engine does not raise, leaving out ends that are meant."""
    if isinstance(event, BackgroundTaskFailed):
        return
    logging_observer(event)
