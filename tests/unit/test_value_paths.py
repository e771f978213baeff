"""Where something is inside a value, told as the expression that gets at it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import pytest

from durable.value_paths import path_text, path_within

pytestmark = pytest.mark.unit


class Culprit:
    pass


@dataclass
class Row:
    held: Any


class Slotted:
    __slots__ = ("__dict__", "left", "right")


class Tagged(dict[str, Any]):
    pass


class Pair(NamedTuple):
    a: Any
    b: Any


class Color(Enum):
    RED = 1


IT = Culprit()


def slotted(right: Any) -> Slotted:
    made = Slotted()
    made.right = right
    return made


def tagged(value: Any) -> Tagged:
    made = Tagged(a=1)
    made.extra = value  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (IT, "result"),
        ([0, IT], "result[1]"),
        ({"rows": [Row((IT,))]}, 'result["rows"][0].held[0]'),
        ({1: IT}, "result[1]"),
        ({None: IT}, "result[None]"),
        ({b"k": IT}, "result[b'k']"),
        ({(1, 2): IT}, "result[<tuple>]"),
        ({Color.RED: IT}, "result[<Color>]"),
        ({"line\nbreak": IT}, 'result["line\\nbreak"]'),
        ({IT}, "result.<member>"),
        (frozenset([IT]), "result.<member>"),
        (OrderedDict(a=IT), 'result["a"]'),
        (Pair(1, IT), "result[1]"),
        (slotted([IT]), "result.right[0]"),
        (tagged(IT), "result.extra"),
        ({"k" * 200: IT}, f'result["{"k" * 60}"]'),
    ],
)
def test_the_path_is_the_expression_that_gets_at_it(value: Any, path: str) -> None:
    found = path_within(value, IT)
    assert found is not None
    assert path_text(found) == path


def test_the_shortest_way_is_told() -> None:
    found = path_within({"deep": [[[IT]]], "near": IT}, IT)
    assert found is not None
    assert path_text(found) == 'result["near"]'


def test_what_is_nowhere_in_a_value_that_contains_itself_has_no_path() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert path_within(value, IT) is None
    assert path_within(Culprit, IT) is None


def test_a_value_too_large_to_search_quickly_has_no_path() -> None:
    assert path_within([object() for _ in range(200_000)] + [IT], IT) is None


def test_a_key_is_told_as_such() -> None:
    assert path_text([("key", "k"), ("attr", "x")]) == 'result.<key "k">.x'
