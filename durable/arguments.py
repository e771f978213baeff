"""Noticing steps that change what they are given, which a resume does not repeat."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ["ArgumentWatch"]

logger = logging.getLogger(__name__)

#: Calls of each function after which it is taken to change nothing: those that do, do so
#: from the beginning, and a digest costs some tens of microseconds.
_CALLS_WATCHED = 3

#: Types of which nothing can be changed; calls with these alone need no second digest.
_FIXED = frozenset({str, int, float, bool, bytes, type(None)})


class ArgumentWatch:
    """Compares the arguments of an execution's steps before and after.

    Args:
        execution_id: Whose steps.
        digest: Returns equal texts for equal arguments.
    """

    def __init__(
        self, execution_id: str, digest: Callable[[tuple[Any, ...], dict[str, Any]], str]
    ) -> None:
        self._execution_id = execution_id
        self._digest = digest
        self._calls: Counter[str] = Counter()

    def look(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], before: str) -> None:
        """Warn where a call of ``name`` that has returned left its arguments changed.

        Args:
            name: The step's function.
            args: Its arguments.
            kwargs: Likewise.
            before: Their digest before the call.
        """
        if all(type(arg) in _FIXED for arg in args) and not kwargs:
            return
        if self._calls[name] >= _CALLS_WATCHED:
            return
        self._calls[name] += 1
        if self._digest(args, kwargs) == before:
            return
        self._calls[name] = _CALLS_WATCHED
        logger.warning(
            "an argument of step %s of %s was changed while it ran. A resume answers the step from "
            "its record and does not repeat what it changed: let the step return that instead",
            name,
            self._execution_id,
        )
