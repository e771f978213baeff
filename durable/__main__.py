"""``python -m durable`` and the ``sostenuto`` command."""

from __future__ import annotations

import os
import sys
from typing import Any

from durable.loading import load

__all__ = ["main"]


def main() -> Any:
    """Run the command line; ends the process with a documented exit code."""
    open_missing_streams()
    try:
        return load("durable.cli").main()
    except KeyboardInterrupt:
        print("sostenuto: interrupted", file=sys.stderr)
        sys.exit(130)


def open_missing_streams() -> None:
    """Give closed standard streams the null device, before a database gets their numbers.

    Standard input stays missing for Python, so that a command that reads it can say so.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
