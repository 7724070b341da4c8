"""The form in which a value is stored, whichever way it came: from a body, a default, a hook or an action."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any
from uuid import UUID

from marshmallow.fields import Field, Nested

from pegboard.rendering import short
from pegboard.schema import rfc3339
from pegboard.schema.column import INTEGER_KEY, base_type
from pegboard.schema.numbers import MAX_INTEGER, MIN_INTEGER

Normalize = Callable[[Any], Any]
"""A function that returns the stored form of a value other than null; it raises `ValueError` if there is none."""


def normalizer(field: Field[Any], type_of: str | None) -> Normalize | None:
    """Return the function for the values of `field`, whose column has the type `type_of`; None for no conversion."""
    own: Normalize | None = getattr(field, "normalize", None)
    if own is not None:
        return own
    if isinstance(field, Nested):
        return _nested(field)
    inner: Field[Any] | None = getattr(field, "inner", None)
    part = inner or getattr(field, "value_field", None)
    if part is None:
        return _BY_TYPE.get(base_type(type_of or ""))
    element = type_of[: -len("[]")] if type_of and type_of.endswith("[]") else getattr(part, "column_type", None)
    normalize = normalizer(part, element)
    if normalize is None:
        return None
    return _each_element(normalize) if inner is not None else _each_value(normalize)


def _each_element(normalize: Normalize) -> Normalize:
    def normalize_list(values: Any) -> Any:
        if not isinstance(values, list | tuple | set | frozenset):
            raise ValueError(f"a list is needed, not {short(values)}")
        return [None if value is None else normalize(value) for value in values]

    return normalize_list


def _each_value(normalize: Normalize) -> Normalize:
    def normalize_mapping(values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError(f"a dict is needed, not {short(values)}")
        return {key: None if value is None else normalize(value) for key, value in values.items()}

    return normalize_mapping


def _nested(field: Nested) -> Normalize:
    @cache
    def normalizers() -> Mapping[str, Normalize]:
        # Only once a value is there, as a schema may nest itself.
        parts = {part.attribute or name: part for name, part in field.schema.fields.items()}
        found = {name: normalizer(part, getattr(part, "column_type", None)) for name, part in parts.items()}
        return {name: normalize for name, normalize in found.items() if normalize is not None}

    def normalize_one(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        own = normalizers()
        return {key: own[key](part) if part is not None and key in own else part for key, part in value.items()}

    def normalize_nested(value: Any) -> Any:
        return [normalize_one(part) for part in value] if isinstance(value, list) else normalize_one(value)

    return normalize_nested


def instant(value: Any) -> datetime:
    """Return a timestamp in UTC without fractions of a second; text is in the format of RFC 3339.

    asyncpg's values for the infinities, the first and the last `datetime` without a time zone, are unchanged.
    """
    if isinstance(value, str):
        return rfc3339.parse_datetime(value)
    if not isinstance(value, datetime):
        raise ValueError(f"a datetime is needed, not {short(value)}")
    if value.tzinfo is UTC:
        return value.replace(microsecond=0) if value.microsecond else value
    if value.tzinfo is None:
        return value if value in (datetime.min, datetime.max) else value.replace(tzinfo=UTC, microsecond=0)
    try:
        return value.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError(f"{short(value)} is not in the years 1 to 9999 in UTC") from None


def _day(value: Any) -> date:
    if isinstance(value, str):
        return rfc3339.parse_date(value)
    if isinstance(value, datetime) or not isinstance(value, date):
        raise ValueError(f"a date is needed, not {short(value)}")
    return value


def _time_of_day(value: Any) -> time:
    if isinstance(value, str):
        return rfc3339.parse_time(value)
    if not isinstance(value, time):
        raise ValueError(f"a time is needed, not {short(value)}")
    return value.replace(microsecond=0, tzinfo=None)


def _integer(value: Any) -> int:
    whole = isinstance(value, int) or (isinstance(value, float | Decimal) and value == value // 1)
    if isinstance(value, bool) or not whole:
        raise ValueError(f"an integer is needed, not {short(value)}")
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise ValueError(f"{value} has more than 64 bits")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"a number is needed, not {short(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{short(value)} is not a finite number of double precision")
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"true or false is needed, not {short(value)}")
    return value


def _uuid(value: Any) -> UUID:
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a UUID is needed, not {short(value)}")
    return UUID(value)


def decimal(value: Any) -> Decimal:
    """Return an exact number; that of a float is the one that it is shown as, such as 0.1."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError(f"a number is needed, not {short(value)}")
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{short(value)} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{number} is not finite")
    return number if number else number.copy_abs()


_BY_TYPE: Mapping[str, Normalize] = {
    "timestamptz": instant,
    "timestamp": instant,
    "date": _day,
    "time": _time_of_day,
    **dict.fromkeys(("smallint", "integer", "bigint", INTEGER_KEY), _integer),
    **dict.fromkeys(("real", "double precision"), _float),
    "numeric": decimal,
    "boolean": _boolean,
    "uuid": _uuid,
}
