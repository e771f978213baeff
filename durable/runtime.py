"""``Durable``: the app that starts, finds, awaits and stops durable executions."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, overload

import msgspec
from resonate.codec import Encryptor
from resonate.resonate import Resonate
from resonate.timing import Clock, Sleeper, now_ms, sleep
from resonate_base import Network

from durable.config import default_database, parse_url
from durable.context import as_duration
from durable.dependencies import Dependencies
from durable.engine import cancel_background, stop_accepting_work
from durable.errors import AppClosedError, ExecutionTimeoutError, InvalidArgumentError
from durable.events import Listener
from durable.failures import encode_failure
from durable.guards import check_promise_id, engine_errors, validated_id
from durable.handles import Handle
from durable.histories import read_history
from durable.holders import holder
from durable.launching import FOREVER, Launcher, Launches
from durable.opening import OpenApp, Settings, open_app
from durable.outcomes import record_value
from durable.reading import Reader
from durable.records import SOURCE_FUNCTION, ExecutionRecord, StepRecord
from durable.registry import Registry, source_entry
from durable.retries import retry_policy
from durable.settling import settle
from durable.signing import KEY_VARIABLE, SigningKey
from durable.supervision import StopReason
from durable.values import ValueCodec
from durable.worker import Worker

__all__ = ["Durable", "Launcher"]

#: A lease is renewed every half of this; a process that dies on an engine without
#: liveness locks is taken over after it. The SDK's own default.
DEFAULT_LEASE = timedelta(minutes=1)


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
        self._default = url is None
        self._settings = Settings(
            url=parse_url(default_database() if url is None else url),
            group=group,
            pid=pid if pid is not None else f"{os.getpid()}-{uuid.uuid4().hex[:8]}",
            lease=lease,
            encryptor=encryptor,
            synchronous=synchronous,
            token=token,
            clock=clock,
            sleeper=sleeper,
            intercept=intercept,
        )
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
        self._launches = Launches(self.registry, self.values, clock)
        self._app: OpenApp | None = None
        self._closing = False
        self.registry.add(source_entry())

    def __repr__(self) -> str:
        return f"<Durable {self._settings.url.shown!r}>"

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
        if self._app is not None:
            self._app.register(entry)
        return function

    # -- life ------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the app is open."""
        return self._app is not None and not self._closing

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
            SigningKeyError: The key file or ``SOSTENUTO_SIGNING_KEY`` cannot be used;
                nothing was opened.
            AppClosedError: The app was closed; make a new one.
        """
        if self._closing:
            msg = "this app was closed: make a new Durable(...)"
            raise AppClosedError(msg)
        if self._app is not None:
            return
        path = self._settings.url.path
        if KEY_VARIABLE in os.environ or not self._settings.reads_only:
            # A value would ask for it in the middle of an execution, which would fail for good.
            self._key = SigningKey.find(path)
        if self._default and path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._app = await open_app(self._settings, self._worker, self.registry)

    async def close(self) -> None:
        """Stop within the grace period; what ran goes back to the store at once. Idempotent."""
        app = self._app
        if app is None or self._closing:
            self._closing = True
            return
        self._closing = True
        app.connections.pause_delivery()
        stop_accepting_work(app.engine)
        await asyncio.gather(*self._launches.cancel(), return_exceptions=True)
        await self._worker.hand_back()
        self._worker.end_waits()
        await app.shut()
        await self.dependencies.aclose()

    async def abandon(self) -> None:
        """Drop everything as the death of the process would: nothing is handed back."""
        app = self._app
        self._closing = True
        if app is None:
            return
        stop_accepting_work(app.engine)
        self._worker.abandon()
        self._worker.end_waits()
        self._launches.cancel()
        for source in app.connections.sources:
            await source.stop()
        await cancel_background(app.engine)
        await app.shut()

    def reader(self, group: str) -> Durable:
        """Return an app on the same engine that only reads.

        Of a SQLite file nothing is changed, and the file must exist.

        Args:
            group: The group it joins on other engines, one that is handed no work.
        """
        settings = self._settings
        reader = Durable(
            settings.url.path if settings.url.path is not None else settings.url.url,
            group=group,
            encryptor=settings.encryptor,
            synchronous=settings.synchronous,
            token=settings.token,
            clock=settings.clock,
        )
        reader._settings = msgspec.structs.replace(reader._settings, reads_only=True)
        return reader

    @property
    def engine(self) -> Resonate:
        """The SDK's instance beneath, for what this app does not wrap.

        Raises:
            AppClosedError: The app is not open.
        """
        return self._ready()

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
        self._worker.accept(validated_id(id))
        recorded = self._launches.execution(engine, launcher, id, fn, args, kwargs, here=here)
        return Handle(self, id, recorded)

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
        return Handle(self, id, self._launches.promise(engine, id, limit))

    async def resolve(self, id: str, value: Any = None) -> bool:
        """Resolve a durable promise; returns whether this call settled it."""
        data = self.values.encode(value, where=f"the value of promise {id}")
        return await settle(self._ready(), id, "resolved", data)

    async def reject(self, id: str, error: BaseException | str) -> bool:
        """Reject a durable promise with an exception or a message."""
        raised = error if isinstance(error, BaseException) else RuntimeError(error)
        return await settle(self._ready(), id, "rejected", encode_failure(raised, self.values))

    async def reject_with(self, id: str, value: Any) -> bool:
        """Reject a durable promise with a value; whoever awaits it gets PromiseRejectedError."""
        data = self.values.encode(value, where=f"the value of promise {id}")
        return await settle(self._ready(), id, "rejected", data)

    async def cancel(self, id: str, reason: str = "") -> bool:
        """Cancel an execution or promise; returns whether this call settled it."""
        settled = await settle(self._ready(), id, "rejected_canceled", reason or None)
        self._worker.stop(id, StopReason.CANCELLED)
        return settled

    # -- reading ---------------------------------------------------------------

    async def execution(self, id: str) -> ExecutionRecord:
        """Return what the store knows of an execution.

        Raises:
            UnknownExecutionError: There is none with this id.
        """
        check_promise_id(id)
        return await self._reader().execution(id)

    def _reader(self) -> Reader:
        return Reader(self._ready(), self.values, self._settings.clock)

    async def executions(
        self, *, state: str | None = None, name: str | None = None
    ) -> AsyncIterator[ExecutionRecord]:
        """Iterate over executions, in the order of their ids.

        Args:
            state: ``pending``, ``resolved``, ``rejected``, ``rejected_canceled`` or
                ``rejected_timedout``; None for all.
            name: Registered name of the function; None for all.
        """
        async for record in self._reader().executions(state, name):
            yield record

    async def steps(self, id: str) -> list[StepRecord]:
        """Return every step, sleep, promise and attempt below an execution, by creation."""
        validated_id(id)
        history = await read_history(self._ready(), id)
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

    async def held_by(self, id: str) -> str | None:
        """Return the pid of another app that runs an execution, None where none is known to."""
        self._ready()
        assert self._app is not None
        pid = await holder(self._app.connections.network, id)
        return None if pid == self._settings.pid else pid

    async def settle_cancelled(self, promise_id: str, reason: str) -> bool:
        """Cancel, for a handle."""
        return await self.cancel(promise_id, reason)

    # -- internal --------------------------------------------------------------

    def _ready(self) -> Resonate:
        if self._app is None or self._closing:
            state = "closed" if self._closing else "not open yet"
            msg = f"the app is {state}: use it inside 'async with app:'"
            raise AppClosedError(msg)
        self._app.check_here()
        return self._app.engine

    def _signing_key(self) -> SigningKey:
        if self._key is None:
            self._key = SigningKey.load(self._settings.url.path)
        return self._key
