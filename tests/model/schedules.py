"""schedule.* requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import promises, validation
from .cron import CronError, next_run_ms
from .records import TARGET, Answer, RefusedError, Schedule, State


def _found(state: State, data: Mapping[str, Any]) -> Schedule:
    id_ = validation.text(data, "id")
    if id_ not in state.schedules:
        raise RefusedError(404, f"no schedule {id_}")
    return state.schedules[id_]


def get(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    return Answer(200, {"schedule": _found(state, data).shown()})


def create(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    id_, cron = validation.text(data, "id"), validation.text(data, "cron")
    promise_id = validation.text(data, "promiseId")
    promise_timeout = validation.integer(data, "promiseTimeout", 0)
    param = validation.value(data, "promiseParam")
    tags = validation.strings(data, "promiseTags", {})
    if TARGET not in tags:
        raise RefusedError(400, "a schedule needs a target")
    try:
        next_run_at = next_run_ms(cron, now_ms)
    except CronError:
        raise RefusedError(400, f"bad cron {cron}") from None
    if id_ not in state.schedules:
        state.schedules[id_] = Schedule(
            id_, cron, promise_id, promise_timeout, param, tags, now_ms, next_run_at
        )
    return Answer(200, {"schedule": state.schedules[id_].shown()})


def delete(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    del state.schedules[_found(state, data).id]
    return Answer(200, {})


def search(state: State, now_ms: int, data: Mapping[str, Any]) -> Answer:
    _, limit, cursor = validation.page(data, 10)
    tags = validation.strings(data, "tags", None)
    records = [
        schedule.shown()
        for schedule in state.schedules.values()
        if promises.matches(schedule.promise_tags, tags)
    ]
    return promises.paged("schedules", records, limit, cursor)
