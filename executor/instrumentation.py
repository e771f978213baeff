"""The one ``sys.monitoring`` tool id the executor uses, claimed late and shared by all sessions.

Everything here is about local events (`PEP 669 <https://peps.python.org/pep-0669/>`_): events set
on single code objects. They cost nothing where they are not set, and code that is running already
takes them up at its next instruction, whichever thread set them.
"""

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

TOOL_NAME = "sostenuto"
# 0, 1, 2 and 5 are set aside for debuggers, coverage, profilers and optimizers; of those only the
# last two may be borrowed, as tools of the first two kinds are the ones used next to a session.
_TOOL_IDS = (4, 3, 5, 2)

_claimed: list[int] = []


def tool_id() -> int | None:
    """The claimed tool id.

    Returns:
        The id, or None where other tools hold all of them: then cells run unobserved, and are
        interrupted by signal and asynchronous exception alone.
    """
    if _claimed:
        return _claimed[0]
    for candidate in _TOOL_IDS:
        if sys.monitoring.get_tool(candidate) is None:
            try:
                sys.monitoring.use_tool_id(candidate, TOOL_NAME)
            except ValueError:  # another thread was faster
                continue
            _claimed.append(candidate)
            return candidate
    return None


def register(event: int, callback: Callable[..., Any]) -> bool:
    """Register the callback of one kind of event.

    Args:
        event: One of ``sys.monitoring.events``.
        callback: Called in the frame where the event happens; what it raises is raised there.

    Returns:
        Whether there is a tool id to register it with.
    """
    tool = tool_id()
    if tool is None:
        return False
    sys.monitoring.register_callback(tool, event, callback)
    return True


def add_events(code: CodeType, events: int) -> None:
    """Switch events on for one code object, beside those that are on already."""
    tool = tool_id()
    if tool is not None:
        present = sys.monitoring.get_local_events(tool, code)
        if present | events != present:
            sys.monitoring.set_local_events(tool, code, present | events)


def remove_events(code: CodeType, events: int) -> None:
    """Switch events off for one code object and leave its others on."""
    tool = tool_id()
    if tool is not None:
        present = sys.monitoring.get_local_events(tool, code)
        if present & events:
            sys.monitoring.set_local_events(tool, code, present & ~events)
