"""The one live dictionary that is both globals and locals of every cell."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from typing import Any

__all__ = ["ENGINE_INTERNALS", "NamespaceManager"]

ENGINE_INTERNALS = frozenset({"_", "__", "___", "Out"})
"""Names that the engine keeps itself; updates from outside leave them alone."""

# IPython's size and its way of making room: a full Out loses its oldest fifth.
_MAX_RESULTS = 1000
_RESULTS_DROPPED = _MAX_RESULTS // 5

_ABSENT: Any = object()


class NamespaceManager:
    """Owns a session's namespace and the history of its results.

    Args:
        namespace: The dictionary to live in; a new one by default. It gets what ``__main__`` has
            where it does not have it yet.
    """

    def __init__(self, namespace: dict[str, Any] | None = None) -> None:
        self._namespace = {} if namespace is None else namespace
        self.cell_number = 0
        """Number of the cell that was begun last; cells count from 1."""
        self._recorded_number = 0
        self._results: tuple[Any, Any, Any] = ("", "", "")
        for name, value in self._initial().items():
            self._namespace.setdefault(name, value)

    def _initial(self) -> dict[str, Any]:
        latest, second, third = self._results
        return {
            "__name__": "__main__",
            "__doc__": None,
            "__package__": None,
            "__loader__": None,
            "__spec__": None,
            "__builtins__": builtins,
            "asyncio": asyncio,
            "_": latest,
            "__": second,
            "___": third,
            "Out": {},
        }

    @property
    def namespace(self) -> dict[str, Any]:
        """The live dictionary; its identity never changes."""
        return self._namespace

    def begin_cell(self) -> int:
        """Count one more cell and return its number."""
        self.cell_number += 1
        return self.cell_number

    def update_namespace(
        self, updates: Mapping[str, Any], source_context: str = "user"
    ) -> dict[str, Any]:
        """Merge ``updates`` into the namespace.

        Args:
            updates: New values by name.
            source_context: Who asks. Only ``"engine"`` may change :data:`ENGINE_INTERNALS`.

        Returns:
            What was really changed: names that are new, or are bound to another object than
            before. Objects are compared by identity alone, so their own ``__eq__`` never runs.
        """
        namespace = self._namespace
        changed: dict[str, Any] = {}
        for name, value in updates.items():
            if name in ENGINE_INTERNALS:
                if source_context != "engine":
                    continue
            elif name.startswith("__") and name.endswith("__"):
                continue
            if namespace.get(name, _ABSENT) is not value:
                namespace[name] = value
                changed[name] = value
        return changed

    def record_expression_result(self, value: Any) -> None:
        """Shift ``_``, ``__`` and ``___`` by one, and enter ``value`` in ``Out``.

        As in IPython: None is not recorded, the dictionary ``Out`` itself neither, and while a
        user's own value stands in one of the three names they are all left alone.
        """
        if value is None or value is self._namespace.get("Out"):
            return
        if self._recorded_number >= self.cell_number:
            self.cell_number = self._recorded_number + 1
        self._recorded_number = self.cell_number
        self._shift(value)
        results = self._namespace.get("Out")
        if type(results) is dict:
            if len(results) >= _MAX_RESULTS:
                for number in list(results)[:_RESULTS_DROPPED]:
                    del results[number]
            results[self.cell_number] = value

    def _shift(self, value: Any) -> None:
        namespace = self._namespace
        latest, second, third = self._results
        is_ours = (
            namespace.get("_", latest) is latest
            and namespace.get("__", second) is second
            and namespace.get("___", third) is third
        )
        self._results = (value, latest, second)
        if is_ours and not hasattr(builtins, "_"):
            namespace["_"] = value
            namespace["__"] = latest
            namespace["___"] = second
