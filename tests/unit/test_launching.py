"""An id belongs to one function, version, set of arguments or source, for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from resonate.types import PromiseRecord, Value

from durable.errors import ExecutionMismatchError
from durable.launching import check_same
from durable.records import SOURCE_FUNCTION
from durable.signing import SigningKey
from durable.values import ValueCodec

pytestmark = pytest.mark.unit

KEY = SigningKey.generate()
VALUES = ValueCodec(lambda: KEY)


@dataclass
class Point:
    x: int


def record(param: Any) -> PromiseRecord:
    return PromiseRecord(
        id="x",
        state="pending",
        param=Value(data=param),
        value=Value(),
        tags={},
        timeout_at=1,
        created_at=0,
        settled_at=None,
    )


def call(name: str, *args: Any, version: int = 1, **kwargs: Any) -> dict[str, Any]:
    return {
        "func": name,
        "version": version,
        "args": [VALUES.encode(value, where="here") for value in args],
        "kwargs": {key: VALUES.encode(value, where="here") for key, value in kwargs.items()},
    }


def check(recorded: Any, asked: dict[str, Any]) -> None:
    check_same(
        record(recorded),
        name=asked["func"],
        version=asked["version"],
        args=asked["args"],
        kwargs=asked["kwargs"],
        values=VALUES,
    )


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, "x", None), {}), (({"a": [1, {2}]},), {"k": Point(1)}), ((b"x", 1.5), {})],
)
def test_the_same_call_is_the_same_execution(args: Any, kwargs: Any) -> None:
    check(call("f", *args, **kwargs), call("f", *args, **kwargs))


@pytest.mark.parametrize(
    ("recorded", "asked", "what"),
    [
        (call("f"), call("g"), "function"),
        (call("f"), call("f", version=2), "version"),
        (call("f", 1), call("f", 2), "arguments"),
        (call("f", 1), call("f"), "arguments"),
        (call("f", 1), call("f", "1"), "arguments"),
        (call("f", 1), call("f", True), "arguments"),
        (call("f", x=1), call("f", y=1), "arguments"),
        (call("f", Point(1)), call("f", Point(2)), "arguments"),
        (call("f", {1, 2}), call("f", {1, 3}), "arguments"),
        (None, call("f"), "function"),
        ("text", call("f"), "function"),
        (call(SOURCE_FUNCTION, source="a"), call(SOURCE_FUNCTION, source="b"), "source"),
    ],
)
def test_another_call_under_the_same_id_is_told_what_differs(
    recorded: Any, asked: dict[str, Any], what: str
) -> None:
    with pytest.raises(ExecutionMismatchError, match="use another id") as caught:
        check(recorded, asked)
    assert caught.value.what == what
    assert caught.value.execution_id == "x"


def test_of_other_source_the_first_other_line_is_shown() -> None:
    old = "\n".join(f"line_{n}()" for n in range(50))
    new = old.replace("line_30()", "line_30(changed)")
    with pytest.raises(ExecutionMismatchError, match=r"line 31.*line_30\(\).*line_30\(changed\)"):
        check(call(SOURCE_FUNCTION, source=old), call(SOURCE_FUNCTION, source=new))


def test_the_file_that_source_came_from_may_have_moved() -> None:
    check(
        call(SOURCE_FUNCTION, source="a", filename="/one.py"),
        call(SOURCE_FUNCTION, source="a", filename="/two.py"),
    )
