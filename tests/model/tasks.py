"""task.* requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import promises, validation
from .records import BRANCH, DELAY, RETRY_MS, TARGET, Answer, RefusedError, State, Task
from .settlement import expire_touched, settle

_STATES = ("pending", "acquired", "suspended", "halted", "fulfilled")


def preload(state: State, now_ms: int, id_: str) -> list[dict[str, Any]]:
    branch = state.promises[id_].tags.get(BRANCH)
    if not branch:
        return []
    return [
        promise.shown_at(now_ms)
        for promise in sorted(state.promises.values(), key=lambda item: item.id)
        if promise.id != id_ and promise.tags.get(BRANCH) == branch
    ]


def _found(state: State, now_ms: int, id_: str) -> Task:
    expire_touched(state, now_ms, id_)
    if id_ not in state.tasks:
        raise RefusedError(404, f"no task {id_}")
    return state.tasks[id_]


def _held(state: State, now_ms: int, id_: str, version: int) -> Task:
    """The task, if it is acquired at ``version``: the fence of every worker's write."""
    task = _found(state, now_ms, id_)
    if task.state != "acquired" or task.version != version:
        raise RefusedError(
            409, f"{id_} is {task.state} at {task.version}, not acquired at {version}"
        )
    return task


def get(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    return Answer(200, {"task": _found(state, now_ms, validation.text(data, "id")).shown()})


def _claim(task: Task, now_ms: int, pid: str, ttl: int) -> None:
    task.state, task.version = "acquired", task.version + 1
    task.pid, task.ttl, task.due_at = pid, ttl, now_ms + ttl
    task.resumes = set()


def _claimed(state: State, now_ms: int, task: Task) -> Answer:
    return Answer(
        200,
        {
            "task": task.shown(),
            "promise": state.promises[task.id].shown_at(now_ms),
            "preload": preload(state, now_ms, task.id),
        },
    )


def create(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    pid, ttl = validation.text(data, "pid"), validation.integer(data, "ttl", 1)
    spec = validation.create(validation.action(data))
    if TARGET not in spec["tags"] or DELAY in spec["tags"]:
        raise RefusedError(400, "a task needs a target and takes no delay")
    id_ = spec["id"]
    expire_touched(state, now_ms, id_)
    if id_ not in state.promises:
        promise = promises.new_promise(state, now_ms, spec)
        state.tasks[id_] = Task(id_, "pending" if promise.state == "pending" else "fulfilled")
    elif id_ not in state.tasks:
        raise RefusedError(422, f"{id_} is a plain promise")
    task = state.tasks[id_]
    if task.state == "pending":
        _claim(task, now_ms, pid, ttl)
    elif task.state != "fulfilled":
        raise RefusedError(409, f"{id_} is {task.state}")
    return _claimed(state, now_ms, task)


def acquire(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_, version = validation.text(data, "id"), validation.integer(data, "version", 0)
    pid, ttl = validation.text(data, "pid"), validation.integer(data, "ttl", 1)
    task = _found(state, now_ms, id_)
    if task.state != "pending" or task.version != version:
        raise RefusedError(409, f"{id_} is {task.state} at {task.version}")
    _claim(task, now_ms, pid, ttl)
    return _claimed(state, now_ms, task)


def release(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_, version = validation.text(data, "id"), validation.integer(data, "version", 0)
    task = _held(state, now_ms, id_, version)
    task.releases += 1
    offer(state, now_ms, task)
    return Answer(200, {})


def offer(state: State, now_ms: int, task: Task) -> None:
    """Put the task back in the hands of whoever asks first."""
    task.state, task.pid, task.ttl = "pending", None, None
    task.due_at = now_ms + RETRY_MS
    state.send_execute(task, optional=task.held_back)


def fulfill(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_, version = validation.text(data, "id"), validation.integer(data, "version", 0)
    spec = validation.settle(validation.action(data))
    if spec["id"] != id_:
        raise RefusedError(400, "a task settles its own promise")
    _held(state, now_ms, id_, version)
    promise = state.promises[id_]
    settle(state, now_ms, promise, spec["state"], spec["value"])
    return Answer(200, {"promise": promise.shown_at(now_ms)})


def suspend(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_, version = validation.text(data, "id"), validation.integer(data, "version", 0)
    awaited_ids = validation.suspension(id_, data)
    expire_touched(state, now_ms, *awaited_ids)
    task = _held(state, now_ms, id_, version)
    awaited = [promises.found(state, awaited_id, 422) for awaited_id in awaited_ids]
    if not all(promise.external for promise in awaited):
        raise RefusedError(422, "one of the awaited cannot be awaited")
    task.resumes = set()
    if any(promise.state != "pending" for promise in awaited):
        return Answer(300, {"preload": preload(state, now_ms, id_)})
    for promise in awaited:
        promise.callbacks.add(id_)
    task.state, task.pid, task.ttl, task.due_at = "suspended", None, None, None
    task.releases = 0
    return Answer(200, {})


def fence(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_, version = validation.text(data, "id"), validation.integer(data, "version", 0)
    envelope = validation.as_object(data.get("action"), "action")
    kind = validation.text(envelope, "kind")
    inner = validation.action(data)
    if inner.get("id") == id_:
        raise RefusedError(400, "a task cannot fence itself")
    _held(state, now_ms, id_, version)
    if kind == "promise.create":
        answer = promises.create(state, now_ms, inner)
    elif kind == "promise.settle":
        answer = _inner_settle(state, now_ms, inner)
    else:
        raise RefusedError(400, f"{kind} cannot be fenced")
    action = {"kind": kind, "head": {"status": answer.status}, "data": answer.data}
    # Any subset of the branch is right here; the server's is what makes its SDK quadratic.
    return Answer(200, {"action": action, "preload": []})


def _inner_settle(state: State, now_ms: int, inner: Mapping[str, Any]) -> Answer:
    spec = validation.settle(inner)
    if spec["id"] not in state.promises:
        return Answer(404, f"no promise {spec['id']}")
    promise = promises.settle_one(state, now_ms, spec)
    return Answer(200, {"promise": promise.shown_at(now_ms)})


def heartbeat(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    pid, claims = validation.text(data, "pid"), data.get("tasks")
    if not isinstance(claims, list):
        raise RefusedError(400, "tasks is no list")
    pairs = [
        (validation.text(claim, "id"), validation.integer(claim, "version", -(2**63)))
        for claim in (validation.as_object(claim, "task") for claim in claims)
    ]
    for id_, version in pairs:
        task = state.tasks.get(id_)
        if task is None or not state.is_live(task, now_ms):
            continue
        if (task.state, task.version, task.pid) == ("acquired", version, pid):
            task.due_at = now_ms + (task.ttl or 0)
    return Answer(200, {})


def halt(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    task = _found(state, now_ms, validation.text(data, "id"))
    if task.state == "fulfilled":
        raise RefusedError(409, f"{task.id} is fulfilled")
    task.state, task.pid, task.ttl, task.due_at = "halted", None, None, None
    task.releases = 0
    return Answer(200, {})


def continue_(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    task = _found(state, now_ms, validation.text(data, "id"))
    if task.state != "halted":
        raise RefusedError(409, f"{task.id} is {task.state}")
    offer(state, now_ms, task)
    return Answer(200, {})


def search(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    wanted, limit, cursor = validation.page(data, 100, _STATES)
    records = []
    for task in state.tasks.values():
        shown = task.shown()
        shown["state"] = state.task_state_at(task, now_ms)
        if shown["state"] == "fulfilled":
            shown.update(resumes=0, ttl=None, pid=None)
        if wanted in (None, shown["state"]):
            records.append(shown)
    return promises.paged("tasks", records, limit, cursor)
