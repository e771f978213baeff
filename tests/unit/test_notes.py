"""What the notes of a timed-out execution say of its limit."""

from __future__ import annotations

import pytest

from durable.notes import limit_s

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("late_ms", [0, 1, 6, 10])
@pytest.mark.parametrize("asked_s", [0.25, 0.5, 0.55, 1, 2.5, 30, 86_400])
def test_the_limit_is_told_as_it_was_asked_for_however_late_the_creation_was_noted(
    asked_s, late_ms
):
    assert limit_s(1_000 + late_ms, 1_000 + round(asked_s * 1000)) == asked_s


def test_a_limit_that_is_not_round_is_told_in_hundredths():
    assert limit_s(0, 1_234) == 1.23
    assert limit_s(0, 123) == 0.12
