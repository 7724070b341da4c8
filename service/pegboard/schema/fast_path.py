"""A fast path for loading valid values; marshmallow loads all others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, missing, validate
from marshmallow.fields import Field

from pegboard.schema.fields import List, String
from pegboard.schema.schema import CodedValidator

Read = Callable[[Any, str | None, Any], Any]
"""A function that takes a value, the name of its field and the body, and returns the loaded value."""


def reader(field: Field[Any]) -> Read:
    """Return a function that loads a value as `field.deserialize` does, but with precomputed checks.

    It raises `ValidationError` in the same cases, but without a message.
    """
    cls = type(field)
    if cls.deserialize is not Field.deserialize or cls._validate is not Field._validate:
        return field.deserialize
    if field.pre_load or field.post_load or cls._validate_missing is not Field._validate_missing:
        return field.deserialize
    deserialize, read, optional = field.deserialize, _unchecked(field), field.allow_none
    shortest, longest, checks = _checks(field)
    measured = (shortest, longest) != (0, math.inf)

    def shortcut(value: Any, attr: str | None, data: Any) -> Any:
        if value is missing or value is None:
            return None if value is None and optional else deserialize(value, attr, data)
        if read is not None:
            value = read(value, attr, data)
        elif not isinstance(value, str) or "\x00" in value:
            raise ValidationError("")
        if measured and not shortest <= len(value) <= longest:
            raise ValidationError("")
        for check in checks:
            check(value)
        return value

    return shortcut


def _unchecked(field: Field[Any]) -> Read | None:
    """Return the function that loads a value without validators, or None for text, which is not converted."""
    deserialize = type(field)._deserialize
    if deserialize is String._deserialize:
        return None
    if not isinstance(field, List) or deserialize is not List._deserialize:
        return field._deserialize
    read = reader(field.inner)

    def read_all(value: Any, attr: str | None, data: Any) -> Any:
        if not isinstance(value, list):
            raise ValidationError("")
        return [read(part, attr, data) for part in value]

    return read_all


def _checks(field: Field[Any]) -> tuple[float, float, list[Callable[[Any], Any]]]:
    """Return the minimum and maximum length that a field's validators allow, and the other validators."""
    shortest, longest, others = 0.0, math.inf, []
    for validator in field.validators:
        check: Any = validator.check if isinstance(validator, CodedValidator) else validator
        if type(check) is not validate.Length:
            others.append(check)
        elif check.equal is not None:
            shortest, longest = max(shortest, check.equal), min(longest, check.equal)
        else:
            shortest = max(shortest, check.min or 0)
            longest = min(longest, math.inf if check.max is None else check.max)
    return shortest, longest, others
