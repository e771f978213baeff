"""Opening the store that the command line names."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from resonate_base import ConnectorError

from durable.cli.exits import Exit, ExitCode
from durable.errors import ConfigurationError, DurableError, EngineUnavailableError
from durable.runtime import Durable

__all__ = ["opened"]


@contextlib.asynccontextmanager
async def opened(db: str | None, *, works: bool = True) -> AsyncIterator[Durable]:
    """Open the app for one command.

    Args:
        db: The file or URL; None for the default.
        works: Whether the command runs executions. One that does not joins a group of
            its own, so that no work is handed to it.

    Raises:
        Exit: The store cannot be opened (3), the URL cannot be used or the request
            was refused (2).
    """
    try:
        app = Durable(db) if works else Durable(db, group="sostenuto-command")
    except ConfigurationError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error
    try:
        async with app:
            yield app
    except (ConnectorError, EngineUnavailableError) as error:
        raise Exit(ExitCode.UNREACHABLE, _text(error)) from error
    except OSError as error:
        if app.is_open:
            raise
        raise Exit(ExitCode.UNREACHABLE, f"the store cannot be opened: {error}") from error
    except DurableError as error:
        raise Exit(ExitCode.USAGE, str(error)) from error


def _text(error: BaseException) -> str:
    inner = getattr(error, "error", None)
    return str(inner) if isinstance(inner, Exception) and str(inner) else str(error)
