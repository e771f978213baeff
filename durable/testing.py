"""What tests of durable code need: replay of histories, crashes, and a clock of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

from durable.crashes import CrashInjector
from durable.errors import InvalidArgumentError, UnknownExecutionError
from durable.handles import Handle
from durable.histories import History, histories_in, load_history, read_history
from durable.replay import DEFAULT_LIMIT_S, Divergence, ReplayReport, replay_history
from durable.runtime import Durable

__all__ = [
    "CrashInjector",
    "Divergence",
    "ManualClock",
    "ReplayReport",
    "areplay",
    "areplay_all",
    "crash_at_every_operation",
    "crash_once",
    "replay",
    "replay_all",
]

#: Group of an app that only reads, so that no work is handed to it.
_READERS = "sostenuto-replay"

type Replayable = Durable | str | os.PathLike[str] | History


def replay(
    app_or_db: Replayable, execution_id: str | None = None, *, limit_s: float = DEFAULT_LIMIT_S
) -> Any:
    """Re-run an execution's code against its recorded steps.

    Nothing is written and no step is executed. Await it where an event loop runs; in a
    plain test it runs a loop of its own and returns the report at once.

    Args:
        app_or_db: An app, open or not, whose registered functions are the code; a
            database or URL, for executions of source; or a history or its file.
        execution_id: Which execution; a history or its file needs none.
        limit_s: Seconds that code outside steps may take.

    Returns:
        A :class:`ReplayReport`, or an awaitable of one where an event loop runs.

    Raises:
        UnknownExecutionError: There is none with this id.
        NotRegisteredError: Its function is not registered.
    """
    return _here_or_awaited(areplay(app_or_db, execution_id, limit_s))


async def areplay(
    app_or_db: Replayable, execution_id: str | None = None, limit_s: float = DEFAULT_LIMIT_S
) -> ReplayReport:
    """:func:`replay` for code that runs in an event loop, with its type."""
    app = _app_of(app_or_db)
    history = await _history_of(app_or_db, app, execution_id)
    return await _replay(app, history, limit_s)


def _here_or_awaited(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return work


def replay_all(
    db: Replayable,
    *,
    name: str | None = None,
    histories: str | os.PathLike[str] | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
) -> Any:
    """Replay every recorded execution, for use in CI; awaited or not, as :func:`replay`.

    Args:
        db: An app, a database or URL, or a directory of exported histories.
        name: Only executions of this function.
        histories: A directory of exported histories to replay with the app's functions.
        limit_s: Seconds that each may take.

    Returns:
        A list of :class:`ReplayReport` in the order of ids or file names, or an
        awaitable of it where an event loop runs.
    """
    directory = Path(histories) if histories is not None else _directory(db)
    return _here_or_awaited(areplay_all(db, name, directory, limit_s))


def _directory(db: Replayable) -> Path | None:
    if isinstance(db, (str, os.PathLike)) and Path(db).is_dir():
        return Path(db)
    return None


async def areplay_all(
    db: Replayable,
    name: str | None = None,
    directory: Path | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
) -> list[ReplayReport]:
    """:func:`replay_all` for code that runs in an event loop, with its type."""
    app = _app_of(db)
    reports = []
    if directory is not None:
        for path in histories_in(directory):
            history = load_history(path)
            if name is None or _name_of(history) == name:
                reports.append(await _replay(app, history, limit_s))
        return reports
    async with _readable(app) as reader:
        ids = [record.id async for record in reader.executions(name=name)]
        for execution_id in ids:
            history = await read_history(reader.engine, execution_id)
            reports.append(await _replay(app, history, limit_s))
    return reports


def _name_of(history: History) -> str:
    param = history.execution.param.data
    return str(param.get("func", "")) if isinstance(param, dict) else ""


def _app_of(source: Replayable) -> Durable:
    if isinstance(source, Durable):
        return source
    if isinstance(source, History) or _is_document(source):
        return Durable("memory:", group=_READERS)
    return Durable(source, group=_READERS)


def _is_document(source: Any) -> bool:
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    return path is not None and (path.suffix == ".json" or path.is_dir())


async def _history_of(source: Replayable, app: Durable, execution_id: str | None) -> History:
    if isinstance(source, History):
        return source
    if not isinstance(source, Durable) and _is_document(source):
        history = load_history(Path(source))
        if execution_id not in {None, history.id}:
            msg = f"{os.fspath(source)} is the history of {history.id!r}, not of {execution_id!r}"
            raise UnknownExecutionError(msg)
        return history
    if execution_id is None:
        msg = "execution_id is needed: which execution of this app or database to replay"
        raise InvalidArgumentError(msg)
    async with _readable(app) as reader:
        return await read_history(reader.engine, execution_id)


@contextlib.asynccontextmanager
async def _readable(app: Durable) -> AsyncIterator[Durable]:
    """Give an open app for reading, without letting it take up work."""
    if app.is_open:
        yield app
        return
    async with app.reader(_READERS) as reader:
        yield reader


async def _replay(app: Durable, history: History, limit_s: float) -> ReplayReport:
    return await replay_history(
        history, app.registry, app.values, app.dependencies, limit_s=limit_s
    )


class ManualClock:
    """A wall clock that stands still until it is moved, and sleeps that follow it.

    ``Durable(..., clock=clock, sleeper=clock.sleep)``.

    Args:
        now_ms: Where it starts, milliseconds since the epoch.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has been moved on by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_ms + round(seconds * 1000), due))
        await due

    def advance(self, seconds: float) -> None:
        """Move the clock on and wake whoever is due."""
        self.now_ms += round(seconds * 1000)
        waiting = []
        for due_ms, future in self._sleepers:
            if future.done():
                continue
            if due_ms <= self.now_ms:
                future.set_result(None)
            else:
                waiting.append((due_ms, future))
        self._sleepers = waiting


