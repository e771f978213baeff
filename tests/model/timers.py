"""Everything that happens by itself: promises first, then tasks, then schedules."""

from __future__ import annotations

from . import promises, tasks
from .cron import next_run_ms
from .records import BRANCH, ORIGIN, PARENT, Schedule, State
from .settlement import expire


def tick(state: State, now_ms: int) -> None:
    """Apply every deadline, lease, second offer and schedule that is due at ``now_ms``."""
    _expire_promises(state, now_ms)
    _offer_tasks(state, now_ms)
    for schedule in sorted(state.schedules.values(), key=lambda item: (item.next_run_at, item.id)):
        _fire(state, now_ms, schedule)


def _expire_promises(state: State, now_ms: int) -> None:
    due = [
        promise
        for promise in state.promises.values()
        if promise.state == "pending" and promise.external and promise.timeout_at <= now_ms
    ]
    for promise in sorted(due, key=lambda item: (item.timeout_at, item.id)):
        expire(state, now_ms, promise)


def _offer_tasks(state: State, now_ms: int) -> None:
    due = [
        task
        for task in state.tasks.values()
        if task.state in ("pending", "acquired")
        and task.due_at is not None
        and task.due_at <= now_ms
    ]
    for task in due:
        tasks.offer(state, now_ms, task)


def _fire(state: State, now_ms: int, schedule: Schedule) -> None:
    """Create one promise for every run that is due, missed ones too."""
    while schedule.next_run_at <= now_ms:
        run_at = schedule.next_run_at
        id_ = schedule.promise_id.replace("{{.timestamp}}", str(run_at))
        id_ = id_.replace("{{.id}}", schedule.id)
        tags = {**schedule.promise_tags, ORIGIN: id_, BRANCH: id_, PARENT: id_}
        timeout_at = run_at + schedule.promise_timeout
        spec = {
            "id": id_,
            "timeout_at": timeout_at,
            "tags": tags,
            "param": schedule.promise_param,
        }
        promises.put(state, now_ms, spec, run_at)
        waiting = state.outbox.get(("execute", id_))
        if waiting is not None and timeout_at <= now_ms:
            # Already past its deadline: the next sweep drops the message, delivered or not.
            state.outbox["execute", id_] = waiting._replace(optional=True)
        schedule.last_run_at = run_at
        schedule.next_run_at = next_run_ms(schedule.cron, run_at)
