"""Standard output and error, routed to the transport of the cell that writes.

The streams in :mod:`sys` are shared by the whole process. While an executor with a transport
lives, a proxy stands in for each; it asks at every write whose code is writing. Code of no cell,
and of cells without a transport, writes where it always did.
"""

from __future__ import annotations

import codecs
import concurrent.futures
import concurrent.futures.thread
import io
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TextIO

from executor.runs import CURRENT_RUN, THREAD_RUN_ATTRIBUTE, Run, current_run
from executor.transport import OutputMessage

__all__ = ["RoutedStream", "acquire", "note_streams", "refresh", "release"]

type _StreamName = Literal["stdout", "stderr"]

_STREAMS: tuple[_StreamName, ...] = ("stdout", "stderr")


class RoutedStream(io.TextIOBase):
    """A stand-in for ``sys.stdout`` or ``sys.stderr``.

    Args:
        target: The stream it stands in for; None in programs without a console.
        name: Which of the two it is.
    """

    def __init__(self, target: TextIO | None, name: _StreamName) -> None:
        self._target = target
        self._name = name

    @property
    def target(self) -> TextIO | None:
        """The stream that was there before."""
        return self._target

    def write(self, text: str) -> int:
        """Send ``text`` to the transport of the cell that writes, or to the original stream."""
        run = _capturing_run()
        if run is not None:
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            if not text or run.is_muted or _send(run, self._name, text):
                return len(text)
        return len(text) if self._target is None else self._target.write(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # text, not bytes
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the original stream; what goes to a transport is never held back."""
        if self._target is not None and _capturing_run() is None:
            self._target.flush()

    def close(self) -> None:
        """Do nothing: the original stream is not this one's to close."""

    def __del__(self) -> None:
        """Leave the original stream open, where the base class would close this one."""

    def isatty(self) -> bool:
        """False to a cell whose output is sent elsewhere."""
        return _capturing_run() is None and self._target is not None and self._target.isatty()

    def fileno(self) -> int:
        """The original stream's descriptor: what subprocesses inherit."""
        if self._target is None:
            raise io.UnsupportedOperation("fileno")
        return self._target.fileno()

    def writable(self) -> bool:
        """True, as of every output stream."""
        return True

    @property
    def closed(self) -> bool:
        """Whether the original stream is closed."""
        return self._target is not None and self._target.closed

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base class has a plain attribute
        """The original stream's encoding."""
        return getattr(self._target, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The original stream's way with characters it cannot encode."""
        return getattr(self._target, "errors", None)

    @property
    def buffer(self) -> Any:
        """The binary stream below: a routed one for a cell, else the original's."""
        run = _capturing_run()
        return getattr(self._target, "buffer", None) if run is None else _RoutedBuffer(self)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "_target":  # half-made instances have none
            raise AttributeError(attribute)
        return getattr(self._target, attribute)


class _RoutedBuffer(io.RawIOBase):
    """Takes bytes for a routed stream."""

    def __init__(self, stream: RoutedStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(self._decoder.decode(bytes(data)))
        return memoryview(data).nbytes


def _capturing_run() -> Run | None:
    run = current_run()
    if run is None or run.outlet is None or not run.outlet.is_open:
        return None
    return run


def _send(run: Run, stream: _StreamName, text: str) -> bool:
    assert run.outlet is not None  # a capturing run has one
    return run.outlet.send(OutputMessage(run.execution_id, run.cell, stream, text))


# -- threads ---------------------------------------------------------------------------------------

_original_start = threading.Thread.start
_original_submit = concurrent.futures.ThreadPoolExecutor.submit
# A pool's worker serves many cells: its work carries the cell, not the thread.
_pool_worker: Callable[..., Any] | None = getattr(concurrent.futures.thread, "_worker", None)


def _start(thread: threading.Thread) -> None:
    run = current_run()
    if run is not None and getattr(thread, "_target", None) is not _pool_worker:
        setattr(thread, THREAD_RUN_ATTRIBUTE, run)
    _original_start(thread)


def _submit(
    pool: concurrent.futures.ThreadPoolExecutor,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> concurrent.futures.Future[Any]:
    run = current_run()
    if run is not None:
        function = partial(_run_for, run, function)
    return _original_submit(pool, function, *args, **kwargs)


def _run_for(run: Run, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = CURRENT_RUN.set(run)
    try:
        return function(*args, **kwargs)
    finally:
        CURRENT_RUN.reset(token)


# -- installation ----------------------------------------------------------------------------------

_lock = threading.Lock()
_users = 0
# What a cell itself put into sys.stdout stays there; what the host puts there is wrapped again.
_left_by_cells: dict[str, object] = {}


def acquire() -> None:
    """Install the proxies for one more executor."""
    global _users  # noqa: PLW0603  # counts the executors of the process
    with _lock:
        _users += 1
        _wrap_streams()
        if _users == 1:
            _patch(_start, _submit)


def release() -> None:
    """Remove the proxies when the last executor is gone."""
    global _users  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0:
            _left_by_cells.clear()
            for name in _STREAMS:
                stream = getattr(sys, name)
                if type(stream) is RoutedStream:
                    setattr(sys, name, stream.target)
            _patch(_original_start, _original_submit)


def refresh() -> None:
    """Before a cell: wrap the streams again where the host has replaced them."""
    if type(sys.stdout) is not RoutedStream or type(sys.stderr) is not RoutedStream:
        with _lock:
            _wrap_streams()


def note_streams() -> None:
    """After a cell: remember what it left in place of the streams, to leave it there."""
    for name in _STREAMS:
        stream = getattr(sys, name)
        if type(stream) is RoutedStream:
            _left_by_cells.pop(name, None)
        else:
            _left_by_cells[name] = stream


def _wrap_streams() -> None:
    for name in _STREAMS:
        stream = getattr(sys, name)
        if type(stream) is not RoutedStream and (
            stream is None or stream is not _left_by_cells.get(name)
        ):
            setattr(sys, name, RoutedStream(stream, name))


def _patch(start: Callable[..., Any], submit: Callable[..., Any]) -> None:
    threading.Thread.start = start  # type: ignore[method-assign]
    concurrent.futures.ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
