"""A signal to the main thread that ends a blocking system call of a cell.

``SIGURG`` is used: its default action is to be ignored, so a process in which the handler is not
installed any more takes no harm from a late one. The handler is installed while an executor whose
loop is on the main thread is open, and hands every signal it did not send on to the handler that
was there before. Windows has no such signal.
"""

import contextlib
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from executor.interrupts import Guard, InterruptError

_SIGNAL: Final[int | None] = (
    int(signal.SIGURG) if sys.platform != "win32" and hasattr(signal, "pthread_kill") else None
)
_Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalBridge:
    """The process's use of the signal: who needs it, and what was installed before."""

    def __init__(self) -> None:
        # An executor that nobody closed is no user any more once it is gone.
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._previous: _Handler = None
        self._installed = False
        self._aimed: tuple[Guard, ...] = ()

    def acquire(self, user: object) -> bool:
        """Install the handler if this is the main thread.

        Args:
            user: An executor; the handler stays until its :meth:`release`.

        Returns:
            Whether it is installed; where not, another thread or platform is to blame.
        """
        if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
            return False
        if not self._installed:
            try:
                self._previous = signal.signal(_SIGNAL, self._handle)
            except ValueError:  # not the main interpreter
                return False
            self._installed = True
        self._users.add(user)
        return True

    def release(self, user: object) -> None:
        """Put the previous handler back if nobody else needs ours."""
        self._users.discard(user)
        if self._users or not self._installed or _SIGNAL is None:
            return
        if threading.current_thread() is not threading.main_thread():
            return
        # A handler that was installed over ours stays: taking it away is not ours to do. None is
        # what a handler installed from C reads as, and cannot be put back from Python.
        if signal.getsignal(_SIGNAL) == self._handle:
            signal.signal(_SIGNAL, signal.SIG_DFL if self._previous is None else self._previous)
        self._installed = False

    def send(self, guard: Guard) -> bool:
        """Interrupt whatever system call the main thread is in, for the sake of a guard.

        Returns:
            False where that is impossible: another thread, another handler, another platform.
        """
        if _SIGNAL is None or guard.thread_id != threading.main_thread().ident:
            return False
        if not self._installed or signal.getsignal(_SIGNAL) != self._handle:
            return False
        self._aimed = (*(other for other in self._aimed if not other.released), guard)
        with contextlib.suppress(ProcessLookupError):
            signal.pthread_kill(guard.thread_id, _SIGNAL)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        aimed, self._aimed = self._aimed, ()
        if not aimed:
            if callable(self._previous):
                self._previous(number, frame)
            return
        for guard in aimed:
            if frame is not None and guard.admits(frame):
                guard.take()
                raise InterruptError(guard.reason)
