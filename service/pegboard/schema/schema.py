"""`Schema`: a marshmallow schema with error codes, which rejects unknown fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import wraps
from typing import Any

import marshmallow
from marshmallow import ValidationError, validate
from marshmallow.decorators import VALIDATES, VALIDATES_SCHEMA
from marshmallow.exceptions import SCHEMA
from marshmallow.fields import Field

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.schema.fields import Enum, column_type
from pegboard.schema.normalizing import Normalize, normalizer


class Message(str):
    """Represent an error message with a code, which marshmallow handles like any string."""

    code: int

    def __new__(cls, text: str, code: int) -> Message:
        """Create a message with an error code."""
        message = super().__new__(cls, text)
        message.code = code
        return message

    def format(self, *args: object, **kwargs: object) -> Message:
        """Format the text and keep the code."""
        return Message(str.format(self, *args, **kwargs), self.code)


_FIELD_CODES: Mapping[str, type[ApiError]] = {
    "required": errors.MissingField,
    "null": errors.NullNotAllowed,
    "validator_failed": errors.InvalidValue,
    "type": errors.WrongType,
    "invalid": errors.WrongType,
    "characters": errors.InvalidCharacters,
    "range": errors.OutOfRange,
    "digits": errors.OutOfRange,
    "too_large": errors.OutOfRange,
    "special": errors.OutOfRange,
    "email": errors.InvalidEmail,
    "url": errors.InvalidUrl,
    "uuid": errors.InvalidUuid,
    "invalid_uuid": errors.InvalidUuid,
    "date": errors.InvalidDate,
    "invalid_awareness": errors.InvalidDate,
    "format": errors.InvalidDate,
    "unknown": errors.InvalidChoice,
    "reference": errors.InvalidValue,
}

_WITHOUT_VALUES = (str, int, float, Decimal, list, type(None))

_SCHEMA_MESSAGES = {
    "unknown": Message(errors.UnknownField.message, errors.UnknownField.code),
    "type": Message("Not a valid object.", errors.WrongType.code),
}


def _length_code(check: validate.Length, value: Any) -> type[ApiError]:
    shortest = check.min if check.equal is None else check.equal
    return errors.TooShort if shortest is not None and len(value) < shortest else errors.TooLong


_VALIDATOR_CODES: tuple[tuple[type[validate.Validator], Callable[[Any, Any], type[ApiError]]], ...] = (
    (validate.Length, _length_code),
    (validate.Range, lambda check, value: errors.OutOfRange),
    (validate.OneOf, lambda check, value: errors.InvalidChoice),
    (validate.NoneOf, lambda check, value: errors.InvalidChoice),
    (validate.Email, lambda check, value: errors.InvalidEmail),
    (validate.URL, lambda check, value: errors.InvalidUrl),
)


class CodedValidator(validate.Validator):
    """Run one of marshmallow's validators, and add the error code of the catalogue to its messages."""

    def __init__(self, check: Any, code: Callable[[Any, Any], type[ApiError]]) -> None:
        self.check = check
        self._code = code

    def __call__(self, value: Any) -> Any:
        """Return `value`, or raise marshmallow's `ValidationError` with a coded message."""
        try:
            return self.check(value)
        except ValidationError as error:
            code = self._code(self.check, value).code
            raise ValidationError([Message(text, code) for text in error.messages]) from None


class CustomValidator(validate.Validator):
    """Run an author's validator, which may raise `ApiError` or return False to reject a value."""

    def __init__(self, check: Any) -> None:
        self.check = check
        # Validators of marshmallow's type return the value, which may be False itself.
        self._returns_value = isinstance(check, validate.Validator)

    def __call__(self, value: Any) -> Any:
        """Return the validator's result, or raise marshmallow's `ValidationError` with coded messages."""
        try:
            result = self.check(value)
        except ApiError as error:
            raise ValidationError([Message(detail.message, detail.code) for detail in error.details]) from None
        if result is False and not (self._returns_value and value is False):
            raise _refusal()
        return result


def _refusal() -> ValidationError:
    return ValidationError([Message(errors.InvalidValue.message, errors.InvalidValue.code)])


