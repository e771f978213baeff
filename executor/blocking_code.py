"""Follows functions of earlier cells whose source is not at hand, by their code."""

from __future__ import annotations

from typing import Any

from executor.blocking_statements import Statements
from executor.blocking_values import Args, Value

__all__ = ["Followed"]


class Followed(Statements):
    """The whole analysis: syntax trees, and code objects where there is no tree."""

    def run_code(self, function: Any, args: Args) -> Value | None:
        """Follow a function by its code object."""
        return None
