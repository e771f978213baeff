"""promise.* requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import validation
from .records import DELAY, RETRY_MS, TARGET, Answer, Promise, RefusedError, State, Task
from .settlement import expire_touched, settle

_STATES = ("pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout")


def found(state: State, id_: str, status: int = 404) -> Promise:
    if id_ not in state.promises:
        raise RefusedError(status, f"no promise {id_}")
    return state.promises[id_]


def get(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_ = validation.text(data, "id")
    expire_touched(state, now_ms, id_)
    return Answer(200, {"promise": found(state, id_).shown_at(now_ms)})


def new_promise(state: State, now_ms: int, spec: Mapping[str, Any]) -> Promise:
    """Record a promise; one whose deadline has passed is born settled, at its deadline."""
    promise = Promise(
        id=spec["id"],
        timeout_at=spec["timeout_at"],
        created_at=min(now_ms, spec["timeout_at"]),
        tags=spec["tags"],
        param=spec["param"],
    )
    if promise.timeout_at <= now_ms:
        promise.state, promise.settled_at = promise.state_at_deadline, promise.timeout_at
    state.promises[promise.id] = promise
    return promise


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 100 and int(text) < 2**63


def put(
    state: State, now_ms: int, spec: Mapping[str, Any], created_ms: int | None = None
) -> Promise:
    """Create the promise, and its task if it has a target, unless the id is taken.

    ``created_ms`` is the moment it is created as of, when that is earlier (a missed run).
    """
    if spec["id"] in state.promises:
        return state.promises[spec["id"]]
    promise = new_promise(state, now_ms if created_ms is None else created_ms, spec)
    if TARGET not in promise.tags:
        return promise
    if promise.state != "pending":
        state.tasks[promise.id] = Task(promise.id, "fulfilled")
        return promise
    delay = promise.tags.get(DELAY, "")
    delay_until = int(delay) if _is_time(delay) else 0
    task = Task(promise.id, "pending")
    state.tasks[promise.id] = task
    if delay_until > now_ms:
        task.due_at = delay_until
    else:
        task.due_at = now_ms + RETRY_MS
        state.send_execute(task)
    return promise


def create(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    spec = validation.create(data)
    expire_touched(state, now_ms, spec["id"])
    return Answer(200, {"promise": put(state, now_ms, spec).shown_at(now_ms)})


def settle_one(state: State, now_ms: int, spec: Mapping[str, Any]) -> Promise:
    expire_touched(state, now_ms, spec["id"])
    promise = found(state, spec["id"])
    if promise.state == "pending":
        settle(state, now_ms, promise, spec["state"], spec["value"])
    return promise


def settle_request(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    promise = settle_one(state, now_ms, validation.settle(data))
    return Answer(200, {"promise": promise.shown_at(now_ms)})


def register_callback(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    awaited_id, awaiter_id = validation.callback(data)
    expire_touched(state, now_ms, awaited_id, awaiter_id)
    awaited = found(state, awaited_id)
    awaiter = found(state, awaiter_id, 422)
    if TARGET not in awaiter.tags:
        raise RefusedError(422, f"{awaiter_id} has no task to wake")
    if not awaited.external:
        raise RefusedError(422, f"{awaited_id} cannot be awaited")
    if awaited.state == "pending" and awaiter.state == "pending":
        awaited.callbacks.add(awaiter_id)
    return Answer(200, {"promise": awaited.shown_at(now_ms)})


def register_listener(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    awaited_id, address = validation.text(data, "awaited"), validation.text(data, "address")
    if not validation.address(address):
        raise RefusedError(400, f"{address} is no address")
    expire_touched(state, now_ms, awaited_id)
    awaited = found(state, awaited_id)
    if awaited.state == "pending":
        awaited.listeners.add(address)
    return Answer(200, {"promise": awaited.shown_at(now_ms)})


def matches(tags: Mapping[str, str], wanted: Mapping[str, str] | None) -> bool:
    return all(tags.get(name) == value for name, value in (wanted or {}).items())


def paged(name: str, records: list[dict[str, Any]], limit: int, cursor: str | None) -> Answer:
    """One page ordered by id; the cursor is its last id, given only when more remain."""
    later = sorted(
        (record for record in records if cursor is None or record["id"] > cursor),
        key=lambda record: record["id"],
    )
    more = len(later) > limit
    return Answer(200, {name: later[:limit], "cursor": later[limit - 1]["id"] if more else None})


def search(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    wanted, limit, cursor = validation.page(data, 100, _STATES)
    tags = validation.strings(data, "tags", None)
    records = [
        promise.shown_at(now_ms)
        for promise in state.promises.values()
        if wanted in (None, promise.state_at(now_ms)) and matches(promise.tags, tags)
    ]
    return paged("promises", records, limit, cursor)
