"""The field types of schemas: the values they accept, and the columns that store them."""

from __future__ import annotations

import enum
import ipaddress
import math
import re
import struct
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Context as Arithmetic
from decimal import Decimal as Number
from typing import Any, ClassVar

from marshmallow import ValidationError
from marshmallow import fields as marshmallow
from marshmallow import validate as checks
from marshmallow.fields import Constant, Field, Function, Method, Nested

from pegboard.auth import passwords
from pegboard.rendering import ADDRESSES, address, exact_float, short
from pegboard.schema import normalizing, rfc3339
from pegboard.schema.column import base_type
from pegboard.schema.numbers import (
    INTEGERS,
    MAX_DIGITS,
    MAX_INTEGER,
    MAX_JSON_INTEGER,
    MAX_PLACES,
    MIN_INTEGER,
)

__all__ = (
    "IP", "JSON", "UUID", "Boolean", "Constant", "Date", "DateTime", "Decimal", "Dict", "Email", "Enum", "Field",
    "Float", "Function", "Integer", "List", "Method", "Nested", "Password", "Raw", "Reference", "String", "Time", "Url",
)  # fmt: skip

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(rf"-?\d{{1,{len(str(MAX_INTEGER))}}}", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_EXACT_FLOAT = 2**53
_MODIFIERS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\)")
_ARITHMETIC = Arithmetic(prec=500)


def _modifiers(field: Field[Any]) -> tuple[int, int] | None:
    """Return the numbers in the declared type of a field's column: of `numeric(10,2)`, 10 and 2; None without any."""
    found = _MODIFIERS.search(str(field.metadata.get("column_type", "")))
    return None if found is None else (int(found[1]), int(found[2] or 0))


def scale_of(field: Field[Any]) -> int | None:
    """Return the digits after the point that the declared type of a field's column has; None without a limit."""
    modifiers = _modifiers(field)
    return None if modifiers is None else modifiers[1]


class ColumnLength(checks.Length):
    """Bound a text by the type of its column, which needs no other constraint."""


