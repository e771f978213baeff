"""When two answers, or two messages, say the same.

An absent member, ``null`` and an empty ``headers`` mean the same on this wire (the server leaves
them out, resonate-pg writes them), so records are brought to one form first. Preloads and pages
keep their meaning whatever their order is, except that pages are ordered by id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import Answer

_TAGS_OF_A_RUN = ("resonate:schedule", "resonate:prefix")
"""The server stamps these on the promise of a schedule too; no rule asks for them."""


def _value(raw: Any) -> tuple[Any, Any]:
    raw = raw or {}
    return tuple(sorted((raw.get("headers") or {}).items())), raw.get("data")


def promise(raw: Mapping[str, Any]) -> dict[str, Any]:
    tags = {name: text for name, text in raw["tags"].items() if name not in _TAGS_OF_A_RUN}
    return {
        "id": raw["id"],
        "state": raw["state"],
        "param": _value(raw.get("param")),
        "value": _value(raw.get("value")),
        "tags": tags,
        "timeoutAt": raw["timeoutAt"],
        "createdAt": raw["createdAt"],
        "settledAt": raw.get("settledAt"),
    }


def task(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": raw["id"],
        "state": raw["state"],
        "version": raw["version"],
        "resumes": raw.get("resumes") or 0,
        "ttl": raw.get("ttl"),
        "pid": raw.get("pid"),
    }


def schedule(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": raw["id"],
        "cron": raw["cron"],
        "promiseId": raw["promiseId"],
        "promiseTimeout": raw["promiseTimeout"],
        "promiseParam": _value(raw.get("promiseParam")),
        "promiseTags": raw["promiseTags"],
        "createdAt": raw["createdAt"],
        "nextRunAt": raw["nextRunAt"],
        "lastRunAt": raw.get("lastRunAt"),
    }


_RECORDS = {"promise": promise, "task": task, "schedule": schedule}
_PAGES = {"promises": promise, "tasks": task, "schedules": schedule}


def canonical(answer: Answer) -> Any:
    """Return a form of the answer that is equal for answers that say the same."""
    status, data = answer
    if status >= 400:
        return status, "refusal" if isinstance(data, str) else f"refusal without a text: {data!r}"
    if not isinstance(data, dict):
        return status, data
    return status, {name: _member(name, raw) for name, raw in data.items() if raw is not None}


def _member(name: str, raw: Any) -> Any:
    if name in _RECORDS:
        return _RECORDS[name](raw)
    if name in _PAGES:
        return [_PAGES[name](item) for item in raw]
    if name == "preload":
        return sorted((promise(item) for item in raw), key=lambda item: str(item["id"]))
    if name == "action":
        return raw["kind"], canonical(Answer(raw["head"]["status"], raw["data"]))
    return raw


def same(model: Answer, other: Answer) -> bool:
    """True if ``other`` may stand for the model's answer.

    A fence may carry any part of the branch as preload, so only its action is compared.
    """
    left, right = canonical(model), canonical(other)
    if model.status == 200 and isinstance(model.data, dict) and "action" in model.data:
        for _, data in (left, right):
            if isinstance(data, dict):
                data.pop("preload", None)
    return bool(left == right)


def message(kind: str, data: Mapping[str, Any]) -> Any:
    """The form of a message's data for comparison.

    Raises:
        ValueError: an unblock holds a null value or param, which makes the SDK drop it.
    """
    if kind == "execute":
        return kind, data["task"]["id"], data["task"]["version"]
    record = data["promise"]
    if any(name in record and record[name] is None for name in ("value", "param")):
        raise ValueError(f"an unblock with a null value or param: {record}")
    return kind, promise(record)
