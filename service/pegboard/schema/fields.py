"""The field types of schemas: the values they accept, and the columns that store them."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal as Number
from decimal import InvalidOperation
from typing import Any, ClassVar

from marshmallow import ValidationError
from marshmallow import fields as marshmallow
from marshmallow import validate as checks
from marshmallow.fields import Constant, Field, Function, Method, Nested

from pegboard.auth import passwords
from pegboard.schema import rfc3339
from pegboard.schema.numbers import MAX_DIGITS, MAX_INTEGER, MIN_INTEGER

__all__ = (
    "UUID", "Boolean", "Constant", "Date", "DateTime", "Decimal", "Dict", "Email", "Field", "Float", "Function",
    "Integer", "List", "Method", "Nested", "Password", "Raw", "Reference", "String", "Time", "Url",
)  # fmt: skip

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(rf"-?\d{{1,{len(str(MAX_INTEGER))}}}", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_EXACT_FLOAT = 2**53


class String(marshmallow.String):
    """Accept text unchanged, without U+0000, which PostgreSQL cannot store. Stored as `text`."""

    column_type: ClassVar[str] = "text"
    default_error_messages = {
        "type": "Not a valid string.",
        "characters": "U+0000 cannot be stored.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("type")
        if "\x00" in value:
            raise self.make_error("characters")
        return value


class Email(String):
    """Accept an email address. Stored as `text`."""

    default_error_messages = {"email": "Not a valid email address."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators.insert(0, checks.Email(error=str(self.error_messages["email"])))


class Url(String):
    """Accept an absolute URL, by default with the scheme http, https, ftp or ftps. Stored as `text`."""

    default_error_messages = {"url": "Not a valid URL."}

    def __init__(self, *, schemes: set[str] | None = None, require_tld: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check = checks.URL(schemes=schemes, require_tld=require_tld, error=str(self.error_messages["url"]))
        self.validators.insert(0, check)


class Password(String):
    """Accept a password of 8 to 1,024 characters (in NFC). Stored as its argon2id hash, `text`.

    The field is always write-only. The service hashes the password before it calls an action or an operation.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "load_only": True})
        self.validators.insert(0, passwords.prepare)


