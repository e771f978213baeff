"""Ctrl-C and SIGTERM for ``sostenuto run``: a clean stop, and an end where none comes.

A program may hold the event loop, and a thread of a step may never end. So the signals are taken
by Python's own handlers, which run between two instructions of whatever the main thread does, and
a thread of its own sees to it that the process ends. Ending it hard loses nothing: that is what
the store is for, and another process takes the execution over as after a kill.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from durable.cli.exits import ExitCode

__all__ = ["Stopper"]

#: Seconds in which a loop that is alive answers.
ANSWER_S = 1.0

#: Seconds for the code's cleanup and for handing back: more than both take where all is well.
CLEANUP_S = 10.0

#: Seconds that threads have to end after everything else has.
THREADS_S = 1.0

#: Seconds for the last output.
FLUSH_S = 0.5


class Stopper:
    """Turns the first signal into a clean stop; a second one ends the process at once.

    Args:
        say: Prints a line for the user.
        exit_process: Ends the process without any cleanup.

    Attributes:
        interrupted: Set by the first signal.
        farewell: What to say when the process must end without its loop.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        exit_process: Callable[[int], Any] = os._exit,
    ) -> None:
        self.interrupted = asyncio.Event()
        self.farewell = "interrupted"
        self._say = say
        self._exit_process = exit_process
        self._loop = asyncio.get_running_loop()
        # The one queue that may be put to while a signal interrupts another put.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._seen = False
        self._cancels: asyncio.Task[Any] | None = None

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals; afterwards they do what they did before."""
        before: dict[signal.Signals, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread: its owner handles them
                before[number] = signal.signal(number, self._handle)
        _thread.start_new_thread(self._judge, ())
        try:
            yield
        finally:
            self._stopped.set()
            self._signals.put(0)
            for number, handler in before.items():
                # After a signal the next one is to end what is left, whatever that is.
                signal.signal(number, signal.SIG_DFL if self._seen else handler)

    @contextlib.contextmanager
    def cancelling(self) -> Iterator[None]:
        """Let the first signal cancel this task while the block runs: nothing has begun yet."""
        if self.interrupted.is_set():
            raise asyncio.CancelledError
        self._cancels = asyncio.current_task()
        try:
            yield
        finally:
            self._cancels = None

    def stop(self, farewell: str) -> None:
        """Stop as the first signal does, and say why at the end; from any thread, any time."""
        self.farewell = farewell
        if not self._seen:
            self._seen = True
            self._signals.put(signal.SIGTERM)

    def leave(self, code: ExitCode) -> None:
        """End the process soon, although a thread of a step that timed out may still run."""

        def end() -> None:
            time.sleep(THREADS_S)
            self._end(code)

        _thread.start_new_thread(end, ())

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._seen:
            _show_cursor()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._seen = True
        self._signals.put(number)

    def _judge(self) -> None:
        if not self._signals.get():
            return
        answered = threading.Event()

        def answer() -> None:
            self.interrupted.set()
            answered.set()
            if self._cancels is not None:
                self._cancels.cancel()

        with contextlib.suppress(RuntimeError):  # the loop was closed a moment ago
            self._loop.call_soon_threadsafe(answer)
        if not answered.wait(ANSWER_S) and not self._stopped.is_set():
            self._end(ExitCode.INTERRUPTED, self.farewell)
        if not self._stopped.wait(ANSWER_S):
            self._say("stopping; Ctrl-C again ends it at once")
        if self._stopped.wait(CLEANUP_S):
            time.sleep(THREADS_S)
        self._end(ExitCode.INTERRUPTED)

    def _end(self, code: ExitCode, text: str = "") -> None:
        def flush() -> None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            _show_cursor()
            if text and sys.__stderr__ is not None:
                # Past a live display, which would draw itself again below.
                print(f"sostenuto: {text}", file=sys.__stderr__, flush=True)

        # The streams may be held by the very code that does not end.
        flushed = threading.Thread(target=flush, daemon=True)
        flushed.start()
        flushed.join(FLUSH_S)
        self._exit_process(int(code))


def _show_cursor() -> None:
    """Undo what a live display leaves on a terminal."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\r\x1b[K\x1b[?25h")
