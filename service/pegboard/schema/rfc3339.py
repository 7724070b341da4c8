"""Strict parsers for timestamps, dates and times of day in the formats of RFC 3339."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta

_DATE = r"\d{4}-\d\d-\d\d"
_TIME_OF_DAY = r"\d\d:\d\d:\d\d(?:\.\d+)?"
_TIMESTAMP_PATTERN = re.compile(rf"{_DATE}[Tt]{_TIME_OF_DAY}(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?", re.ASCII)
_DATE_PATTERN = re.compile(_DATE, re.ASCII)
_TIME_PATTERN = re.compile(_TIME_OF_DAY, re.ASCII)


def parse_datetime(text: str) -> datetime:
    """Parse a timestamp, convert it to UTC and drop its fraction of a second; raises `ValueError`.

    Without an offset it is interpreted as UTC. A leap second counts as the second that follows it.
    """
    if not _TIMESTAMP_PATTERN.fullmatch(text):
        raise ValueError("not an RFC 3339 timestamp")
    leap = text[17:19] == "60"
    local = datetime.fromisoformat((f"{text[:17]}59{text[19:]}" if leap else text).upper())
    if local.microsecond:
        local = local.replace(microsecond=0)
    try:
        moment = local.replace(tzinfo=UTC) if local.tzinfo is None else local.astimezone(UTC)
        return _after_leap_second(moment) if leap else moment
    except OverflowError:
        raise ValueError("in UTC, it is not in the years 1 to 9999") from None


def parse_date(text: str) -> date:
    """Parse a calendar date such as `2015-02-15`; raises `ValueError`."""
    if not _DATE_PATTERN.fullmatch(text):
        raise ValueError("not an RFC 3339 date")
    return date.fromisoformat(text)


def parse_time(text: str) -> time:
    """Parse a time of day without an offset, and drop its fraction of a second; raises `ValueError`."""
    if not _TIME_PATTERN.fullmatch(text):
        raise ValueError("not an RFC 3339 time")
    return time.fromisoformat(text[:8])


def _after_leap_second(moment: datetime) -> datetime:
    last_day = monthrange(moment.year, moment.month)[1]
    if (moment.day, moment.hour, moment.minute) != (last_day, 23, 59):
        raise ValueError("not a valid leap second")
    return moment + timedelta(seconds=1)