class UUID(Field[uuid.UUID]):
    """Accept a UUID in the format of RFC 9562, in upper or lower case. Stored as `uuid`."""

    column_type: ClassVar[str] = "uuid"
    default_error_messages = {"type": "Not a valid string.", "uuid": "Not a valid UUID."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> uuid.UUID:
        if not isinstance(value, str):
            raise self.make_error("type")
        if not CANONICAL_UUID.fullmatch(value):
            raise self.make_error("uuid")
        return uuid.UUID(value)


class Reference(UUID):
    """Accept the id of an item of the resource named `resource`, which may be the field's own.

    Stored as `uuid` with a foreign key: the id of a missing item is an error, and an item that others refer to cannot
    be deleted.
    """

    def __init__(self, resource: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.resource = resource


class Integer(Field[int]):
    """Accept an integer from -2^63 to 2^63-1, including `1.0`, as in JSON Schema. Stored as `bigint`."""

    column_type: ClassVar[str] = "bigint"
    default_error_messages = {
        "type": "Not a valid integer.",
        "range": f"Must be from {MIN_INTEGER} to {MAX_INTEGER}.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if isinstance(value, float):
            return self._from_float(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("type")
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise self.make_error("range")
        return value

    def _from_float(self, value: float) -> int:
        """Load a number that JSON has with a point or an exponent, or that is too large for 64 bits."""
        if not math.isfinite(value) or abs(value) > _EXACT_FLOAT:
            raise self.make_error("range")
        if not value.is_integer():
            raise self.make_error("type")
        return int(value)

    def parse(self, text: str) -> int:
        """Parse the value of a query parameter."""
        if not _INTEGER.fullmatch(text):
            raise self.make_error("type")
        return self._deserialize(int(text), None, None)


class Float(Field[float]):
    """Accept a finite number. Stored as `double precision`."""

    column_type: ClassVar[str] = "double precision"
    default_error_messages = {
        "type": "Not a valid number.",
        "range": "Too large for a double-precision number.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("type")
        try:
            number = float(value)
        except OverflowError:
            raise self.make_error("range") from None
        if not math.isfinite(number):
            raise self.make_error("range")
        return number

    def parse(self, text: str) -> float:
        """Parse the value of a query parameter."""
        if not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        return self._deserialize(float(text), None, None)


class Decimal(Field[Number]):
    """Accept an exact number as a string or a JSON number, and dump it as a string. Stored as `numeric`.

    `places` is the maximum number of digits after the point, from 0 to 100. At most 100 digits may precede it.
    """

    column_type: ClassVar[str] = "numeric"
    default_error_messages = {
        "type": "Not a valid number.",
        "range": f"At most {MAX_DIGITS} digits before the point and {{places}} after it.",
    }

    def __init__(self, *, places: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.places = places

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Number:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.make_error("type")
        return self.parse(str(value))

    def parse(self, text: str) -> Number:
        """Parse a decimal number."""
        if len(text) > 400 or not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        try:
            number = Number(text)
        except InvalidOperation:
            raise self.make_error("range", places=self.places) from None
        exponent = number.as_tuple().exponent
        if number.adjusted() >= MAX_DIGITS or not isinstance(exponent, int) or -exponent > self.places:
            raise self.make_error("range", places=self.places)
        return number


class Boolean(Field[bool]):
    """Accept only `true` or `false`. Stored as `boolean`."""

    column_type: ClassVar[str] = "boolean"
    default_error_messages = {"type": "Not a valid boolean."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("type")
        return value

    def parse(self, text: str) -> bool:
        """Parse the value of a query parameter."""
        if text not in ("true", "false"):
            raise self.make_error("type")
        return text == "true"


class Date(Field[date]):
    """Accept a calendar date, only in the format `2015-02-15`. Stored as `date`."""

    column_type: ClassVar[str] = "date"
    default_error_messages = {
        "type": "Not a valid string.",
        "date": "Not a valid date: write it as 2015-02-15.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> date:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return rfc3339.parse_date(value)
        except ValueError:
            raise self.make_error("date") from None


class Time(Field[time]):
    """Accept a time of day without an offset, `05:21:07`; fractions of a second are dropped. Stored as `time`."""

    column_type: ClassVar[str] = "time"
    default_error_messages = {
        "type": "Not a valid string.",
        "date": "Not a valid time: write it as 05:21:07.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> time:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return rfc3339.parse_time(value)
        except ValueError:
            raise self.make_error("date") from None


class DateTime(Field[datetime]):
    """Accept a timestamp in the format of RFC 3339, converted to UTC without fractions. Stored as `timestamptz`.

    Without an offset it is interpreted as UTC. A leap second counts as the second that follows it.
    """

    column_type: ClassVar[str] = "timestamptz"
    default_error_messages = {
        "type": "Not a valid string.",
        "date": "Not a valid timestamp: write it as 2015-02-15T05:21:07Z.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return rfc3339.parse_datetime(value)
        except ValueError:
            raise self.make_error("date") from None


class List(marshmallow.List[Any]):
    """Accept a list of elements of one type. Stored as an array, or as `jsonb` if the elements are objects."""

    default_error_messages = {"type": "Not a valid list."}

    @property
    def column_type(self) -> str:
        """Return the PostgreSQL type that stores the list."""
        inner = getattr(self.inner, "column_type", "jsonb")
        return "jsonb" if inner == "jsonb" or inner.endswith("[]") else f"{inner}[]"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("type")
        return super()._deserialize(value, attr, data, **kwargs)


class Dict(marshmallow.Dict):
    """Accept a JSON object. Stored as `jsonb`."""

    column_type: ClassVar[str] = "jsonb"
    default_error_messages = {
        "type": "Not a valid object.",
        "characters": "U+0000 cannot be stored.",
    }

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise self.make_error("type")
        if _has_null_character(value):
            raise self.make_error("characters")
        try:
            loaded: dict[Any, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]  # marshmallow's gap
        except ValidationError as error:
            raise ValidationError(_without_parts(error.messages), valid_data=error.valid_data) from None
        return loaded


def _without_parts(messages: Any) -> Any:
    """Remove marshmallow's steps "key" and "value", so that pointers match the body."""
    if not isinstance(messages, dict):
        return messages
    return {key: inner.get("value", inner.get("key")) for key, inner in messages.items()}


class Raw(marshmallow.Raw):
    """Accept any JSON value. Stored as `jsonb`."""

    column_type: ClassVar[str] = "jsonb"
    default_error_messages = {"characters": "U+0000 cannot be stored."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if _has_null_character(value):
            raise self.make_error("characters")
        return value


def _has_null_character(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_null_character(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_has_null_character(part) for part in value)


def column_type(field: Field[Any]) -> str | None:
    """Return the PostgreSQL type that stores the values of `field`, or None if the author must declare it."""
    if isinstance(field, Nested):
        return "jsonb"
    declared = field.metadata.get("column_type", getattr(field, "column_type", None))
    return declared if isinstance(declared, str) else None


def query_parser(field: Field[Any]) -> Callable[[str], Any]:
    """Return a parser of query parameters with values of `field`, which raises `ValueError` for an invalid one."""
    parse: Callable[[str], Any] = getattr(field, "parse", None) or (lambda text: field._deserialize(text, None, None))

    def parse_text(text: str) -> Any:
        try:
            return parse(text)
        except ValidationError as error:
            raise ValueError(str(error.messages[0])) from None

    return parse_text
