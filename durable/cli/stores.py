"""Opening the store that the command line names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from resonate_base import ConnectorError

from durable.cli.exits import Exit, ExitCode
from durable.config import EngineUrl, default_database, parse_url
from durable.errors import ConfigurationError, DurableError, EngineUnavailableError
from durable.runtime import Durable

__all__ = ["existing_file", "needed_file", "opened", "store_url"]

#: Seconds that an engine across a network has for its first answer.
ANSWER_S = 10.0


@contextlib.asynccontextmanager
async def opened(
    db: str | None, *, works: bool = True, creates: bool | None = None
) -> AsyncIterator[Durable]:
    """Open the app for one command.

    Args:
        db: The file or URL; None for the default.
        works: Whether the command runs executions. One that does not joins a group of
            its own, so that no work is handed to it.
        creates: Whether a database file that does not exist is made; ``works`` by default.

    Raises:
        Exit: The store cannot be opened or does not exist (3), the URL cannot be used or
            the request was refused (2).
    """
    if not (works if creates is None else creates):
        existing_file(db)
    try:
        app = Durable(db) if works else Durable(db, group="sostenuto-command")
    except ConfigurationError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(app)
            await _start(app, store_url(db))
            yield app
    except (ConnectorError, EngineUnavailableError) as error:
        raise Exit(ExitCode.UNREACHABLE, _text(error)) from error
    except OSError as error:
        if app.is_open:
            raise
        raise Exit(ExitCode.UNREACHABLE, f"the store cannot be opened: {error}") from error
    except DurableError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error


async def _start(app: Durable, url: EngineUrl) -> None:
    """Start the app; an engine across a network must answer soon."""
    if url.path is not None:
        await app.start()
        return
    try:
        async with asyncio.timeout(ANSWER_S):
            await app.start()
            await app.engine.promises.search(None, None, 1, None)
    except TimeoutError:
        raise Exit(
            ExitCode.UNREACHABLE,
            f"no engine answered at {url.url!r} within {ANSWER_S:g} s: check the address, and "
            "that it runs",
        ) from None


def store_url(db: str | None) -> EngineUrl:
    """Return what the command line names, or the default.

    Raises:
        Exit: It names no engine.
    """
    try:
        return parse_url(default_database() if db is None else db)
    except ConfigurationError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error


def existing_file(db: str | None) -> Path | None:
    """Return the database file that a command is to read, or None for other engines.

    Raises:
        Exit: There is none: a command that only reads must not make one.
    """
    path = store_url(db).path
    if path is not None and not path.exists():
        named = "" if db is not None else ", the default one"
        raise Exit(
            ExitCode.UNREACHABLE,
            f"there is no database {str(path)!r}{named}: sostenuto run makes it; name another "
            "with --db",
        )
    return path


def needed_file(db: str | None, command: str) -> Path:
    """Return the database file of a command that works on files alone.

    Raises:
        Exit: Another engine is named, or there is no such file.
    """
    path = existing_file(db)
    if path is None:
        raise Exit(
            ExitCode.USAGE,
            f"sostenuto {command} works on a SQLite file, and --db {db!r} names another engine: "
            "use that engine's own tools",
        )
    return path


def _text(error: BaseException) -> str:
    inner = getattr(error, "error", None)
    return str(inner) if isinstance(inner, Exception) and str(inner) else str(error)
