"""What follows from a promise becoming settled."""

from __future__ import annotations

from typing import Any

from .records import RETRY_MS, Promise, State


def settle(state: State, now_ms: int, promise: Promise, outcome: str, value: Any) -> None:
    promise.state, promise.value, promise.settled_at = outcome, value, now_ms
    _cascade(state, now_ms, promise)


def expire(state: State, now_ms: int, promise: Promise) -> None:
    """Settle a promise whose deadline has passed, as of that deadline."""
    promise.state, promise.settled_at = promise.state_at_deadline, promise.timeout_at
    _cascade(state, now_ms, promise, optional=not promise.external)


def expire_touched(state: State, now_ms: int, *ids: str) -> None:
    """Apply the deadlines of the promises a request names, before it is answered (server)."""
    for id_ in ids:
        promise = state.promises.get(id_)
        if promise is not None and promise.state == "pending" and promise.timeout_at <= now_ms:
            expire(state, now_ms, promise)


def _cascade(state: State, now_ms: int, promise: Promise, *, optional: bool = False) -> None:
    task = state.tasks.get(promise.id)
    if task is not None:
        task.fulfil()
        state.outbox.pop(("execute", task.id), None)
        for other in state.promises.values():
            other.callbacks.discard(task.id)
    # resonate-pg never expires a promise without target, timer or external tag, so whether its
    # listeners hear of the deadline is open; everything else is told.
    for address in promise.listeners:
        state.send_unblock(promise, address, optional=optional)
    promise.listeners = set()
    for awaiter in promise.callbacks:
        _resume(state, now_ms, promise.id, awaiter)
    promise.callbacks = set()


def _resume(state: State, now_ms: int, awaited: str, awaiter: str) -> None:
    task = state.tasks[awaiter]
    if not state.is_live(task, now_ms):
        return
    if task.state == "suspended":
        task.state, task.due_at = "pending", now_ms + RETRY_MS
        task.resumes = {awaited}
        state.send_execute(task)
    elif task.state in ("pending", "acquired", "halted"):
        task.resumes.add(awaited)
