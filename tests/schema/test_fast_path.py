"""The fast way to load a field, compared with marshmallow's."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some
from marshmallow import ValidationError, missing

from pegboard import Schema, fields, validate
from pegboard.schema.fast_path import reader


class Shouted(fields.String):
    """Load text in upper case."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, attr, data, **kwargs).upper()


def _not_even(value: int) -> None:
    if value % 2 == 0:
        raise ValidationError("Not odd.")


class Everything(Schema):
    """Fields of many types, with many kinds of validators."""

    text = fields.String()
    optional = fields.String(allow_none=True, validate=validate.Length(max=3))
    least = fields.String(validate=validate.Length(min=2))
    exact = fields.String(validate=validate.Length(equal=2))
    both = fields.String(validate=[validate.Length(1, 4), validate.Length(2, 9), validate.OneOf(["ab", "abc", "a"])])
    pattern = fields.String(validate=validate.Regexp("a+"))
    shouted = Shouted(validate=validate.Length(max=3))
    email = fields.Email(validate=validate.Length(max=12))
    small = fields.Integer(validate=lambda value: value < 4)
    off = fields.Boolean(validate=validate.Equal(False))
    number = fields.Integer(validate=[validate.Range(-1, 5), _not_even])
    real = fields.Float(allow_none=True)
    flag = fields.Boolean()
    day = fields.Date()
    instant = fields.DateTime()
    tags = fields.List(fields.String(validate=validate.Length(max=2)), validate=validate.Length(max=2))
    lists = fields.List(fields.List(fields.Integer(), allow_none=True))
    numbers = fields.Dict(fields.String(validate=validate.Length(max=2)), fields.Integer())


_INSTANTS = ["2015-02-15T05:21:07Z", "2015-02-15T05:21:07.9+02:00", "2016-12-31T23:59:60Z", "0001-01-01T00:00:00+14:00"]
_TEXTS = some.sampled_from(
    ["", "a", "ab", "abc", "abcde", "\0", "a@b.cd", "ann@example.com", "2015-02-15", "2015-02-30", "ß", *_INSTANTS]
)
_SCALARS = some.none() | some.booleans() | some.integers(-3, 7) | some.floats(-2, 3) | some.just(2.0**70) | _TEXTS
_VALUES = some.recursive(
    _SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(_TEXTS, inner, max_size=2), max_leaves=6
)


_FIELDS = Everything().load_fields
_QUICK = {name: reader(field) for name, field in _FIELDS.items()}


@settings(max_examples=500)
@given(value=_VALUES)
def test_fast_loading_is_equivalent_to_marshmallow(value: Any) -> None:
    for name, field in _FIELDS.items():
        assert _outcome(_QUICK[name], value, name) == _outcome(field.deserialize, value, name), name


def _outcome(read: Any, value: Any, name: str) -> Any:
    try:
        loaded = read(value, name, {name: value})
    except ValidationError:
        return "refused"
    return type(loaded), loaded


def test_fast_loading_treats_absent_values_like_marshmallow() -> None:
    for name, field in _FIELDS.items():
        assert _QUICK[name](missing, name, {}) is field.deserialize(missing, name, {})
