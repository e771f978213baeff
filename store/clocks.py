"""Clocks: the real one, and telling a clock that runs from one that is set by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["ClockWatch", "now_ms"]

#: A clock given by the caller counts as running after this many samples in a row, at
#: least 50 ms apart, in which it moved as far as the real time did. A clock that a test
#: sets by hand does not pass by accident; one that is merely shifted passes within 0.3 s.
_SAMPLES: Final = 5
_SAMPLE_NS: Final = 50_000_000
_TOLERANCE_MS: Final = 3


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class ClockWatch:
    """Decides whether background timers may follow a clock.

    With the real clock they do. A clock that stands still or is set by hand belongs to
    its caller, who says when time has passed by calling `tick()`.

    Args:
        clock: Returns milliseconds since the epoch.
        monotonic_ns: Real time that only moves forward, in nanoseconds.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._agreed = 0
        self._last = (clock(), monotonic_ns())
        self.runs = clock is now_ms

    def observe(self) -> bool:
        """Take a sample when it is time, and return whether the clock runs by itself."""
        if self.runs:
            return True
        real_ns = self._monotonic_ns()
        elapsed_ms = (real_ns - self._last[1]) / 1e6
        if elapsed_ms * 1e6 >= _SAMPLE_NS:
            shown = self._clock()
            agrees = abs(shown - self._last[0] - elapsed_ms) <= _TOLERANCE_MS
            self._agreed = self._agreed + 1 if agrees else 0
            self._last = (shown, real_ns)
            self.runs = self._agreed >= _SAMPLES
        return self.runs
