"""Delivery addresses: how they are minted, and which ones are well formed.

The forms are those of the other Resonate engines, so a target stamped by any client
is understood here: `poll://any@group` reaches one member of a group,
`poll://uni@group/pid` one process. Addresses are matched byte for byte.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["anycast", "is_address", "unicast"]

_URL = re.compile(r"([a-z]+)://(\S*)\Z", re.IGNORECASE | re.ASCII)

#: What must follow `scheme://`, by scheme: those of the Resonate server, and those of
#: the SDK's own connectors. Anything else could never be delivered and is refused.
_FORMS: Final = {
    "poll": re.compile(r"(?:uni|any)@[^/@\s]+(?:/\S*)?\Z"),
    "http": re.compile(r"[^/?#\s]\S*\Z"),
    "https": re.compile(r"[^/?#\s]\S*\Z"),
    "gcps": re.compile(r"[^/\s]+/\S+\Z"),
    "bash": re.compile(r"\S*\Z"),
    "nats": re.compile(r"\S+\Z"),
    "local": re.compile(r"(?:uni|any)@[^/@\s]+(?:/\S*)?\Z"),
}


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
    """Whether a text names a receiver, in one of the forms the engines deliver to.

    >>> is_address("poll://any@workers"), is_address("poll://workers"), is_address("workers")
    (True, False, False)
    """
    match = _URL.match(text)
    form = _FORMS.get(match.group(1).lower()) if match is not None else None
    return match is not None and form is not None and form.match(match.group(2)) is not None
