"""Five-field cron in UTC, by asking every day whether it matches."""

from __future__ import annotations

import datetime as dt

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_HORIZON_DAYS = 9 * 366
"""Nine years, as resonate.sql: 29 February can be eight years away."""


class CronError(ValueError):
    """The text is no five-field cron expression, or names a day that never comes."""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise CronError(text)
    return int(text)


def _part(part: str, low: int, high: int) -> range:
    span, slash, step_text = part.partition("/")
    step = _number(step_text) if slash else 1
    if step < 1:
        raise CronError(part)
    if span == "*":
        first, last = low, high
    elif "-" in span:
        first_text, _, last_text = span.partition("-")
        first, last = _number(first_text), _number(last_text)
    else:
        first = _number(span)
        last = high if slash else first
    if not low <= first <= last <= high:
        raise CronError(part)
    return range(first, last + 1, step)


def _field(text: str, low: int, high: int) -> set[int]:
    return {value for part in text.split(",") for value in _part(part, low, high)}


def next_run_ms(cron: str, after_ms: int) -> int:
    """Return the first matching minute strictly after ``after_ms`` (Unix ms)."""
    texts = cron.split()
    if len(texts) != len(_BOUNDS):
        raise CronError(cron)
    minutes, hours, days, months, weekdays = (
        _field(text, low, high) for text, (low, high) in zip(texts, _BOUNDS, strict=True)
    )
    any_day, any_weekday = texts[2] == "*", texts[4] == "*"

    def day_matches(day: dt.date) -> bool:
        if day.month not in months:
            return False
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        if not any_day and not any_weekday:
            return in_month or in_week
        return in_month and in_week

    after = dt.datetime.fromtimestamp(after_ms // 1000, dt.UTC)
    for offset in range(_HORIZON_DAYS):
        day = after.date() + dt.timedelta(days=offset)
        if not day_matches(day):
            continue
        for hour in sorted(hours):
            for minute in sorted(minutes):
                moment = dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)
                if moment > after:
                    return int(moment.timestamp()) * 1000
    raise CronError(cron)
