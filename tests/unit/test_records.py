"""What a record tells is read from the store as it is: plain text, without unpickling."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from resonate.types import PromiseRecord, Value

from durable.errors import ExecutionCancelledError, ExecutionTimeoutError
from durable.failures import encode_failure
from durable.records import ExecutionRecord, StepRecord, as_time
from durable.signing import SigningKey
from durable.values import ValueCodec

pytestmark = pytest.mark.unit


def no_key() -> SigningKey:
    raise AssertionError("reading this needs no key")


def promise(
    state: str = "resolved", param: Any = None, value: Any = None, **more: Any
) -> PromiseRecord:
    fields: dict[str, Any] = {
        "id": "x",
        "tags": {},
        "timeout_at": 2_000,
        "created_at": 1_000,
        "settled_at": None if state == "pending" else 1_500,
        **more,
    }
    return PromiseRecord(state=state, param=Value(data=param), value=Value(data=value), **fields)


def execution(*args: Any, **kwargs: Any) -> ExecutionRecord:
    return ExecutionRecord(promise(*args, **kwargs), ValueCodec(no_key))


def test_a_finished_execution() -> None:
    found = execution(param={"func": "f", "version": 3, "args": [1], "kwargs": {"a": 2}}, value=42)
    assert (found.name, found.version, found.args, found.kwargs) == ("f", 3, (1,), {"a": 2})
    assert (found.result, found.error, found.error_text, found.notes) == (42, None, None, [])
    assert found.duration_ms == 500
    assert found.created_at == datetime.fromtimestamp(1, UTC)
    assert found.source is None


def test_source_and_its_file() -> None:
    kwargs = {"source": "1 + 1", "filename": "/a.py"}
    found = execution(param={"func": "sostenuto.source", "kwargs": kwargs})
    assert (found.source, found.filename) == ("1 + 1", "/a.py")
    other = execution(param={"func": "f", "kwargs": kwargs})
    assert (other.source, other.filename) == (None, None)


def test_a_failure_is_told_without_a_key() -> None:
    class OwnError(Exception):
        pass

    error = OwnError("went wrong")
    error.add_note("a note")
    failure = encode_failure(error, ValueCodec(SigningKey.generate))
    found = execution("rejected", value=failure)
    assert found.error_text is not None
    assert found.error_text.endswith("OwnError: went wrong")
    assert found.notes == ["a note"]


@pytest.mark.parametrize(
    ("state", "value", "text", "kind"),
    [
        ("rejected_timedout", None, "timed out", ExecutionTimeoutError),
        ("rejected_canceled", None, "cancelled", ExecutionCancelledError),
        ("rejected_canceled", "why", "cancelled: why", ExecutionCancelledError),
    ],
)
def test_ends_that_the_store_made(state: str, value: Any, text: str, kind: type) -> None:
    found = execution(state, value=value)
    assert found.error_text == text
    assert isinstance(found.error, kind)
    assert found.result is None


def test_what_others_left_in_the_store_breaks_no_reader() -> None:
    for param in (None, 5, "text", [], {}, {"func": 7}, {"kwargs": []}):
        for value in (None, 5, {}, {"message": 5}, {"message": "m", "notes": "no list"}):
            for state in ("pending", "resolved", "rejected"):
                found = execution(state, param=param, value=value)
                _ = (found.name, found.source, found.filename, found.notes, found.error_text)
                _ = (found.error, found.traceback_text, found.duration_ms)


def test_steps_tell_their_kind_and_name() -> None:
    def step(param: Any) -> StepRecord:
        tags = {"resonate:parent": "x"}
        return StepRecord(promise(param=param, tags=tags), ValueCodec(no_key))

    run = step({"kind": "run", "step": "fetch", "args": "00"})
    assert (run.kind, run.name, run.parent_id) == ("run", "fetch", "x")
    assert (step({"func": "child"}).kind, step({"func": "child"}).name) == ("rpc", "child")
    assert (step(None).kind, step(None).name) == ("promise", "?")
    attempt = step({"kind": "attempt", "step": "f", "attempt": 2, "error": "E: x", "wait_s": 1})
    assert attempt.details["attempt"] == 2


def test_times_beyond_the_calendar_are_the_last_one() -> None:
    assert as_time(None) is None
    assert as_time(10**18) == datetime.max.replace(tzinfo=UTC)