class String(marshmallow.String):
    """Accept text unchanged, without U+0000, which PostgreSQL cannot store. Stored as `text`."""

    column_type: ClassVar[str] = "text"
    default_error_messages = {
        "type": "Not a valid string.",
        "characters": "U+0000 cannot be stored.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        modifiers = _modifiers(self)
        if modifiers is not None:
            self.validators.insert(0, ColumnLength(max=modifiers[0]))

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
    """Accept an integer from -2^63 to 2^63-1, including `1.0`, as in JSON Schema. Stored as `bigint`.

    If it is stored as `integer` or `smallint`, the range is that of the type.
    """

    column_type: ClassVar[str] = "bigint"
    default_error_messages = {
        "type": "Not a valid integer.",
        "range": "Must be from {min} to {max}.",
        "digits": "Write an integer of more than 15 digits without a point or an exponent.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        type_of = base_type(str(self.metadata.get("column_type", self.column_type)))
        self.min, self.max = INTEGERS.get(type_of, (MIN_INTEGER, MAX_INTEGER))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if isinstance(value, float | Number):
            value = self._from_number(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("type")
        if not self.min <= value <= self.max:
            raise self.make_error("range", min=self.min, max=self.max)
        return value

    def _from_number(self, value: float | Number) -> int:
        """Load a number that JSON has with a point or an exponent, or that is too large for 64 bits."""
        if not math.isfinite(value) or not self.min <= value <= self.max:
            raise self.make_error("range", min=self.min, max=self.max)
        if abs(float(value)) > _EXACT_FLOAT:
            raise self.make_error("digits")
        if value != int(value):
            raise self.make_error("type")
        return int(value)

    def parse(self, text: str) -> int:
        """Parse the value of a query parameter, which may exceed the range of the column."""
        if not _INTEGER.fullmatch(text):
            raise self.make_error("type")
        number = int(text)
        if not MIN_INTEGER <= number <= MAX_INTEGER:
            raise self.make_error("range", min=MIN_INTEGER, max=MAX_INTEGER)
        return number


class Float(Field[float]):
    """Accept a finite number. Stored as `double precision`, or as `real`, which keeps about seven digits."""

    column_type: ClassVar[str] = "double precision"
    default_error_messages = {
        "type": "Not a valid number.",
        "range": "Too large for a {precision}-precision number.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._is_single = base_type(str(self.metadata.get("column_type", ""))).startswith("real")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | Number):
            raise self.make_error("type")
        if not self._is_finite(value):
            raise self.make_error("range", precision="single" if self._is_single else "double")
        return float(value)

    def _is_finite(self, value: float | Number) -> bool:
        try:
            number = float(value)
            # The native format does not raise.
            struct.pack("<f" if self._is_single else "<d", number)
        except OverflowError:
            return False
        return math.isfinite(number)

    def parse(self, text: str) -> float:
        """Parse the value of a query parameter, which may exceed the range of the column."""
        if not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        number = float(text)
        if not math.isfinite(number):
            raise self.make_error("range", precision="double")
        return number if self._is_finite(number) else math.copysign(math.inf, number)


class Decimal(Field[Number]):
    """Accept an exact number as a string or a JSON number, and dump it as a string. Stored as `numeric`.

    `places` is the number of digits after the point, from 0 to 100: fewer are filled up with zeros, more are an error
    or, with one of the constants of the module `decimal` as `rounding`, rounded. Without `places`, a number keeps its
    digits, of which at most 20 may follow the point, or as many as a declared type such as `numeric(10,2)` has. At most
    100 digits may precede it, or as many as the type allows.
    """

    column_type: ClassVar[str] = "numeric"
    default_error_messages = {
        "type": "Not a valid number.",
        "range": "At most {digits} digits before the point and {places} after it.",
    }

    def __init__(self, *, places: int | None = None, rounding: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        modifiers = _modifiers(self)
        self.fixed = places is not None
        """Whether every number has all its places."""
        self.rounding = rounding
        self.digits, self.places = MAX_DIGITS, MAX_PLACES if places is None else places
        if modifiers is not None:
            self.digits = modifiers[0] - modifiers[1]
            self.places = modifiers[1] if places is None else places
        self._unit = Number((0, (1,), -self.places))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Number:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Number):
            raise self.make_error("type")
        text = str(value)
        if len(text) > 400 or not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        try:
            return self.normalize(text)
        except ValueError:
            raise self.make_error("range", digits=self.digits, places=self.places) from None

    def parse(self, text: str) -> Number:
        """Parse the value of a query parameter, which may have more digits than are stored, and is not rounded."""
        if len(text) > 400 or not _NUMBER.fullmatch(text):
            raise self.make_error("type")
        try:
            number = normalizing.decimal(text)
        except ValueError:
            raise self.make_error("range", digits=self.digits, places=self.places) from None
        # PostgreSQL has a limit for the digits of an argument.
        if abs(number.adjusted()) > 10 * MAX_DIGITS:
            raise self.make_error("range", digits=self.digits, places=self.places)
        return number

    def normalize(self, value: Any) -> Number:
        """Return the number that is stored for `value`; raises `ValueError` for one with too many digits."""
        number = normalizing.decimal(value)
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or number.adjusted() >= MAX_DIGITS:
            raise ValueError(f"{number} has too many digits")
        if self.rounding is not None and -exponent > self.places:
            number = number.quantize(self._unit, self.rounding, _ARITHMETIC)
        elif -exponent > self.places:
            raise ValueError(f"{number} has more than {self.places} digits after the point")
        elif self.fixed and -exponent < self.places:
            number = number.quantize(self._unit, context=_ARITHMETIC)
        if number and number.adjusted() >= self.digits:
            raise ValueError(f"{number} has more than {self.digits} digits before the point")
        return number if number else number.copy_abs()

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        """Dump a number of an author with all its places; the text of the database has them."""
        if value is None or isinstance(value, str) or not self.fixed:
            return value
        try:
            return self.normalize(value)
        except ValueError:
            return value


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


class Enum(marshmallow.Enum[Any]):
    """Accept the name of a member of `enum`, or its value if `by_value` is set, and load the member.

    Stored as `text`, or as `bigint` if the values are integers; `metadata={"column_type": "crm.status"}` names a
    PostgreSQL enum. Members must have names or values that are text, or values that are integers.
    """

    default_error_messages = {"unknown": "Must be one of: {choices}."}

    def __init__(self, enum: type[enum.Enum], *, by_value: bool = False, **kwargs: Any) -> None:
        super().__init__(enum, by_value=by_value, **kwargs)
        self.choices: tuple[Any, ...] = tuple(member.value if by_value else member.name for member in enum)
        """What is stored for each member, in their order."""
        self._members: dict[Any, Any] = dict(zip(self.choices, enum, strict=True))
        if not by_value:
            self._members.update(enum.__members__)

    @property
    def column_type(self) -> str:
        """Return the PostgreSQL type that stores the members."""
        return "bigint" if all(isinstance(choice, int) for choice in self.choices) else "text"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        try:
            return self.member(value)
        except ValueError:
            raise self.make_error("unknown", choices=self.choices_text) from None

    def member(self, value: Any) -> Any:
        """Return the member for itself, its name or its value; raises `ValueError` for anything else."""
        if isinstance(value, self.enum):
            return value
        known = isinstance(value, str | int | float) and not isinstance(value, bool)
        member = self._members.get(value) if known else None
        if member is None:
            raise ValueError(f"{short(value)} is none of {self.choices_text}")
        return member

    def parse(self, text: str) -> Any:
        """Parse the value of a query parameter, as it is stored."""
        for choice in self.choices:
            if str(choice) == text:
                return choice
        raise self.make_error("unknown", choices=self.choices_text)

    def normalize(self, value: Any) -> Any:
        """Return what is stored for a member, its name or its value; raises `ValueError` for anything else."""
        member = self.member(value)
        return member.value if self.by_value else member.name

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        """Dump a member; what the database has is unchanged, even if it is no member any more."""
        if not isinstance(value, self.enum):
            return value
        return value.value if self.by_value else value.name


class IP(Field[Any]):
    """Accept an IPv4 or IPv6 address without a zone, and load it as `ipaddress` does. Stored as `inet`."""

    column_type: ClassVar[str] = "inet"
    default_error_messages = {"type": "Not a valid string.", "invalid_ip": "Not a valid IP address."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return self.normalize(value)
        except ValueError:
            raise self.make_error("invalid_ip") from None

    def normalize(self, value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """Return an address; raises `ValueError` for anything else."""
        if isinstance(value, int) or "%" in str(value):
            raise ValueError(f"{value} is not an IP address without a zone")
        return ipaddress.ip_address(value)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        """Dump an address; text is unchanged. Raises `TypeError` for anything else."""
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, ADDRESSES):
            raise TypeError(f"a value of type {type(value).__name__} is not an IP address")
        return address(value)


class List(marshmallow.List[Any]):
    """Accept a list of elements of one type. Stored as an array, or as `jsonb` if the elements are objects."""

    default_error_messages = {"type": "Not a valid list."}

    @property
    def column_type(self) -> str:
        """Return the PostgreSQL type that stores the list."""
        inner = column_type(self.inner) or "jsonb"
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
        "digits": "Has a number with too many digits: send it as a string.",
    }

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise self.make_error("type")
        # Values that have a field of their own are checked by it.
        checked = _storable(self, dict.fromkeys(value) if self.value_field else value)
        try:
            loaded: dict[Any, Any] = super()._deserialize(value if self.value_field else checked, attr, data, **kwargs)  # type: ignore[no-untyped-call]  # marshmallow's gap
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
    default_error_messages = {
        "characters": "U+0000 cannot be stored.",
        "digits": "Has a number with too many digits: send it as a string.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return _storable(self, value)


class JSON(Raw):
    """Accept any JSON value. Stored as `jsonb`."""


def _storable(field: Field[Any], value: Any) -> Any:
    """Return a JSON value as it is stored and shown again; raises `ValidationError` if that would be another one."""
    if isinstance(value, str):
        if "\x00" in value:
            raise field.make_error("characters")
        return value
    if isinstance(value, dict):
        return {_storable(field, key): _storable(field, part) for key, part in value.items()}
    if isinstance(value, list):
        return [_storable(field, part) for part in value]
    if isinstance(value, Number) or (isinstance(value, int) and not MIN_INTEGER <= value <= MAX_JSON_INTEGER):
        number = exact_float(value)
        if number is None:
            raise field.make_error("digits")
        return number
    return value


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
