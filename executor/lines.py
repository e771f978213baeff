"""How tracebacks and :mod:`inspect` find the lines of a cell: while any of its code lives.

A session's compiled cells keep their lines. When one is dropped, its lines stay while one of its
functions, frames or tracebacks does; 100,000 cells that left nothing behind leave no lines either.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Iterable
from types import CodeType
from typing import Any

from executor.source import nested_codes, split_lines

__all__ = ["drop_lines", "is_registered", "lease_lines", "register_lines"]


class _Lease(weakref.ref[CodeType]):
    """Keeps a cell's lines for as long as one code object of the cell lives."""

    __slots__ = ("filename",)

    filename: str


# File names of compiled cells that a session has at hand.
_at_hand: set[str] = set()
# By file name, then by the lease's identity: a reference to code hashes all of its instructions.
_leases: dict[str, dict[int, _Lease]] = {}


def register_lines(source: str, filename: str) -> None:
    """Let the lines of a compiled cell be found, until :func:`drop_lines`.

    Args:
        source: The whole text of the cell.
        filename: The name that its code objects carry.
    """
    _at_hand.add(filename)
    # A modification time of None survives linecache.checkcache().
    entry: Any = (len(source), None, split_lines(source), filename)
    linecache.cache[filename] = entry


def is_registered(filename: str) -> bool:
    """Whether code of a cell with this name is alive in any session."""
    return filename in _at_hand or filename in _leases


def lease_lines(filename: str, codes: Iterable[CodeType]) -> None:
    """Keep a cell's lines also while any of these code objects lives, or of those in them."""
    leases = _leases.setdefault(filename, {})
    for outer in codes:
        for code in nested_codes(outer):
            lease = _Lease(code, _expire)
            lease.filename = filename
            leases[id(lease)] = lease


def drop_lines(filename: str, codes: list[weakref.ref[CodeType]]) -> None:
    """The compiled cell is gone: its lines go too, unless some of its code lives on.

    Args:
        filename: The name that its code objects carry.
        codes: All code objects of the cell, nested ones too.
    """
    _at_hand.discard(filename)
    living = [code for reference in codes if (code := reference()) is not None]
    if living:
        lease_lines(filename, living)
    elif filename not in _leases:
        linecache.cache.pop(filename, None)


def _expire(reference: weakref.ref[CodeType]) -> None:
    assert isinstance(reference, _Lease)  # the only kind that names this callback
    filename = reference.filename
    leases = _leases.get(filename)
    if leases is None:
        return
    leases.pop(id(reference), None)
    if not leases:
        del _leases[filename]
        if filename not in _at_hand:
            linecache.cache.pop(filename, None)
