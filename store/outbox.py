"""Routing messages: to this connection at once, to another through the outbox table.

A message whose receiver is this very connection never touches the table: it is handed
over after the commit, and should the process die in between, its task is sent again
because the task remembers whom it was handed to. All others wait in the table until
their receiver fetches them, or until anybody listens on their address at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from store import statements as sql
from store.records import PromiseRecord, promise_record
from store.transaction import Execute, Message, Transaction, Unblock

__all__ = ["Delivery", "Listener", "fetch", "hold_ms", "route", "waiting"]

#: A message left lying by the member it was meant for is anybody's after this long.
UNFETCHED_MS: Final = 1_000

#: Messages taken in one transaction.
BATCH: Final = 200

#: Releases in a row that are still delivered at once, as the protocol says; the next
#: ones wait 100 ms, doubling up to half a minute, so that a task no worker can run does
#: not spin.
FREE_RELEASES: Final = 8
FIRST_HOLD_MS: Final = 100
LONGEST_HOLD_MS: Final = 30_000


class Listener(NamedTuple):
    """A living connection and the addresses it listens on."""

    id: int
    unicast: str
    anycast: str


class Delivery(NamedTuple):
    """A message as JSON, ready for the receiver's callbacks."""

    body: str
    task_id: str | None


class _Head(msgspec.Struct, gc=False):
    pass


class _Task(msgspec.Struct, gc=False):
    id: str
    version: int


class _ExecuteData(msgspec.Struct, gc=False):
    task: _Task


class _UnblockData(msgspec.Struct, gc=False):
    promise: PromiseRecord


class _Envelope(msgspec.Struct, gc=False):
    kind: str
    head: _Head
    data: _ExecuteData | _UnblockData


_ENCODER: Final = msgspec.json.Encoder()
_HEAD: Final = _Head()


def hold_ms(releases: int) -> int:
    """How long an execute waits after this many releases without progress."""
    if releases <= FREE_RELEASES:
        return 0
    return min(FIRST_HOLD_MS << min(releases - FREE_RELEASES - 1, 16), LONGEST_HOLD_MS)


def _execute(task_id: str, version: int) -> Delivery:
    body = _Envelope("execute", _HEAD, _ExecuteData(_Task(task_id, version)))
    return Delivery(_ENCODER.encode(body).decode(), task_id)


def _unblock(tx: Transaction, promise_id: str) -> Delivery | None:
    row = tx.promise(promise_id)
    if row is None:
        return None
    body = _Envelope("unblock", _HEAD, _UnblockData(promise_record(row, tx.now_ms)))
    return Delivery(_ENCODER.encode(body).decode(), None)


def route(
    tx: Transaction,
    listeners: Callable[[], list[Listener]],
    *,
    direct: bool,
    pick: Callable[[list[int]], int] = random.choice,
) -> list[Delivery]:
    """Send the messages of a transaction on their way, before it commits.

    Args:
        tx: The transaction, whose messages are taken.
        listeners: The living connections that listen; asked only when needed.
        direct: Whether this connection takes messages right after the commit.
        pick: Chooses one of several members of a group.

    Returns:
        The messages for this connection, in the order they were sent.
    """
    deliveries: list[Delivery] = []
    known = listeners()
    for message in tx.messages.values():
        receiver = _receiver(message, known, pick)
        hold = hold_ms(message.releases) if isinstance(message, Execute) else 0
        if direct and receiver == tx.member and receiver is not None and not hold:
            delivery = _hand_over(tx, message, receiver)
            if delivery is not None:
                deliveries.append(delivery)
            continue
        ready_at = tx.now_ms + hold
        if tx.next_ready_ms is None or ready_at < tx.next_ready_ms:
            tx.next_ready_ms = ready_at
        if isinstance(message, Execute):
            tx.run(
                sql.OUTBOX_EXECUTE,
                *(message.address, message.task_id, message.version, receiver, ready_at),
            )
            tx.run(sql.TASK_MEMBER, receiver, message.task_id)
        else:
            tx.run(sql.OUTBOX_UNBLOCK, message.address, message.promise_id, receiver, ready_at)
    tx.messages.clear()
    return deliveries


def _receiver(
    message: Message,
    known: list[Listener],
    pick: Callable[[list[int]], int],
) -> int | None:
    found = [one.id for one in known if message.address in (one.unicast, one.anycast)]
    if len(found) > 1 and isinstance(message, Execute) and message.avoid is not None:
        found = [one for one in found if one != message.avoid] or found
    if not found:
        return None
    return found[0] if len(found) == 1 else pick(found)


def _hand_over(tx: Transaction, message: Message, receiver: int) -> Delivery | None:
    if isinstance(message, Unblock):
        return _unblock(tx, message.promise_id)
    tx.run(sql.OUTBOX_DROP_EXECUTE, message.task_id)
    tx.run(sql.TASK_MEMBER, receiver, message.task_id)
    return _execute(message.task_id, message.version)


def waiting(
    tx: Transaction, me: Listener, *, everything: bool
) -> tuple[list[tuple[int, str | None, int | None, str | None]], int | None]:
    """The messages this connection may fetch now, and when the next one is ready.

    Args:
        tx: The transaction.
        me: This connection.
        everything: Fetch messages that are being held back, too.

    Returns:
        Rows of (seq, task_id, version, promise_id), and milliseconds or None.
    """
    ready: list[tuple[int, str | None, int | None, str | None]] = []
    next_at: int | None = None
    addresses = (me.unicast, me.anycast)
    for address in addresses:
        for seq, task_id, version, promise_id, member, ready_at in tx.all(sql.OUTBOX_AT, address):
            mine = member is None or member == me.id
            at = ready_at if mine else ready_at + UNFETCHED_MS
            if at <= tx.now_ms or (everything and mine):
                ready.append((seq, task_id, version, promise_id))
            elif next_at is None or at < next_at:
                next_at = at
    ready.sort()
    return ready, next_at


def fetch(
    tx: Transaction, me: Listener, *, everything: bool
) -> tuple[list[Delivery], int | None, bool]:
    """Take a batch of messages for this connection out of the outbox.

    Returns:
        The messages in the order they were sent, when the next held one is ready, and
        whether there are more to take now.
    """
    ready, next_at = waiting(tx, me, everything=everything)
    deliveries: list[Delivery] = []
    tx.must_sync = tx.must_sync or bool(ready)
    for seq, task_id, version, promise_id in ready[:BATCH]:
        tx.run(sql.OUTBOX_DELETE, seq)
        if task_id is not None:
            tx.run(sql.TASK_MEMBER, me.id, task_id)
            deliveries.append(_execute(task_id, version or 0))
        elif promise_id is not None:
            delivery = _unblock(tx, promise_id)
            if delivery is not None:
                deliveries.append(delivery)
    return deliveries, next_at, len(ready) > BATCH
