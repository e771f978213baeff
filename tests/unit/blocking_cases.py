"""Reads the case files of blocking detection and runs a case's earlier cell."""

from __future__ import annotations

import contextlib
import io
import linecache
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "cases" / "blocking"


@dataclass(frozen=True)
class Case:
    family: str
    title: str
    expected: str
    setup: str
    source: str

    def __str__(self) -> str:
        return f"{self.family}: {self.title}"


def read_cases() -> list[Case]:
    """All cases of the folder, in the order of their files."""
    cases = []
    for path in sorted(FOLDER.glob("*.txt")):
        for block in path.read_text().split("\n=== "):
            head, _, body = block.removeprefix("=== ").partition("\n")
            expected, _, title = head.partition(" ")
            setup, mark, source = body.partition("--- cell\n")
            if not mark:
                setup, source = "", body
            cases.append(Case(path.stem, title, expected, setup, source))
    return cases


def namespace_after(setup: str, *, with_source: bool) -> dict[str, Any]:
    """The live namespace after an earlier cell.

    Args:
        setup: The earlier cell.
        with_source: Register its source the way an interactive session does;
            otherwise only its code objects are left of it.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    if setup:
        filename = f"<cell {hash(setup)}>" if with_source else "<string>"
        if with_source:
            lines = setup.splitlines(keepends=True)
            linecache.cache[filename] = (len(setup), None, lines, filename)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(setup, filename, "exec", dont_inherit=True), namespace)
    return namespace
