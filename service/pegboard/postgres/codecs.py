"""The codecs of timestamps, dates and times: exact at the ends of the calendar, and the same in every time zone.

asyncpg's own codecs send the first and the last timestamp and date as infinities, interpret a timestamp without an
offset in the time zone of the machine, and cannot read a value that Python cannot represent.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import asyncpg

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(2000, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
_INFINITY = 2**63 - 1
_MICROSECONDS_PER_SECOND = 1_000_000

_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_END_OF_DAY = time(23, 59, 59)

# Without a time zone they stand for the infinities, as in asyncpg.
_PAST, _FUTURE = datetime.min, datetime.max


async def install(session: asyncpg.Connection) -> None:
    """Let a session use the codecs of this module, also for arrays."""
    for name, encode, decode in _CODECS:
        await session.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format="tuple")


def _encode_timestamp(value: Any) -> tuple[int]:
    """Return the microseconds since 2000; without an offset, `value` is in UTC."""
    if not isinstance(value, datetime):
        raise TypeError(f"expected a datetime, got {type(value).__name__}")
    if value.tzinfo is None:
        if value == _PAST:
            return (-_INFINITY - 1,)
        if value == _FUTURE:
            return (_INFINITY,)
        value = value.replace(tzinfo=UTC)
    return ((value - _EPOCH) // _MICROSECOND,)


def _decode_timestamp(encoded: tuple[int]) -> datetime:
    """Return a timestamp in UTC, the nearest one that Python can represent."""
    microseconds = encoded[0]
    try:
        return _EPOCH + timedelta(0, 0, microseconds)
    except OverflowError:
        if abs(microseconds) >= _INFINITY:
            return _FUTURE if microseconds > 0 else _PAST
        return _LAST if microseconds > 0 else _FIRST


def _encode_date(value: Any) -> tuple[int]:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError(f"expected a date, got {type(value).__name__}")
    return (value.toordinal() - _FIRST_DAY,)


def _decode_date(encoded: tuple[int]) -> date:
    """Return the nearest date that Python can represent."""
    try:
        return date.fromordinal(encoded[0] + _FIRST_DAY)
    except (ValueError, OverflowError):
        return date.max if encoded[0] > 0 else date.min


def _encode_time(value: Any) -> tuple[int]:
    if not isinstance(value, time):
        raise TypeError(f"expected a time, got {type(value).__name__}")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * _MICROSECONDS_PER_SECOND + value.microsecond,)


def _decode_time(encoded: tuple[int]) -> time:
    """Return a time of day; PostgreSQL's 24:00:00 becomes the last second."""
    seconds, microsecond = divmod(encoded[0], _MICROSECONDS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return time(hour, minute, second, microsecond) if hour < 24 else _END_OF_DAY


_CODECS: tuple[tuple[str, Callable[[Any], tuple[int]], Callable[[tuple[int]], Any]], ...] = (
    ("timestamptz", _encode_timestamp, _decode_timestamp),
    ("timestamp", _encode_timestamp, _decode_timestamp),
    ("date", _encode_date, _decode_date),
    ("time", _encode_time, _decode_time),
)
