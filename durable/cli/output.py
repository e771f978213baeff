"""Standard output that is full or no longer read.

What becomes of its output says nothing about an execution: ``| head -1`` or a full disk must not
put a BrokenPipeError on record as its end.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["guarded_output", "loss_text"]


class _Guarded(io.RawIOBase):
    """A file descriptor that takes everything, and tells once when nobody takes it any more."""

    def __init__(self, number: int, on_lost: Callable[[OSError], None]) -> None:
        self._number = number
        self._on_lost = on_lost
        self._is_lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._is_lost:
            return size
        try:
            return os.write(self._number, data)
        except BlockingIOError:
            raise
        except OSError as error:
            self._is_lost = True
            self._on_lost(error)
            return size


@contextlib.contextmanager
def guarded_output(on_lost: Callable[[OSError], None]) -> Iterator[None]:
    """Keep what cannot be written from failing the code that prints it.

    Each line is written as it is printed: a step that is done never runs again, so what it
    printed must not die in a buffer.

    Args:
        on_lost: Called once, from whatever thread prints, when standard output is lost. What is
            lost of standard error is dropped: there is nowhere left to say so.
    """
    out, err = sys.stdout, sys.stderr
    kept: list[io.TextIOWrapper] = []

    def guard(stream: Any, lost: Callable[[OSError], None]) -> Any:
        if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
            return stream
        stream.flush()
        try:
            raw = _Guarded(stream.fileno(), lost)
        except OSError:
            return stream
        kept.append(
            io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=True,
            )
        )
        return kept[-1]

    sys.stdout, sys.stderr = guard(out, on_lost), guard(err, lambda _error: None)
    try:
        yield
    finally:
        for stream in kept:
            stream.flush()
        sys.stdout, sys.stderr = out, err


def loss_text(error: OSError) -> str:
    """Return why output was lost, for people."""
    if error.errno == errno.EPIPE:
        return "nobody reads standard output any more"
    return f"standard output cannot be written: {error.strerror or error}"
