"""Serialization of values: JSON, one date format, HTTP dates and entity tags."""

from __future__ import annotations

import ipaddress
import math
import reprlib
from collections.abc import Callable, Mapping, Set
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

_EXACT = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_ROWS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS | orjson.OPT_NAIVE_UTC

_LENGTH_TO_SECOND = len("2015-02-15 05:21:07+00")
_LENGTH_OF_DATE = len("2015-02-15")
_LENGTH_OF_TIME = len("05:21:07")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def dumps(value: Any) -> bytes:
    """Return `value` as JSON in UTF-8, with every instant in UTC, truncated to seconds, with `Z`.

    A float that is not finite becomes null. Raises `TypeError` for a value that JSON cannot represent: an unknown type,
    a lone surrogate.
    """
    return orjson.dumps(value, default=_default, option=_EXACT)


def dumps_rows(value: Any) -> bytes:
    """Return rows from the database as JSON in UTF-8.

    Faster than `dumps`, but correct only if every `datetime` is in UTC, as asyncpg's are.
    """
    return orjson.dumps(value, default=_default, option=_ROWS)


def short(value: Any) -> str:
    """Return the `repr` of a value, shortened to fit into a one-line message."""
    return _SHORT.repr(value)


def exact_float(value: int | Decimal) -> float | None:
    """Return the double that is shown with the same digits as `value`, or None if there is none."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and Decimal(repr(number)) == value else None


def instant(moment: datetime) -> str:
    """Return `moment` as `2015-02-15T05:21:07Z` (RFC 3339); without an offset it is assumed to be in UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def instant_from_postgres(text: str) -> str:
    """Return PostgreSQL's text for an instant, in the time zone UTC, in the format of `instant`.

    An instant before the year 1 or after the year 9999 becomes the first or the last second of that range.
    """
    if len(text) == _LENGTH_TO_SECOND or (text[10:11] == " " and not text.endswith("BC")):
        return f"{text[:10]}T{text[11:19]}Z"
    return "0001-01-01T00:00:00Z" if text.startswith("-") or text.endswith("BC") else "9999-12-31T23:59:59Z"


def date_from_postgres(text: str) -> str:
    """Return PostgreSQL's text for a date in the format of RFC 3339; one out of the years 1 to 9999 is moved there."""
    if len(text) == _LENGTH_OF_DATE:
        return text
    return "0001-01-01" if text.startswith("-") or text.endswith("BC") else "9999-12-31"


def time_from_postgres(text: str) -> str:
    """Return PostgreSQL's text for a time of day without its fraction; 24:00:00 becomes the last second."""
    return "23:59:59" if text.startswith("24") else text[:_LENGTH_OF_TIME]


FROM_POSTGRES: Mapping[str, Callable[[str], str]] = {
    "timestamptz": instant_from_postgres,
    "timestamp": instant_from_postgres,
    "date": date_from_postgres,
    "time": time_from_postgres,
}
"""The functions that complete PostgreSQL's text for a value, by its type."""


@lru_cache(maxsize=4096)
def http_date(moment: datetime) -> str:
    """Return `moment`, which has an offset, as an HTTP date (RFC 9110 §5.6.7): `Sun, 15 Feb 2015 05:21:07 GMT`."""
    utc = moment.astimezone(UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day:02} {_MONTHS[utc.month - 1]} {utc.year:04} "
        f"{utc.hour:02}:{utc.minute:02}:{utc.second:02} GMT"
    )


def digest(body: bytes) -> str:
    """Return the opaque part of a strong entity tag: 22 characters, the same for equal representations."""
    return sha256(body).hexdigest()[:22]


def _default(value: Any) -> Any:
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        # Only PostgreSQL's own clients can store one: NaN, Infinity or -Infinity.
        return str(value)
    # Like `numeric` of PostgreSQL, without a negative zero.
    return format(value if value else value.copy_abs(), "f")


def _time(value: time) -> str:
    return value.replace(microsecond=0, tzinfo=None).isoformat()


def address(value: Any) -> str:
    """Return an IP address or network as PostgreSQL shows it, with an embedded IPv4 address in its own notation."""
    number = int(value) if isinstance(value, ipaddress.IPv6Address) else 0
    if number >> 32 == 0xFFFF:
        return f"::ffff:{ipaddress.IPv4Address(number & 0xFFFFFFFF)}"
    if number >> 32 == 0 and number >> 16:
        return f"::{ipaddress.IPv4Address(number)}"
    return str(value)


ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)
"""The types that `address` converts."""

_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (datetime, instant),
    (date, date.isoformat),
    (time, _time),
    (Decimal, _decimal),
    (UUID, str),
    (Enum, lambda value: value.value),
    (Mapping, dict),
    ((tuple, list, Set), list),
    (str, str.__str__),
    (int, int),
    (float, float),
    (ADDRESSES, address),
)
