"""Opening the store that the command line names."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from resonate.codec import Encryptor
from resonate_base import ConnectorError

from durable.cli.exits import Exit, ExitCode
from durable.cli.groups import DEFAULT_GROUP, READERS_GROUP
from durable.config import EngineUrl, default_database, hide_password, parse_url
from durable.errors import (
    ConfigurationError,
    DurableError,
    EngineUnavailableError,
    UndecodableValueError,
)
from durable.runtime import Durable

__all__ = ["encryptor_named", "existing_file", "needed_file", "opened", "store_url"]

#: Seconds that an engine across a network has for its first answer.
ANSWER_S = 10.0

#: Seconds for a connection to an engine's port: what is not there is told at once, not after
#: the retries of a client.
CONNECT_S = 3.0

_DEFAULT_PORTS = {"http": 80, "https": 443, "nats": 4222, "tls": 4222}


@contextlib.asynccontextmanager
async def opened(
    db: str | None, *, group: str = READERS_GROUP, creates: bool = False
) -> AsyncIterator[Durable]:
    """Open the app for one command.

    Args:
        db: The file or URL; None for the default.
        group: The group whose work the command does.
        creates: Whether a database file that does not exist is made.

    Raises:
        Exit: The store cannot be opened or does not exist (3), the URL cannot be used or
            the request was refused (2).
    """
    if not creates:
        existing_file(db)
    try:
        app = Durable(db, group=group, encryptor=encryptor_named())
    except ConfigurationError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error
    started = False
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(app)
            await _start(app, store_url(db))
            started = True
            # A group of a command's own is for what it runs; what its code calls by name is
            # the work of apps.
            app.engine._group = DEFAULT_GROUP  # noqa: SLF001 - the SDK has one name for both
            yield app
    except (ConnectorError, EngineUnavailableError) as error:
        raise Exit(ExitCode.UNREACHABLE, _text(error)) from error
    except OSError as error:
        if started:
            raise
        raise Exit(ExitCode.UNREACHABLE, f"the store cannot be opened: {error}") from error
    except DurableError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error


async def _start(app: Durable, url: EngineUrl) -> None:
    """Start the app; an engine across a network must answer soon."""
    if url.path is not None or url.kind == "memory":
        await app.start()
        return
    await _connect(url)
    try:
        with _quiet_sdk():
            async with asyncio.timeout(ANSWER_S):
                await app.start()
                await app.engine.promises.search(None, None, 1, None)
    except TimeoutError:
        raise _unreachable(url, f"no answer within {ANSWER_S:g} s") from None
    except (ConnectorError, EngineUnavailableError) as error:
        raise _unreachable(url, _text(error)) from error
    except UndecodableValueError as error:
        raise Exit(
            ExitCode.UNREACHABLE,
            f"what answers at {url.shown!r} is no Resonate engine: check the address "
            f"({_brief(error.__cause__ or error)})",
        ) from error


async def _connect(url: EngineUrl) -> None:
    """Open a connection to an engine's port and close it again.

    Raises:
        Exit: Nothing listens there.
    """
    parts = urlsplit(url.url)
    if parts.scheme not in _DEFAULT_PORTS or "," in parts.netloc or not parts.hostname:
        return  # several hosts, or an address that only its client can read
    try:
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except ValueError as error:
        raise Exit(ExitCode.USAGE, f"{url.shown!r} cannot be used: {error}") from error
    except TimeoutError:
        raise _unreachable(url, f"no connection within {CONNECT_S:g} s") from None
    except OSError as error:
        refused = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise _unreachable(url, refused or str(error)) from error
    writer.close()


def _unreachable(url: EngineUrl, reason: str) -> Exit:
    return Exit(
        ExitCode.UNREACHABLE,
        f"no engine answers at {url.shown!r}: {reason}. Start it, or name another with --db",
    )


@contextlib.contextmanager
def _quiet_sdk() -> Iterator[None]:
    """Keep the SDK's own lines about its retries out of a start that is reported as a whole."""
    logger = logging.getLogger("resonate")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


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
            f"sostenuto {command} works on a SQLite file, and --db names another engine, "
            f"{hide_password(str(db))!r}: use that engine's own tools",
        )
    return path


def _text(error: BaseException) -> str:
    inner = getattr(error, "error", None)
    return str(inner) if isinstance(inner, Exception) and str(inner) else str(error)


def encryptor_named(environ: Mapping[str, str] = os.environ) -> Encryptor | None:
    """Return the encryptor that ``$SOSTENUTO_ENCRYPTOR`` names as ``MODULE:NAME``.

    Modules are found as Python finds them, and in the working directory.

    Raises:
        Exit: It cannot be imported, or is no encryptor.
    """
    place = environ.get("SOSTENUTO_ENCRYPTOR")
    if not place:
        return None
    module, _, name = place.partition(":")
    if not module or not name:
        raise Exit(ExitCode.USAGE, f"SOSTENUTO_ENCRYPTOR={place!r} is not MODULE:NAME")
    if "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise Exit(
            ExitCode.USAGE,
            f"SOSTENUTO_ENCRYPTOR={place!r} cannot be imported: {type(error).__name__}: {error}",
        ) from error
    if not callable(getattr(found, "encrypt", None)) or not callable(
        getattr(found, "decrypt", None)
    ):
        raise Exit(
            ExitCode.USAGE,
            f"SOSTENUTO_ENCRYPTOR={place!r} is {type(found).__name__}: name an object with "
            "encrypt(bytes) and decrypt(bytes)",
        )
    return cast("Encryptor", found)


def _brief(error: BaseException) -> str:
    text = " ".join(_text(error).split())
    return text if len(text) <= 160 else f"{text[:160]}..."
