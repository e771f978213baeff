"""Noticing that this process is a forked child, without a system call per request."""

from __future__ import annotations

import os

__all__ = ["generation"]

#: How many forks lie between this process and the one that imported the module.
generation = 0


def _count() -> None:
    global generation  # noqa: PLW0603  # the one fact about this process that a fork changes
    generation += 1


os.register_at_fork(after_in_child=_count)
