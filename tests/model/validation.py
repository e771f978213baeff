"""Reading a request's data; whatever cannot be read is refused with 400.

The checks are those of the server's ``types.rs``, with the SDK's ids (``origin:1.2``) in place of
the dotted ones. Two of the server's checks are left out, as resonate-pg leaves them out: that an
awaiter and what it awaits share an origin, and that the tasks of one heartbeat do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .records import BRANCH, DELAY, ORIGIN, PARENT, TARGET, RefusedError

_MAX_INT = 2**63 - 1
_SETTLE_STATES = ("resolved", "rejected", "rejected_canceled")
_REQUIRED = object()


def _bad(name: str) -> RefusedError:
    return RefusedError(400, f"invalid {name}")


def as_object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(name)
    return value


def text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value or not _storable(value):
        raise _bad(name)
    return value


def _storable(value: str) -> bool:
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)


def integer(
    data: Mapping[str, Any], name: str, low: int, high: int = _MAX_INT, default: Any = _REQUIRED
) -> Any:
    value = data.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(name)
    return value


def strings(data: Mapping[str, Any], name: str, default: Any) -> Any:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _bad(name)
    return dict(value)


def value(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    raw = data.get(name)
    if raw is None:
        return {}
    raw = as_object(raw, name)
    content = raw.get("data")
    if content is not None and not isinstance(content, str):
        raise _bad(name)
    return {"headers": strings(raw, "headers", {}), "data": content}


def address(text_: str) -> bool:
    """True for an address the server can route: http(s), or poll with a cast and a group."""
    parts = urlsplit(text_)
    if parts.scheme in ("http", "https"):
        return bool(parts.netloc)
    return parts.scheme == "poll" and parts.username in ("uni", "any") and bool(parts.hostname)


def _extends(id_: str, ancestor: str) -> bool:
    separator = "." if ":" in ancestor else ":"
    return id_ == ancestor or id_.startswith(ancestor + separator)


def create(data: Mapping[str, Any]) -> dict[str, Any]:
    id_ = text(data, "id")
    timeout_at = integer(data, "timeoutAt", 0)
    tags = strings(data, "tags", {})
    if ":" in tags.get(ORIGIN, ""):
        raise _bad(ORIGIN)
    for name in (ORIGIN, BRANCH, PARENT):
        if name in tags and not _extends(id_, tags[name]):
            raise _bad(name)
    if DELAY in tags:
        _delay(tags, timeout_at)
    if TARGET in tags and not address(tags[TARGET]):
        raise _bad(TARGET)
    return {"id": id_, "timeout_at": timeout_at, "tags": tags, "param": value(data, "param")}


def _delay(tags: Mapping[str, str], timeout_at: int) -> None:
    raw = tags[DELAY]
    if not (raw.isascii() and raw.isdigit()) or int(raw) >= timeout_at or TARGET not in tags:
        raise _bad(DELAY)


def settle(data: Mapping[str, Any]) -> dict[str, Any]:
    state = data.get("state")
    if state not in _SETTLE_STATES:
        raise _bad("state")
    return {"id": text(data, "id"), "state": state, "value": value(data, "value")}


def callback(data: Mapping[str, Any]) -> tuple[str, str]:
    awaited, awaiter = text(data, "awaited"), text(data, "awaiter")
    if awaited == awaiter:
        raise _bad("awaiter")
    return awaited, awaiter


def action(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_object(as_object(data.get("action"), "action").get("data"), "action.data")


def suspension(id_: str, data: Mapping[str, Any]) -> list[str]:
    actions = data.get("actions")
    if not isinstance(actions, list) or not actions:
        raise _bad("actions")
    awaited_ids = []
    for item in actions:
        awaited, awaiter = callback(as_object(as_object(item, "action").get("data"), "data"))
        if awaiter != id_:
            raise _bad("awaiter")
        awaited_ids.append(awaited)
    if len(set(awaited_ids)) != len(awaited_ids):
        raise _bad("actions")
    return awaited_ids


def page(
    data: Mapping[str, Any], default_limit: int, states: tuple[str, ...] = ()
) -> tuple[str | None, int, str | None]:
    state = data.get("state")
    if states and state is not None and state not in states:
        raise _bad("state")
    cursor = data.get("cursor")
    if cursor is not None and not isinstance(cursor, str):
        raise _bad("cursor")
    return state, integer(data, "limit", 1, 1000, default_limit), cursor
