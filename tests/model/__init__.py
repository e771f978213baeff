"""A small pure reference model of the Resonate protocol.

It exists to disagree with the store: it is written from the protocol's published sources (the
server's reference model and resonate-pg's SQL) and never from the store's code, holds everything
in plain dictionaries, does no I/O and never reads a clock. ``respond(state, now_ms, request)``
answers one request and changes nothing but ``state``; messages wait in ``state.outbox`` until
``take_messages`` hands them over; ``tick(state, now_ms)`` applies everything that is due.

Where the two sources differ, the model follows the rule written beside the code that applies it.
"""

from .cron import CronError, next_run_ms
from .protocol import respond, take_messages
from .records import Answer, Message, Promise, Schedule, State, Task
from .timers import tick

__all__ = [
    "Answer",
    "CronError",
    "Message",
    "Promise",
    "Schedule",
    "State",
    "Task",
    "next_run_ms",
    "respond",
    "take_messages",
    "tick",
]
