"""Recorded executions as documents: read from an engine, kept in files, written to another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from resonate.error import ServerError
from resonate.resonate import Resonate
from resonate.types import PromiseRecord, Value

from durable.errors import InvalidArgumentError
from durable.guards import engine_errors

__all__ = [
    "History",
    "histories_in",
    "load_history",
    "natural_key",
    "read_below",
    "read_history",
    "write_history",
]

#: Version of the document's form.
FORMAT = 1

#: Promises asked for at once; the most that engines give.
_PAGE = 1000


class History(msgspec.Struct, frozen=True):
    """One execution with everything below it, payloads decoded.

    Attributes:
        execution: The root promise.
        promises: Steps, sleeps, promises, attempts and notes, by creation.
    """

    execution: PromiseRecord
    promises: tuple[PromiseRecord, ...]

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.execution.id

    def to_json(self) -> str:
        """Return the document as JSON, readable and the same for the same history."""
        document = {
            "sostenuto_history": FORMAT,
            "execution": _as_document(self.execution),
            "promises": [_as_document(promise) for promise in self.promises],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _as_document(promise: PromiseRecord) -> dict[str, Any]:
    return {
        "id": promise.id,
        "state": promise.state,
        "param": promise.param.data,
        "value": promise.value.data,
        "tags": promise.tags,
        "timeout_at": promise.timeout_at,
        "created_at": promise.created_at,
        "settled_at": promise.settled_at,
    }


def _from_document(data: Mapping[str, Any]) -> PromiseRecord:
    return PromiseRecord(
        id=data["id"],
        state=data["state"],
        param=Value(data=data["param"]),
        value=Value(data=data["value"]),
        tags=dict(data["tags"]),
        timeout_at=data["timeout_at"],
        created_at=data["created_at"],
        settled_at=data["settled_at"],
    )


def load_history(source: str | Path | Mapping[str, Any]) -> History:
    """Read a history from a file or a parsed document.

    Raises:
        InvalidArgumentError: It is none, or of a newer form; the message names the file.
    """
    name = "the document"
    data: Any = source
    if not isinstance(source, Mapping):
        name = str(source)
        try:
            data = json.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"the history {name} cannot be read: {error.strerror or error}"
            raise InvalidArgumentError(msg) from error
        except ValueError as error:
            msg = f"{name} is not JSON: {error}; write histories with 'sostenuto export'"
            raise InvalidArgumentError(msg) from error
    if not isinstance(data, dict) or "sostenuto_history" not in data:
        msg = f"{name} is not a recorded history: write one with 'sostenuto export ID'"
        raise InvalidArgumentError(msg)
    if data["sostenuto_history"] != FORMAT:
        msg = (
            f"{name} has form {data['sostenuto_history']!r} and this version reads {FORMAT}: "
            "upgrade sostenuto"
        )
        raise InvalidArgumentError(msg)
    try:
        return History(
            _from_document(data["execution"]),
            tuple(_from_document(promise) for promise in data["promises"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{name} is damaged: {type(error).__name__} {error}; export it again"
        raise InvalidArgumentError(msg) from error


async def read_history(engine: Resonate, execution_id: str) -> History:
    """Read an execution and everything below it.

    Raises:
        UnknownExecutionError: There is none with this id.
    """
    with engine_errors(execution_id):
        root = await engine.promises.get(execution_id)
        lineage = await _search(engine, {"resonate:origin": execution_id})
    found = [promise for promise in lineage if promise.id != execution_id]
    found.sort(key=lambda promise: (promise.created_at, natural_key(promise.id)))
    return History(root, tuple(found))


async def read_below(engine: Resonate, promise_id: str) -> list[PromiseRecord]:
    """Read what was made right below an execution or step, in no order.

    Raises:
        ResonateError: The engine does not answer.
    """
    return await _search(engine, {"resonate:parent": promise_id})


async def _search(engine: Resonate, tags: dict[str, str]) -> list[PromiseRecord]:
    found: list[PromiseRecord] = []
    cursor: str | None = None
    while True:
        page = await engine.promises.search(None, tags, _PAGE, cursor)
        found += page.promises
        cursor = page.cursor
        if cursor is None:
            return found


def natural_key(promise_id: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key by which ``exec:2`` comes before ``exec:10``."""
    parts = promise_id.replace(":", ".").split(".")
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


async def write_history(engine: Resonate, history: History, *, target: str) -> None:
    """Write a history to another engine, over the protocol.

    Steps come first, so that a worker that takes up an open execution finds them. A
    step that was not done is left out: it runs again. Times of creation become now.

    Args:
        engine: Where to write.
        history: What to write.
        target: Address of the group that takes up an open execution.

    Raises:
        InvalidArgumentError: The engine has another execution under this id.
    """
    with engine_errors(history.id):
        try:
            existing = await engine.promises.get(history.id)
        except ServerError as error:
            if error.code != 404:
                raise
        else:
            if existing.param.data != history.execution.param.data:
                msg = (
                    f"{history.id!r} exists in the target with another function, arguments or "
                    "source: remove or rename one of them"
                )
                raise InvalidArgumentError(msg)
            if existing.state != "pending":
                return
        for promise in history.promises:
            if promise.state == "pending" and promise.tags.get("resonate:scope") == "local":
                continue
            await _write(engine, promise, target)
        await _write(engine, history.execution, target)


async def _write(engine: Resonate, promise: PromiseRecord, target: str) -> None:
    tags = dict(promise.tags)
    if "resonate:target" in tags:
        # Done work must not be dispatched again; open work goes to the new group.
        if promise.state == "pending":
            tags["resonate:target"] = target
        else:
            del tags["resonate:target"]
    await engine.promises.create(
        promise.id, promise.timeout_at, Value(data=promise.param.data), tags
    )
    value = Value(data=promise.value.data)
    match promise.state:
        case "resolved":
            await engine.promises.resolve(promise.id, value)
        case "rejected":
            await engine.promises.reject(promise.id, value)
        case "rejected_canceled":
            await engine.promises.cancel(promise.id, value)
        case _:
            pass


def histories_in(directory: Path) -> Iterator[Path]:
    """Yield the history files of a directory, sorted."""
    yield from sorted(directory.glob("**/*.json"))
