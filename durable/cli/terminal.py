"""Tables and lines that fit a terminal, and whole lines for everything else."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

__all__ = ["console", "print_table", "span", "state_markup"]

_STYLES = {
    "pending": "yellow",
    "resolved": "green",
    "rejected": "red",
    "rejected_canceled": "magenta",
    "rejected_timedout": "red",
}

#: Columns where there is no terminal to fit: no line is ever broken or cut.
_UNBOUNDED_COLUMNS = 1_000_000


def console(*, stderr: bool = False) -> Any:
    """Return a console for standard output; without a terminal it breaks no lines.

    Colours are for terminals alone, and ``NO_COLOR`` turns them off there too.
    """
    from rich.console import Console

    made = Console(highlight=False, stderr=stderr, emoji=False)
    if not made.is_terminal:
        made = Console(highlight=False, stderr=stderr, emoji=False, width=_UNBOUNDED_COLUMNS)
    return made


def state_markup(state: str) -> str:
    """Return a state as rich markup in its colour."""
    return f"[{_STYLES[state]}]{state}[/]" if state in _STYLES else state


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, state: int = 1) -> None:
    """Print rows of plain text, one line each where there is no terminal.

    Args:
        columns: The headings.
        rows: One cell per column.
        state: Which column is a state, to be coloured.
    """
    out = console()
    if not out.is_terminal:
        _print_plain(columns, rows)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # An id is copied into the next command: it may be folded, never cut.
        table.add_column(column, overflow="fold" if number == 0 else "ellipsis", no_wrap=number > 0)
    for row in rows:
        table.add_row(
            *(
                state_markup(cell) if number == state else escape(printable(cell))
                for number, cell in enumerate(row)
            )
        )
    out.print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [list(columns), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def printable(text: str) -> str:
    """Return text as one line without control characters, which could move the cursor."""
    if text.isprintable():
        return text
    return "".join(
        " "
        if char in "\n\t"
        else repr(char)[1:-1]
        if unicodedata.category(char)[0] == "C"
        else char
        for char in text
    )


def span(milliseconds: int | None) -> str:
    """Return a duration for people."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"
