"""Five-field cron expressions in UTC, as the Resonate engines read them.

Fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-6 from
Sunday. Each is `*`, a number, a range `a-b` or a list of those, with an optional
`/step`; `a/step` runs from `a` to the field's end. When day of month and day of week
are both restricted (neither is `*`), a day matching either is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["Cron", "CronError", "parse"]

#: Years searched for the next run. Leap days are at most 8 years apart (1896-1904,
#: 2096-2104), so an expression without a run within 9 years never has one.
HORIZON_YEARS = 9

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = ("minute", "hour", "day of month", "month", "day of week")


class CronError(ValueError):
    """The expression is not a cron expression, or never matches any day."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression.

    Attributes:
        minutes: Minutes of the hour that match.
        hours: Hours of the day that match.
        days: Days of the month that match.
        months: Months that match, from 1.
        weekdays: Days of the week that match, 0 is Sunday.
        any_day: The day-of-month field is `*`.
        any_weekday: The day-of-week field is `*`.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def next_after(self, after_ms: int) -> int:
        """The first matching minute strictly after a time.

        Args:
            after_ms: Milliseconds since the epoch.

        Returns:
            The run time in milliseconds since the epoch, on a whole minute.

        Raises:
            CronError: No minute matches within nine years.
        """
        try:
            moment = datetime.fromtimestamp(after_ms // 60_000 * 60, UTC) + timedelta(minutes=1)
            end = moment.replace(year=moment.year + HORIZON_YEARS, day=1)
        except (OverflowError, ValueError, OSError) as error:
            raise CronError(f"no run can be computed after {after_ms} ms: {error}") from error
        while moment < end:
            if moment.month not in self.months:
                moment = _next_month(moment)
            elif not self._day_matches(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in self.hours:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                return int(moment.timestamp()) * 1000
        raise CronError(f"no day within {HORIZON_YEARS} years matches")

    def _day_matches(self, moment: datetime) -> bool:
        weekday = moment.isoweekday() % 7 in self.weekdays
        day = moment.day in self.days
        if self.any_day or self.any_weekday:
            return day and weekday
        return day or weekday


def _next_month(moment: datetime) -> datetime:
    first = moment.replace(day=1, hour=0, minute=0)
    return (first + timedelta(days=32)).replace(day=1)


def parse(expression: str) -> Cron:
    """Parse a five-field expression.

    Args:
        expression: Fields separated by white space.

    Returns:
        The parsed `Cron`.

    Raises:
        CronError: Wrong number of fields, a field out of its bounds, or no field syntax.
    """
    fields = expression.split()
    if len(fields) != len(_BOUNDS):
        raise CronError(f"cron expression {expression!r} needs 5 fields, has {len(fields)}")
    sets = [
        _parse_field(text, low, high, name)
        for text, (low, high), name in zip(fields, _BOUNDS, _NAMES, strict=True)
    ]
    minutes, hours, days, months, weekdays = sets
    return Cron(minutes, hours, days, months, weekdays, fields[2] == "*", fields[4] == "*")


def _parse_field(text: str, low: int, high: int, name: str) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, name) if slash else 1
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first_text, _, last_text = span.partition("-")
            first, last = _number(first_text, name), _number(last_text, name)
        else:
            first = _number(span, name)
            last = high if slash else first
        if step < 1 or not low <= first <= last <= high:
            raise CronError(f"cron {name} {part!r} is not within {low}-{high}")
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise CronError(f"cron {name} {text!r} is not a number")
    return int(text)
