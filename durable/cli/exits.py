"""The command's exit codes, and errors that end it with one."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit", "ExitCode"]


class ExitCode(IntEnum):
    """Exit codes, as documented in ``sostenuto --help``."""

    DONE = 0
    RAISED = 1
    USAGE = 2
    UNREACHABLE = 3
    SUSPENDED = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


class Exit(Exception):  # noqa: N818 - ends the command, is not always an error
    """Ends the command with a message on standard error and a code."""

    def __init__(self, code: ExitCode, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
