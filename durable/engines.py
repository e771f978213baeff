"""Opening the engine that a URL names, and closing what was opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import tenacity
from resonate_base import ConnectorError, Network, Source

from durable.config import EngineUrl, load_connector
from durable.errors import EngineUnavailableError
from durable.postgres_search import SearchingPostgres
from store import SqliteConnection
from store.readonly import ReadOnlyConnection

__all__ = ["OpenEngine", "StartedOnce", "SteadyNetwork", "open_engine"]

#: A request is tried this often before its failure is told; with the waits below, the
#: last try is made about three seconds after the first.
_TRIES_MAX = 6

#: The same for a server, which may be restarted under a run: about a minute.
_SERVER_TRIES_MAX = 45

#: Seconds that a server has to accept a connection.
_CONNECT_S = 5.0

#: Seconds after which a failure is not tried again, however few tries it had.
_TRIES_S = 60.0


class SteadyNetwork:
    """Repeats requests that failed on the way, with jitter and a bound.

    Every request of the protocol may be repeated: creates and settles answer with
    the record as it is, and the rest is fenced by a task's version.

    Args:
        inner: Carries the requests.
        sleeper: Sleeps for seconds.
        tries_max: How often a request is tried.
    """

    def __init__(
        self,
        inner: Network,
        sleeper: Callable[[float], Awaitable[None]],
        tries_max: int = _TRIES_MAX,
    ) -> None:
        self.inner = inner
        self._sleeper = sleeper
        self._tries_max = tries_max

    async def start(self) -> None:
        """Do nothing: the connection is started as the source that it is too."""

    async def stop(self) -> None:
        """Do nothing: the connection is stopped as the source that it is too."""

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        """Send a request; raises ConnectorError after bounded tries."""
        try:
            return await self.inner.send(req, headers)
        except ConnectorError as error:
            if not _transient(error):
                raise
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_transient),
            wait=tenacity.wait_exponential_jitter(multiplier=0.05, max=1.5, jitter=0.1),
            stop=tenacity.stop_after_attempt(self._tries_max - 1)
            | tenacity.stop_after_delay(_TRIES_S),
            sleep=self._sleeper,
            reraise=True,
        )
        await self._sleeper(0.02 + 0.03 * random.random())  # noqa: S311 - jitter, no secret
        answer: str = await retrying(self.inner.send, req, headers)
        return answer


def _transient(error: BaseException) -> bool:
    return isinstance(error, ConnectorError) and bool(getattr(error, "transient", True))


class StartedOnce:
    """A source whose start is awaited by whoever needs it, and made once.

    The SDK starts connections in the background and only logs why one could not
    start; the app awaits the same start to tell its user.
    """

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self._starting: asyncio.Task[None] | None = None

    def unicast(self) -> str:
        """Return this process's own address."""
        return self.inner.unicast()

    def resolve_target(self, target: str) -> str:
        """Return a group's address."""
        return self.inner.resolve_target(target)

    def recv(self, callback: Callable[[str], None]) -> None:
        """Register a receiver of messages."""
        self.inner.recv(callback)

    async def start(self) -> None:
        """Start the source, or wait for the start that is under way."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self.inner.start())
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """Stop the source."""
        await self.inner.stop()


class OpenEngine:
    """An engine's connections, ready for ``Resonate(network=..., sources=...)``.

    Attributes:
        network: Carries requests, with retries.
        sources: Deliver messages.
        store: The SQLite connection, where there is one.
        is_probed: Whether only a request tells that the engine is there.
    """

    def __init__(
        self,
        network: Network,
        sources: list[StartedOnce],
        *,
        store: SqliteConnection | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        is_probed: bool = False,
    ) -> None:
        self.network = network
        self.sources = sources
        self.store = store
        self.is_probed = is_probed
        self._close = close

    def pause_delivery(self) -> None:
        """Stop taking work while what runs is handed back, where the engine can."""
        for source in self.sources:
            pause = getattr(source.inner, "pause_delivery", None)
            if pause is not None:
                pause()

    async def close(self) -> None:
        """Close what the SDK does not own."""
        if self._close is not None:
            await self._close()


async def open_engine(
    url: EngineUrl,
    *,
    pid: str,
    group: str,
    sleeper: Callable[[float], Awaitable[None]],
    clock: Callable[[], int],
    synchronous: Literal["normal", "full"] = "normal",
    token: str | None = None,
    reads_only: bool = False,
) -> OpenEngine:
    """Open the connections to the engine that ``url`` names.

    With ``reads_only``, nothing of a SQLite file is changed; other engines are read like
    by any member of a group that is handed no work.

    Raises:
        ConnectorError: The store or engine cannot be opened; the message says why.
        MissingExtraError: The URL needs a package that is not installed.
    """

    def steady(connection: Any, **more: Any) -> OpenEngine:
        return OpenEngine(SteadyNetwork(connection, sleeper), [StartedOnce(connection)], **more)

    match url.kind:
        case "sqlite" if reads_only:
            assert url.path is not None
            return steady(ReadOnlyConnection(url.path, clock=clock))
        case "sqlite":
            assert url.path is not None
            connection = SqliteConnection(
                url.path, pid=pid, group=group, clock=clock, synchronous=synchronous
            )
            return steady(connection, store=connection)
        case "memory":
            # A database in a directory of its own: the same protocol, forgotten at the end.
            directory = Path(tempfile.mkdtemp(prefix="sostenuto-"))
            connection = SqliteConnection(
                directory / "memory.db", pid=pid, group=group, clock=clock
            )

            async def remove() -> None:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

            return steady(connection, store=connection, close=remove)
        case "postgresql":
            make = load_connector("resonate_pg", "PostgresConnection", "postgres", url.url)
            return steady(SearchingPostgres(make(url.url, pid, group), url.url), is_probed=True)
        case "nats":
            return await _open_nats(url, pid, group, steady)
    await _check_listens(url)
    from resonate.connections import HttpConnection, SSEConnection

    auth = token if token is not None else os.environ.get("RESONATE_TOKEN")
    http = HttpConnection(url=url.url, auth=auth)
    source = SSEConnection(url=url.url, pid=pid, group=group, auth=auth)
    steady_http = SteadyNetwork(http, sleeper, _SERVER_TRIES_MAX)
    return OpenEngine(_Owned(steady_http), [StartedOnce(source)], is_probed=True)


async def _check_listens(url: EngineUrl) -> None:
    """Tell at once that nothing listens there: the SDK's connections try again for ever.

    A server that goes away later is waited for, about a minute.
    """
    parts = urlsplit(url.url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    reason = f"no connection within {_CONNECT_S:g} s"
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:
        if not isinstance(error, TimeoutError):
            reason = str(error)
        msg = (
            f"no server answers at {url.shown!r}: {reason}; "
            "check the address, start the server, or use a SQLite file, which needs none"
        )
        raise EngineUnavailableError(msg) from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class _Owned:
    """A steady network whose connection is no source, so that it starts and stops itself."""

    def __init__(self, steady: SteadyNetwork) -> None:
        self._steady = steady

    async def start(self) -> None:
        """Do nothing: the SDK's connection retries without an end once it is started."""

    async def stop(self) -> None:
        await self._steady.inner.stop()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        return await self._steady.send(req, headers)


async def _open_nats(
    url: EngineUrl, pid: str, group: str, steady: Callable[..., OpenEngine]
) -> OpenEngine:
    make = load_connector("resonate_nats", "NatsConnection", "nats", url.url)
    connect = load_connector("nats", "connect", "nats", url.url)
    try:
        client = await connect(url.url, connect_timeout=5, max_reconnect_attempts=3)
    except Exception as error:
        msg = (
            f"no NATS server answers at {url.shown!r}: {error}; check the address and that it runs"
        )
        raise EngineUnavailableError(msg) from error

    async def close() -> None:
        await client.close()

    return steady(make(client, pid=pid, group=group), close=close)
