"""Tables and lines that fit a terminal, and whole lines for everything else."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence
from typing import Any

__all__ = [
    "console",
    "fitted",
    "moment",
    "print_table",
    "printable",
    "span",
    "state_markup",
]

_STYLES = {
    "pending": "yellow",
    "resolved": "green",
    "rejected": "red",
    "rejected_canceled": "magenta",
    "rejected_timedout": "red",
}

#: Columns between two columns of a table.
_GAP = 2

#: Columns that ids and names keep on a narrow terminal.
_NAME_LEAST = 12

#: Columns in which a message can be read beside its row.
_MESSAGE_LEAST = 30

#: Lines of a message in a table.
_MESSAGE_LINES = 3

#: Columns where there is no terminal to fit: no line is ever broken or cut.
_UNBOUNDED_COLUMNS = 1_000_000


def console(*, stderr: bool = False) -> Any:
    """Return a console for standard output; without a terminal it breaks no lines.

    Colours are for terminals alone, and ``NO_COLOR`` turns them off there too.
    """
    from rich.console import Console

    class Steady(Console):
        """Leaves the cursor visible: nobody would bring it back after a kill."""

        def show_cursor(self, show: bool = True) -> bool:
            return show and super().show_cursor(show)

    made = Steady(highlight=False, stderr=stderr, emoji=False)
    if not made.is_terminal:
        made = Steady(highlight=False, stderr=stderr, emoji=False, width=_UNBOUNDED_COLUMNS)
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
    from rich.text import Text

    lines = [list(columns), *([printable(cell) for cell in row] for row in rows)]
    natural = [max(Text(line[n]).cell_len for line in lines) for n in range(len(columns))]
    room = out.width - _GAP * (len(columns) - 1)
    widths = fitted(natural, room)
    # A narrow terminal shows each message below its row, over all of the width.
    is_below = widths[-1] < min(natural[-1], _MESSAGE_LEAST)
    if is_below:
        widths = fitted([*natural[:-1], 0], room + _GAP)[:-1]
    grid = _grid(widths, folds_last=not is_below)
    for number, line in enumerate(lines):
        cells = [Text(cell, "bold" if number == 0 else "") for cell in line]
        cells[state].stylize(_STYLES.get(line[state], ""))
        message = cells[-1]
        if not is_below:
            message.truncate(_MESSAGE_LINES * widths[-1], overflow="ellipsis")
            grid.add_row(*cells)
            continue
        grid.add_row(*cells[:-1])
        if message and number:
            out.print(grid)
            grid = _grid(widths, folds_last=False)
            out.print("  ", message, sep="", no_wrap=True, overflow="ellipsis")
    if grid.rows:
        out.print(grid)


def _grid(widths: Sequence[int], *, folds_last: bool) -> Any:
    from rich.table import Table

    grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    for number, width in enumerate(widths):
        # An id is copied into the next command: it may be folded, never cut.
        folds = number == 0 or (folds_last and number == len(widths) - 1)
        grid.add_column(width=width, overflow="fold" if folds else "ellipsis", no_wrap=not folds)
    return grid


def fitted(natural: Sequence[int], room: int) -> list[int]:
    """Return widths of columns that share a line: the last gives way first, then names and ids.

    Args:
        natural: How wide each would be by itself.
        room: Columns of the terminal for all of them.
    """
    widths = list(natural)
    for number, floor in ((len(widths) - 1, 0), (2, _NAME_LEAST), (0, _NAME_LEAST)):
        excess = max(0, sum(widths) - room)
        widths[number] -= min(excess, max(0, widths[number] - floor))
    return widths


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


def moment(at_ms: int) -> str:
    """Return a moment in local time for people: without its date where that is today."""
    local = time.localtime(at_ms / 1000)
    is_today = local[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", local)


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
