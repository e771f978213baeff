"""Reporting of exceptions that nobody received."""

from __future__ import annotations

import asyncio
import logging

__all__ = ["logger", "report_lost", "running_loop"]

logger = logging.getLogger("promises")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop running in this thread, or ``None``."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def report_lost(message: str, exception: BaseException, source: object) -> None:
    """Report an exception whose promise is gone: to the running loop's handler, else the log.

    Args:
        message: what was lost, in one line.
        exception: the exception nobody received.
        source: the promise or handle it came from, passed to the handler as ``future``.
    """
    loop = running_loop()
    if loop is not None:
        loop.call_exception_handler({"message": message, "exception": exception, "future": source})
        return
    logger.error(
        "%s: %r", message, source, exc_info=(type(exception), exception, exception.__traceback__)
    )
