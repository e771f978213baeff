"""Splitting source at ``# %%`` markers, the cell convention of editors and Jupytext."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

__all__ = ["Cell", "split_cells"]

#: ``# %%`` at the start of a line, with an optional title, as VS Code, Spyder and Jupytext
#: write it.
_MARKER = re.compile(r"#[ \t]*%%(?P<title>.*)")

#: CPython's tokenizer ends lines here alone; a form feed does not end one.
_LINE_END = re.compile(r"\r\n|\r|\n")


class Cell(NamedTuple):
    """One cell of a source.

    Attributes:
        number: From 1.
        title: What follows the marker, or "".
        line: The line of the source on which it starts, from 1.
        text: Its code below as many empty lines as come before it, so that tracebacks
            have the line numbers of the source.
    """

    number: int
    title: str
    line: int
    text: str


def split_cells(source: str) -> list[Cell]:
    """Split source into its cells; one without markers, or that does not parse, is one cell.

    A marker counts only between statements: inside a string, a bracket or an indented
    block it is text like any other. What precedes the first marker is a cell too, and what
    holds no code is none.
    """
    lines = _LINE_END.split(source)
    marked = [number for number, line in enumerate(lines, 1) if _MARKER.match(line)]
    if not marked:
        return [Cell(1, "", 1, source)]
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [Cell(1, "", 1, source)]
    spans = [
        (_first_line(statement), statement.end_lineno or statement.lineno)
        for statement in statements
    ]
    inside = {line for first, last in spans for line in range(first, last + 1)}
    starts = [1, *(line for line in marked if line not in inside and line > 1)]
    ends = [*(start - 1 for start in starts[1:]), len(lines)]
    filled = [
        (start, end)
        for start, end in zip(starts, ends, strict=True)
        if any(start <= first <= end for first, _ in spans)
    ]
    return [
        Cell(number, _title(lines[start - 1]), start, _padded(lines, start, end))
        for number, (start, end) in enumerate(filled, 1)
    ] or [Cell(1, "", 1, source)]


def _first_line(statement: ast.stmt) -> int:
    """A decorated definition begins at its first decorator."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _title(line: str) -> str:
    found = _MARKER.match(line)
    return found["title"].strip() if found is not None else ""


def _padded(lines: list[str], start: int, end: int) -> str:
    return "\n" * (start - 1) + "\n".join(lines[start - 1 : end]) + "\n"
