"""Which group a command joins: one that runs source takes up its own execution and no other.

A member of a group promises to do the group's work. Commands on one file belong to nobody in
particular, so in a group of them ``sostenuto run b.py`` would go on with the interrupted ``a.py``
of another terminal, and die of it where that code kills its process.
"""

from __future__ import annotations

import hashlib
import re

from durable.runtime import Durable

__all__ = ["DEFAULT_GROUP", "READERS_GROUP", "group_of", "recorded_group"]

#: The group that apps join by default.
DEFAULT_GROUP = "default"

#: The group of commands that run nothing: nobody hands it any work.
READERS_GROUP = "sostenuto-command"

_ANYCAST = re.compile(r"poll://any@([^/@\s]+)")


def group_of(base_id: str) -> str:
    """Return the group of the commands that run one id: a name that any engine takes."""
    return f"run-{hashlib.sha256(base_id.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


async def recorded_group(app: Durable, execution_id: str, group: str) -> str:
    """Return the group that an execution was made for, whose messages wake it.

    Args:
        app: An open app.
        execution_id: An execution that exists.
        group: The answer where the record tells of no other group.
    """
    record = await app.engine.promises.get(execution_id)
    target = record.tags.get("resonate:target", "")
    address = app.engine._resolver  # noqa: SLF001 - the SDK shows it nowhere else
    if target == address(group):
        return group
    if target == address(DEFAULT_GROUP):
        return DEFAULT_GROUP
    named = _ANYCAST.fullmatch(target)
    return named[1] if named is not None else group