def _coded(check: Any) -> Any:
    if isinstance(check, CodedValidator | CustomValidator):
        return check
    if type(check) is validate.And:
        return CustomValidator(validate.And(*map(_coded, check.validators)))
    for kind, code in _VALIDATOR_CODES:
        if isinstance(check, kind):
            return CodedValidator(check, code)
    return CustomValidator(check)


def _checked(method: Callable[..., Any], name: str, *, validates: bool) -> Callable[..., Any]:
    """Wrap a hook of a schema, a method decorated by marshmallow, to check its result."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if validates and result is False:
            raise _refusal()
        if not validates and result is None:
            raise TypeError(f"{name} returned None: it must return the data")
        return result

    return call


def _add_codes(field: Any) -> None:
    """Add error codes to the messages of a field, of its validators and of the fields inside it."""
    field.error_messages = {
        key: text if isinstance(text, Message) else Message(text, _FIELD_CODES.get(key, errors.InvalidValue).code)
        for key, text in field.error_messages.items()
        if isinstance(text, str)
    }
    field.validators = [_coded(check) for check in field.validators]
    for part in ("inner", "key_field", "value_field"):
        inner = getattr(field, part, None)
        if inner is not None:
            _add_codes(inner)
    for inner in getattr(field, "tuple_fields", ()):
        _add_codes(inner)


def _scalar_normalizer(field: Field[Any]) -> Normalize | None:
    type_of = column_type(field)
    return None if type_of == "jsonb" else normalizer(field, type_of)


def _normalized_default(default: Any, normalize: Normalize) -> Any:
    """Return a default whose value is normalized; one without a stored form is unchanged, and rejected at start."""
    if not callable(default):
        with suppress(ValueError):
            return normalize(default)
        return default

    def normalized() -> Any:
        value = default()
        return None if value is None else normalize(value)

    return normalized


class Schema(marshmallow.Schema):
    """Describe the fields of a resource's items; subclass it like any marshmallow schema.

    Unknown fields are rejected, fields keep their order, and every error has a code of the catalogue.
    """

    error_messages = dict(_SCHEMA_MESSAGES)

    class Meta:
        """Reject fields that are not declared."""

        unknown = marshmallow.RAISE

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        tags = {name: tag for tag, hooks in self._hooks.items() for name, *_ in hooks}
        for name, tag in tags.items():
            validates = tag in (VALIDATES, VALIDATES_SCHEMA)
            setattr(self, name, _checked(getattr(self, name), f"{type(self).__name__}.{name}", validates=validates))

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Return a value of an item; of a mapping only an entry, never an attribute such as `items` or `copy`.

        Scalars and lists have no values: `"x".title` is a method.
        """
        if "." in attr:
            step, _, rest = attr.partition(".")
            value = self.get_attribute(obj, step, default)
            return value if value is default else self.get_attribute(value, rest, default)
        if isinstance(obj, Mapping):
            return obj.get(attr, default)
        return default if isinstance(obj, _WITHOUT_VALUES) else super().get_attribute(obj, attr, default)

    def on_bind_field(self, field_name: str, field_obj: Field[Any]) -> None:
        """Add error codes to the messages of a field, and let its default have the form of other values."""
        _add_codes(field_obj)
        default = field_obj.load_default
        if default is not marshmallow.missing and default not in (None, list, dict):
            normalize = field_obj.member if isinstance(field_obj, Enum) else _scalar_normalizer(field_obj)
            if normalize is not None:
                field_obj.load_default = _normalized_default(default, normalize)


def error_details(messages: Any, steps: tuple[str | int, ...] = ()) -> Iterator[ErrorDetail]:
    """Yield an error detail with a pointer for every message of a marshmallow `ValidationError`."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from error_details(inner, steps if key == SCHEMA else (*steps, key))
    elif isinstance(messages, list | tuple):
        for inner in messages:
            yield from error_details(inner, steps)
    else:
        code = getattr(messages, "code", errors.InvalidValue.code)
        yield ErrorDetail(code, str(messages), pointer=errors.pointer(steps))


def invalid(error: ValidationError) -> ApiError:
    """Return a 422 with all messages of `error`."""
    return errors.InvalidValue(details=tuple(error_details(messages_of(error))))


def messages_of(error: ValidationError) -> dict[str, Any]:
    """Return the messages of `error` by field."""
    normalized: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]  # marshmallow's gap
    return normalized
