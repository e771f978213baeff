"""Cron expressions: what they accept, and when they run next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from store.cron import CronError, parse

pytestmark = pytest.mark.unit


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("* * * * *", "2024-01-01T00:00:00", "2024-01-01T00:01:00"),
        ("* * * * *", "2024-01-01T00:00:59.999", "2024-01-01T00:01:00"),
        ("*/15 * * * *", "2024-01-01T00:45:00", "2024-01-01T01:00:00"),
        ("5/20 * * * *", "2024-01-01T00:26:00", "2024-01-01T00:45:00"),
        ("0 9-17/4 * * *", "2024-01-01T13:00:00", "2024-01-01T17:00:00"),
        ("0,30 0 1 1 *", "2024-01-01T00:00:00", "2024-01-01T00:30:00"),
        ("0 0 1 * *", "2024-12-15T12:00:00", "2025-01-01T00:00:00"),
        ("0 0 29 2 *", "2024-02-29T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 * * 0", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
        ("0 0 13 * 5", "2024-09-10T00:00:00", "2024-09-13T00:00:00"),
        ("0 0 13 * 5", "2024-09-13T00:00:00", "2024-09-20T00:00:00"),
        ("0 0 */10 * 1", "2024-01-01T00:00:00", "2024-01-08T00:00:00"),
        ("59 23 31 12 *", "2024-12-31T23:59:00", "2025-12-31T23:59:00"),
    ],
)
def test_the_next_run_is_the_first_matching_minute_strictly_after(expression, after, expected):
    assert parse(expression).next_after(ms(after)) == ms(expected)


@pytest.mark.parametrize(
    "expression",
    [
        *("", "*", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *"),
        *("* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 7", "*/0 * * * *", "5-1 * * * *"),
        *("a * * * *", "-1 * * * *", "1- * * * *", "1,,2 * * * *", "1/ * * * *", "² * * * *"),
        *("@daily", "0 0 * JAN *", "+1 * * * *", "1_0 * * * *"),
    ],
)
def test_what_is_no_cron_expression_is_refused(expression):
    with pytest.raises(CronError):
        parse(expression)


def test_a_day_that_never_comes_is_refused_instead_of_searched_for_ever():
    with pytest.raises(CronError, match="9 years"):
        parse("0 0 31 2 *").next_after(ms("2024-01-01T00:00:00"))


def test_a_time_at_the_end_of_the_calendar_is_refused():
    with pytest.raises(CronError):
        parse("* * * * *").next_after((1 << 63) - 1)
