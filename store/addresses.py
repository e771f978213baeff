"""Delivery addresses: how they are minted, and which ones are well formed.

The forms are those of the other Resonate engines, so a target stamped by any client
is understood here: `poll://any@group` reaches one member of a group,
`poll://uni@group/pid` one process. Foreign schemes are kept and matched byte for byte.
"""

from __future__ import annotations

import re

__all__ = ["anycast", "is_address", "unicast"]

_URL = re.compile(r"([a-z][a-z0-9+.\-]*)://(\S+)\Z", re.IGNORECASE | re.ASCII)
_POLL = re.compile(r"(?:uni|any)@[^/@\s]+(?:/\S*)?\Z")
_HOSTED = frozenset({"http", "https"})


def unicast(group: str, pid: str) -> str:
    """The address that reaches one process.

    >>> unicast("workers", "7f3a")
    'poll://uni@workers/7f3a'
    """
    return f"poll://uni@{group}/{pid}"


def anycast(group: str) -> str:
    """The address that reaches any one member of a group.

    >>> anycast("workers")
    'poll://any@workers'
    """
    return f"poll://any@{group}"


def is_address(text: str) -> bool:
    """Whether a text can be delivered to: a URL, and for `poll` one with its cast.

    >>> is_address("poll://any@workers"), is_address("poll://workers"), is_address("workers")
    (True, False, False)
    """
    match = _URL.match(text)
    if match is None:
        return False
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme == "poll":
        return _POLL.match(rest) is not None
    if scheme in _HOSTED:
        return not rest.startswith(("/", "?", "#"))
    return True
