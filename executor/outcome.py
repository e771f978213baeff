"""How a cell ended: with a value, or with an error as the user's own frames raised it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Outcome", "drop_own_frame", "users_traceback"]

_PACKAGE_DIR = str(Path(__file__).parent)

# The slots themselves: a user's exception class may forbid or intercept its attributes.
_CONTEXT: Any = BaseException.__dict__["__context__"]
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]


def users_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """Return ``traceback`` from its first frame that is not this package's own."""
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE_DIR):
            return traceback
        traceback = traceback.tb_next
    return None


def drop_own_frame(error: BaseException) -> None:
    """Take the frame that catches ``error`` out of its traceback.

    For the handler of that frame: a bare ``raise`` after it does not enter the frame again.
    """
    traceback = _TRACEBACK.__get__(error)
    if traceback is not None:
        BaseException.with_traceback(error, traceback.tb_next)


class Outcome:
    """The end of one cell.

    Attributes:
        value: The value of the last expression; None when there is none, or an error.
        error: What the code raised, or None.
    """

    __slots__ = ("_context", "_traceback", "error", "value")

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error
        self._traceback: TracebackType | None = None
        self._context: BaseException | None = None
        if error is not None:
            self._traceback = users_traceback(_TRACEBACK.__get__(error))
            BaseException.with_traceback(error, self._traceback)
            self._context = _CONTEXT.__get__(error)

    def restore(self, raised: BaseException) -> None:
        """Undo what raising ``raised`` once more, in a frame of this package, did to it.

        For the handler of that frame, to be followed by a bare ``raise``: that adds no traceback
        entry for the frame that it stands in, so no frame of this package is left. The context
        is put back because raising inside a host's ``except`` block overwrites the cell's own.
        """
        BaseException.with_traceback(raised, self._traceback)
        _CONTEXT.__set__(raised, self._context)
        self.forget()

    def forget(self) -> None:
        """Drop the error: an exception that a frame refers to is a reference cycle."""
        self.error = self._traceback = self._context = None
