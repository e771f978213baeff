"""Ids and their ancestors: `root:1.2` lies below `root:1`, and both below `root`."""

from __future__ import annotations

from typing import Final

__all__ = ["ANCESTORS", "LINEAGE_SEPARATOR", "ORIGIN_SEPARATOR", "below", "extends", "range_below"]

#: Separates an origin from the lineage below it, and lineage segments from each other.
ORIGIN_SEPARATOR: Final = ":"
LINEAGE_SEPARATOR: Final = "."

#: The tags that name an ancestor of the promise.
ANCESTORS: Final = ("resonate:origin", "resonate:branch", "resonate:parent")


def below(ancestor: str) -> str:
    """What the ids below an id begin with.

    >>> below("root"), below("root:1")
    ('root:', 'root:1.')
    """
    return ancestor + (LINEAGE_SEPARATOR if ORIGIN_SEPARATOR in ancestor else ORIGIN_SEPARATOR)


def range_below(ancestor: str) -> tuple[str, str]:
    """What the ids below an id lie between.

    >>> range_below("root"), range_below("root:1")
    (('root:', 'root;'), ('root:1.', 'root:1/'))
    """
    first = below(ancestor)
    return first, first[:-1] + chr(ord(first[-1]) + 1)


def extends(id_: str, ancestor: str) -> bool:
    """Whether an id is an ancestor or lies below it.

    >>> extends("root:1.2", "root"), extends("root:1.2", "root:1"), extends("root:12", "root:1")
    (True, True, False)
    """
    if id_ == ancestor:
        return True
    return id_.startswith(below(ancestor))
