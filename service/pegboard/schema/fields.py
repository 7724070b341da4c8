"""The kinds of fields a schema is made of: what each takes, and the column it is stored in."""

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

__all__ = (
    "UUID", "Boolean", "Constant", "Date", "DateTime", "Decimal", "Dict", "Email", "Field", "Float", "Function",
    "Integer", "List", "Method", "Nested", "Password", "Raw", "Reference", "String", "Time", "Url",
)  # fmt: skip

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"-?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_BIGINT = 2**63
_EXACT_FLOAT = 2**53


class String(marshmallow.String):
    """Take text, exactly as it comes; U+0000 is refused since PostgreSQL cannot hold it. Stored as `text`."""

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
    """Take an email address."""

    default_error_messages = {"email": "Not a valid email address."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators.insert(0, checks.Email(error=str(self.error_messages["email"])))


class Url(String):
    """Take an absolute URL, by default of the schemes http, https, ftp and ftps."""

    default_error_messages = {"url": "Not a valid URL."}

    def __init__(self, *, schemes: set[str] | None = None, require_tld: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check = checks.URL(schemes=schemes, require_tld=require_tld, error=str(self.error_messages["url"]))
        self.validators.insert(0, check)


class Password(String):
    """Take a password of 8 to 1,024 characters (in NFC), which never goes out. Stored as its argon2id hash, `text`.

    It is always write-only. A table resource hashes it before it writes; others do so by `Resource.hashed`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "load_only": True})
        self.validators.insert(0, passwords.prepare)


class UUID(Field[uuid.UUID]):
    """Take a UUID as RFC 9562 writes it, in either case. Stored as `uuid`."""

    column_type: ClassVar[str] = "uuid"
    default_error_messages = {"type": "Not a valid string.", "uuid": "Not a valid UUID."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> uuid.UUID:
        if not isinstance(value, str):
            raise self.make_error("type")
        if not CANONICAL_UUID.fullmatch(value):
            raise self.make_error("uuid")
        return uuid.UUID(value)


class Reference(UUID):
    """Take the id of an item of the resource that answers at `resource`, which may be the field's own.

    Stored as `uuid` with a foreign key: an id that leads nowhere is a fault, and what is referred to cannot be deleted.
    """

    def __init__(self, resource: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.resource = resource


class Integer(Field[int]):
    """Take a whole number from -2^63 to 2^63-1; `1.0` is one too, as JSON Schema has it. Stored as `bigint`."""

    column_type: ClassVar[str] = "bigint"
    default_error_messages = {
        "type": "Not a valid integer.",
        "range": "Must be from -9223372036854775808 to 9223372036854775807.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if isinstance(value, float):
            return self._from_float(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("type")
        if not -_BIGINT <= value < _BIGINT:
            raise self.make_error("range")
        return value

    def _from_float(self, value: float) -> int:
        """Read a number that JSON wrote with a point or an exponent, or too large for 64 bits."""
        if not math.isfinite(value) or abs(value) > _EXACT_FLOAT:
            raise self.make_error("range")
        if not value.is_integer():
            raise self.make_error("type")
        return int(value)

    def parse(self, text: str) -> int:
        """Read a query parameter's value."""
        if not _WHOLE.fullmatch(text):
            raise self.make_error("type")
        return self._deserialize(int(text), None, None)


class Float(Field[float]):
    """Take a finite number. Stored as `double precision`."""

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
        """Read a query parameter's value."""
        if not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        return self._deserialize(float(text), None, None)


class Decimal(Field[Number]):
    """Take an exact number as a string or a JSON number, and write it as a string. Stored as `numeric`.

    `places`: at most so many digits after the point, 0 to 100 (default 20). At most 100 digits before it.
    """

    column_type: ClassVar[str] = "numeric"
    default_error_messages = {
        "type": "Not a valid number.",
        "range": "At most 100 digits before the point and {places} after it.",
    }

    def __init__(self, *, places: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.places = places

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Number:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.make_error("type")
        return self.parse(str(value))

    def parse(self, text: str) -> Number:
        """Read a number from its decimal digits."""
        if len(text) > 400 or not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        try:
            number = Number(text)
        except InvalidOperation:
            raise self.make_error("range", places=self.places) from None
        exponent = number.as_tuple().exponent
        if number.adjusted() >= 100 or not isinstance(exponent, int) or -exponent > self.places:
            raise self.make_error("range", places=self.places)
        return number


class Boolean(Field[bool]):
    """Take `true` or `false` and nothing else. Stored as `boolean`."""

    column_type: ClassVar[str] = "boolean"
    default_error_messages = {"type": "Not a valid boolean."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("type")
        return value

    def parse(self, text: str) -> bool:
        """Read a query parameter's value."""
        if text not in ("true", "false"):
            raise self.make_error("type")
        return text == "true"


class Date(Field[date]):
    """Take a calendar date, `2015-02-15` and nothing else. Stored as `date`."""

    column_type: ClassVar[str] = "date"
    default_error_messages = {
        "type": "Not a valid string.",
        "date": "Not a valid date: write it as 2015-02-15.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> date:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return rfc3339.day(value)
        except ValueError:
            raise self.make_error("date") from None


class Time(Field[time]):
    """Take a time of day without an offset, `05:21:07`; fractions of a second are dropped. Stored as `time`."""

    column_type: ClassVar[str] = "time"
    default_error_messages = {
        "type": "Not a valid string.",
        "date": "Not a valid time: write it as 05:21:07.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> time:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return rfc3339.clock(value)
        except ValueError:
            raise self.make_error("date") from None


class DateTime(Field[datetime]):
    """Take an instant as RFC 3339 writes it and keep it in UTC with whole seconds. Stored as `timestamptz`.

    Without an offset it is taken as UTC. A leap second counts as the second that follows it.
    """

    column_type: ClassVar[str] = "timestamptz"
    default_error_messages = {
        "type": "Not a valid string.",
        "date": "Not a valid instant: write it as 2015-02-15T05:21:07Z.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return rfc3339.instant(value)
        except ValueError:
            raise self.make_error("date") from None


class List(marshmallow.List[Any]):
    """Take a list of elements of one kind. Stored as an array, or as `jsonb` where the elements are objects."""

    default_error_messages = {"type": "Not a valid list."}

    @property
    def column_type(self) -> str:
        """Return the PostgreSQL type that holds the list."""
        inner = getattr(self.inner, "column_type", "jsonb")
        return "jsonb" if inner == "jsonb" or inner.endswith("[]") else f"{inner}[]"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("type")
        return super()._deserialize(value, attr, data, **kwargs)


class Dict(marshmallow.Dict):
    """Take a JSON object. Stored as `jsonb`."""

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
    """Leave out marshmallow's steps "key" and "value", so that a pointer leads to the place in the body."""
    if not isinstance(messages, dict):
        return messages
    return {key: inner.get("value", inner.get("key")) for key, inner in messages.items()}


class Raw(marshmallow.Raw):
    """Take any JSON value. Stored as `jsonb`."""

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
    """Return the PostgreSQL type that stores what `field` loads; None where the author has to name it."""
    if isinstance(field, Nested):
        return "jsonb"
    declared = field.metadata.get("column_type", getattr(field, "column_type", None))
    return declared if isinstance(declared, str) else None


def query_parser(field: Field[Any]) -> Callable[[str], Any]:
    """Return what reads a query parameter's text as a value of `field`; it raises `ValueError` saying what is wrong."""
    parse: Callable[[str], Any] = getattr(field, "parse", None) or (lambda text: field._deserialize(text, None, None))

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValidationError as error:
            raise ValueError(str(error.messages[0])) from None

    return read
