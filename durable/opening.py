"""Opening an app's engine, and what is known of it while it is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal

import msgspec
from resonate.codec import Encryptor
from resonate.error import ServerError
from resonate.observability import BackgroundTaskFailed, logging_observer
from resonate.observability import Event as EngineEvent
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.timing import Clock, Sleeper
from resonate_base import Network

from durable.activation import perform_step
from durable.config import EngineUrl
from durable.creation import list_scheduled
from durable.engine import DurableCodec, adopt_codec, register_step
from durable.engines import OpenEngine, open_engine
from durable.entries import Entry
from durable.errors import EngineUnavailableError, WrongLoopError
from durable.guards import engine_errors
from durable.scopes import install_task_factory
from durable.sentinel import Sentinel
from durable.subscriptions import Subscriptions
from durable.worker import Worker

__all__ = ["OpenApp", "Settings", "open_app"]

#: Seconds that a server has for its first answer.
_PROBE_S = 10.0

#: Status of a request for what does not exist.
_NOT_FOUND = 404

#: Executions of one process at once. High, as a waiting one costs a coroutine only;
#: the SDK's 64 would let 64 sleepers block the rest.
EXECUTIONS_MAX = 100_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an app was made with; see :class:`durable.Durable`.

    Attributes:
        reads_only: Change nothing of a SQLite file, which must exist.
    """

    url: EngineUrl
    group: str
    pid: str
    lease: timedelta
    encryptor: Encryptor | None
    synchronous: Literal["normal", "full"]
    token: str | None
    clock: Clock
    sleeper: Sleeper
    intercept: Callable[[Network], Network] | None
    reads_only: bool = False


class OpenApp:
    """An engine that is open, on the loop and in the thread that opened it.

    Attributes:
        engine: The SDK's instance.
        connections: What carries its requests and messages.
    """

    def __init__(self, engine: Resonate, connections: OpenEngine, worker: Worker) -> None:
        self.engine = engine
        self.connections = connections
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._uninstall = install_task_factory(self._loop)
        if connections.store is not None:
            worker.sentinel = Sentinel(self._loop, connections.store.path)

    def register(self, entry: Entry) -> None:
        """Make a function known to the engine."""
        worker = self._worker

        async def activate(sdk_context: Any, *args: Any, **kwargs: Any) -> Any:
            return await worker.activate(entry, sdk_context, args, kwargs)

        activate.__name__ = entry.name
        self.engine.register(activate, name=entry.name, version=entry.version)

    def check_here(self) -> None:
        """Check that the app is used where it was opened.

        Raises:
            WrongLoopError: It is not.
        """
        if threading.get_ident() != self._thread_id:
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

    async def start(self, shown: str) -> None:
        """Start the connections, and ask where only an answer tells that the engine is there.

        Args:
            shown: The engine's URL, for errors.
        """
        # The connection is started here as well, as the SDK starts it in the background
        # and only logs why it could not; starting twice is starting once.
        try:
            self.engine.start()
            for source in self.connections.sources:
                await source.start()
            if self.connections.is_probed:
                await _probe(self.engine, shown)
        except BaseException:
            await self.shut()
            raise

    async def shut(self) -> None:
        """Stop the engine and close its connections."""
        self._uninstall()
        if self._worker.sentinel is not None:
            self._worker.sentinel.close()
        await self.engine.stop()
        await self.connections.close()


async def open_app(settings: Settings, worker: Worker, entries: Iterable[Entry]) -> OpenApp:
    """Open the engine and take up work.

    Raises:
        EngineUnavailableError: The engine does not answer.
        ConnectorError: The database cannot be used; the message names it and the remedy.
    """
    connections = await open_engine(
        settings.url,
        pid=settings.pid,
        group=settings.group,
        sleeper=settings.sleeper,
        clock=settings.clock,
        synchronous=settings.synchronous,
        token=settings.token,
        reads_only=settings.reads_only,
    )
    network = connections.network
    engine = Resonate(
        network=network if settings.intercept is None else settings.intercept(network),
        sources=connections.sources,
        group=settings.group,
        pid=settings.pid,
        ttl=settings.lease,
        retry_policy=Never(),
        max_concurrent_tasks=EXECUTIONS_MAX,
        clock=settings.clock,
        observer=_observe,
        autostart=False,
        env={},
    )
    adopt_codec(engine, DurableCodec(worker.values, settings.encryptor))
    list_scheduled(engine)
    register_step(engine._registry, perform_step)  # noqa: SLF001 - see durable.engine
    worker.engine, worker.subscriptions = engine, Subscriptions(engine)
    app = OpenApp(engine, connections, worker)
    for entry in entries:
        app.register(entry)
    await app.start(settings.url.shown)
    return app


async def _probe(engine: Resonate, shown: str) -> None:
    with engine_errors(shown):
        try:
            async with asyncio.timeout(_PROBE_S):
                await engine.promises.get("sostenuto.probe")
        except ServerError as error:
            if error.code != _NOT_FOUND:
                raise
        except TimeoutError:
            msg = (
                f"nothing answered at {shown!r} within {_PROBE_S:g} s: check the "
                "address and that the server runs"
            )
            raise EngineUnavailableError(msg) from None


def _observe(event: EngineEvent) -> None:
    """Log what the engine does not raise, leaving out ends that are meant."""
    if isinstance(event, BackgroundTaskFailed):
        return
    logging_observer(event)
