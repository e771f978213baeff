"""Reads the case files of cells: sources with what they must do beside them.

A case begins with ``### title``. Its cells follow, each ended by what it does: ``=> repr`` of its
value (``=> *`` for a value whose repr is not taken), or ``!! Type: message`` for what it raises.
Lines ``| text`` before that are its output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).parent / "cases" / "cells"


@dataclass
class Cell:
    source: str
    value: str | None = None
    error: str | None = None
    output: str = ""


@dataclass
class Case:
    title: str
    cells: list[Cell] = field(default_factory=list)


def load() -> list[Case]:
    return [case for path in sorted(DIRECTORY.glob("*.txt")) for case in _read(path)]


def _read(path: Path) -> list[Case]:
    cases: list[Case] = []
    lines: list[str] = []
    output: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("### "):
            assert not lines, f"{path.name}: a cell before {line!r} has no expectation"
            cases.append(Case(f"{path.stem}: {line[4:]}"))
        elif line.startswith(("=> ", "!! ")):
            cell = Cell("\n".join(lines), output="".join(each + "\n" for each in output))
            if line.startswith("=> "):
                cell.value = line[3:]
            else:
                cell.error = line[3:]
            cases[-1].cells.append(cell)
            lines, output = [], []
        elif line.startswith("| "):
            output.append(line[2:])
        else:
            lines.append(line)
    assert not lines, f"{path.name}: the last cell has no expectation"
    return cases