async def crash_once(
    make_app: Callable[[CrashInjector], Durable],
    start: Callable[[Durable], Handle[Any]],
    at: int,
    when: Literal["before", "after"] = "after",
) -> bool:
    """Run until the ``at``-th durable operation, then drop the app as a dead process would.

    Args:
        make_app: Makes an app with ``intercept=`` the injector it is given.
        start: Starts the execution.
        at: Which operation, from 1.
        when: ``before`` or ``after`` the store has it.

    Returns:
        Whether the operation was reached; False: the execution had ended before.
    """
    injector = CrashInjector(at, when)
    app = make_app(injector)
    await app.start()
    try:
        handle = start(app)
        end = asyncio.ensure_future(_ended(handle))
        crash = asyncio.ensure_future(injector.crashed.wait())
        await asyncio.wait({end, crash}, return_when=asyncio.FIRST_COMPLETED)
        crashed = not end.done()
        end.cancel()
        crash.cancel()
        await asyncio.gather(end, crash, return_exceptions=True)
    finally:
        await app.abandon()
    return crashed


async def _ended(handle: Handle[Any]) -> None:
    with contextlib.suppress(Exception):
        await handle


async def crash_at_every_operation(
    make_app: Callable[..., Durable],
    start: Callable[[Durable], Handle[Any]],
    check: Callable[[Any], Awaitable[None] | None],
    new_database: Callable[[], None],
) -> int:
    """Crash at each operation boundary in turn, resume, and check the result.

    Args:
        make_app: Makes an app, with ``intercept=`` what it is given or None.
        start: Starts the execution.
        check: Called with each resumed execution's result.
        new_database: Called before each round, so that ``make_app`` starts from nothing.

    Returns:
        How many boundaries there were.
    """
    number = 0
    while True:
        number += 1
        for when in ("before", "after"):
            new_database()
            crashed = await crash_once(make_app, start, number, when)
            async with make_app(None) as app:
                checked = check(await start(app))
                if checked is not None:
                    await checked
            if not crashed:
                return number - 1
