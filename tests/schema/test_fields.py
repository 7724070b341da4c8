"""The values that each field type accepts and rejects, and the code and pointer of every error."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from marshmallow import ValidationError

from pegboard import validate
from pegboard.errors import ErrorDetail
from pegboard.schema import fields
from pegboard.schema.schema import Schema, invalid


def load(field: Any, value: Any) -> Any:
    schema = Schema.from_dict({"value": field})()
    return schema.load({"value": value})["value"]


def validation_errors(field: Any, value: Any) -> list[tuple[int, str | None]]:
    with pytest.raises(ValidationError) as caught:
        load(field, value)
    return [(detail.code, detail.pointer) for detail in invalid(caught.value).details]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2015-02-15T05:21:07Z", datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)),
        ("2015-02-15t05:21:07z", datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)),
        ("2015-02-15T05:21:07", datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)),
        ("2015-02-15T05:21:07.999999999Z", datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)),
        ("2015-02-15T05:21:07+05:30", datetime(2015, 2, 14, 23, 51, 7, tzinfo=UTC)),
        ("2015-02-15T05:21:07-00:00", datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_instant_is_stored_in_utc_without_fractional_seconds(text: str, moment: datetime) -> None:
    assert load(fields.DateTime(), text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "2015-02-15", "2015-02-15T05:21Z", "2015-02-15 05:21:07Z", "2015-02-15T05:21:07+0200", "2015-W07-7T05:21:07Z",
        "20150215T052107Z", "2015-02-30T05:21:07Z", "2015-02-15T24:00:00Z", "2015-02-15T05:60:07Z", "2015-02-15T05:21:60Z",
        "2015-02-15T05:21:07+24:00", "2015-02-15T05:21:07+05:60", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2015-02-15T05:21:07.Z", "2015-02-15T05:21:07Z\n", "", "now",
        "\uff12015-02-15T05:21:07Z",
    ],
)  # fmt: skip
def test_an_invalid_rfc_3339_instant_is_rejected(text: str) -> None:
    assert validation_errors(fields.DateTime(), text) == [(11012, "/value")]


@pytest.mark.parametrize(
    "text", ["2015-02-15T00:00:00Z", "2015-2-15", "2015-02-30", "20150215", "2015-W07-7", "0000-01-01", " 2015-02-15"]
)
def test_a_date_has_only_one_format(text: str) -> None:
    assert load(fields.Date(), "2015-02-15") == date(2015, 2, 15)
    assert validation_errors(fields.Date(), text) == [(11012, "/value")]


def test_a_time_of_day_drops_fractional_seconds() -> None:
    assert load(fields.Time(), "05:21:07.9") == time(5, 21, 7)
    assert validation_errors(fields.Time(), "05:21") == [(11012, "/value")]
    assert validation_errors(fields.Time(), "25:00:00") == [(11012, "/value")]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        (fields.String(), 5, 11004),
        (fields.String(), ["a"], 11004),
        (fields.String(), "a\x00b", 11013),
        (fields.String(validate=validate.Length(2, 3)), "a", 11005),
        (fields.String(validate=validate.Length(2, 3)), "abcd", 11006),
        (fields.String(validate=validate.Length(equal=2)), "abc", 11006),
        (fields.String(validate=validate.OneOf(["a", "b"])), "c", 11008),
        (fields.String(validate=validate.Regexp("^a$")), "b", 11000),
        (fields.Email(), "no", 11009),
        (fields.Email(), "a@b.c\x00", 11013),
        (fields.Email(), 5, 11004),
        (fields.Url(), "nothing", 11010),
        (fields.UUID(), "0192", 11011),
        (fields.UUID(), "{0192f0e4-5c2e-7000-8000-000000000000}", 11011),
        (fields.UUID(), "0192f0e45c2e70008000000000000000", 11011),
        (fields.UUID(), 5, 11004),
        (fields.Integer(), "5", 11004),
        (fields.Integer(), True, 11004),
        (fields.Integer(), 5.5, 11004),
        (fields.Integer(), 2**63, 11007),
        (fields.Integer(), -(2**63) - 1, 11007),
        (fields.Integer(), 1.8446744073709552e19, 11007),
        (fields.Integer(validate=validate.Range(1, 5)), 6, 11007),
        (fields.Float(), "5", 11004),
        (fields.Float(), True, 11004),
        (fields.Float(), 10**400, 11007),
        (fields.Decimal(), "1e999999", 11007),
        (fields.Decimal(), "NaN", 11004),
        (fields.Decimal(places=2), "1.234", 11007),
        (fields.Boolean(), "yes", 11004),
        (fields.Boolean(), 1, 11004),
        (fields.DateTime(), 1424000000, 11004),
        (fields.Date(), 20150215, 11004),
        (fields.List(fields.String()), "a", 11004),
        (fields.List(fields.String()), {"0": "a"}, 11004),
        (fields.Dict(), [], 11004),
        (fields.Dict(), {"a": ["\x00"]}, 11013),
        (fields.Dict(), {"\x00": 1}, 11013),
        (fields.Raw(), {"a": "\x00"}, 11013),
        (fields.String(), None, 11003),
    ],
)
def test_each_validation_error_has_its_own_code(field: Any, value: Any, code: int) -> None:
    assert validation_errors(field, value) == [(code, "/value")]


@pytest.mark.parametrize(
    ("field", "value", "loaded"),
    [
        (fields.Integer(), 499.0, 499),
        (fields.Integer(), -(2**63), -(2**63)),
        (fields.Float(), 3, 3.0),
        (fields.Decimal(), "1.10", Decimal("1.10")),
        (fields.Decimal(), 1.1, Decimal("1.1")),
        (fields.UUID(), "0192F0E4-5C2E-7000-8000-00000000000A", UUID("0192f0e4-5c2e-7000-8000-00000000000a")),
        (fields.String(), "  é\u0301\U0001f600 ", "  é\u0301\U0001f600 "),
        (fields.List(fields.Integer()), [1, 2.0], [1, 2]),
        (fields.Raw(), {"a": [None, 1.5]}, {"a": [None, 1.5]}),
    ],
)
def test_valid_values_are_loaded_as_stored(field: Any, value: Any, loaded: Any) -> None:
    assert load(field, value) == loaded


def test_pointers_refer_to_elements_of_lists_and_objects() -> None:
    assert validation_errors(fields.List(fields.String()), ["a", 1, "\x00"]) == [
        (11004, "/value/1"),
        (11013, "/value/2"),
    ]
    assert validation_errors(fields.Dict(keys=fields.String(), values=fields.Integer()), {"a/b": "x"}) == [
        (11004, "/value/a~1b")
    ]


def test_all_errors_of_a_body_are_reported_together() -> None:
    class Item(Schema):
        name = fields.String(required=True)
        size = fields.Integer()

    with pytest.raises(ValidationError) as caught:
        Item().load({"size": "5", "colour": "red"})
    assert set(invalid(caught.value).details) == {
        ErrorDetail(11001, "Missing data for required field.", "/name"),
        ErrorDetail(11004, "Not a valid integer.", "/size"),
        ErrorDetail(11002, "Unknown field.", "/colour"),
    }


def test_a_validation_error_without_a_code_gets_the_general_one() -> None:
    def refuse(value: str) -> None:
        raise ValidationError("Not today.")

    assert validation_errors(fields.String(validate=refuse), "a") == [(11000, "/value")]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        (fields.Integer(), "5", 5), (fields.Boolean(), "true", True), (fields.Float(), "1e3", 1000.0),
        (fields.Date(), "2015-02-15", date(2015, 2, 15)), (fields.Decimal(), "1.5", Decimal("1.5")), (fields.String(), "", ""),
    ],
)  # fmt: skip
def test_a_query_value_is_parsed_by_the_field(field: Any, text: str, value: Any) -> None:
    assert fields.query_parser(field)(text) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (fields.Integer(), "5.0"), (fields.Integer(), "\u0665"), (fields.Boolean(), "yes"), (fields.Float(), "nan"), (fields.Float(), "1e999"),
        (fields.Float(), "1_0"), (fields.Date(), "today"), (fields.UUID(), "x"), (fields.String(), "\x00"), (fields.Integer(), "9" * 30),
    ],
)  # fmt: skip
def test_a_query_value_of_the_wrong_type_is_rejected(field: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        fields.query_parser(field)(text)


def returning(response: Any) -> Any:
    """Return a validator that returns this value."""
    return lambda value: response


NESTED = {
    "the field": lambda check: (fields.Integer(validate=check), 1, "/value"),
    "next to another": lambda check: (fields.Integer(validate=[validate.Range(0), check]), 1, "/value"),
    "within And": lambda check: (fields.Integer(validate=validate.And(validate.Range(0), check)), 1, "/value"),
    "an element": lambda check: (fields.List(fields.Integer(validate=check)), [1], "/value/0"),
    "a value": lambda check: (fields.Dict(values=fields.Integer(validate=check)), {"a": 1}, "/value/a"),
}


@pytest.mark.parametrize("nesting", NESTED)
def test_a_validator_that_returns_false_rejects_the_value(nesting: str) -> None:
    field, value, pointer = NESTED[nesting](returning(False))
    assert validation_errors(field, value) == [(11000, pointer)]


@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize("response", [None, True, 0, "", [], 5])
def test_a_validator_that_returns_anything_else_accepts_the_value(nesting: str, response: Any) -> None:
    field, value, _ = NESTED[nesting](returning(response))
    assert load(field, value) == value


def test_marshmallow_validators_may_return_a_false_value() -> None:
    checks = [validate.Equal(False), validate.OneOf([False]), validate.And(validate.Equal(False))]
    assert load(fields.Boolean(validate=checks), False) is False
    assert validation_errors(fields.Boolean(validate=lambda value: value), False) == [(11000, "/value")]


def test_error_codes_of_validators_inside_and_are_kept() -> None:
    assert validation_errors(fields.String(validate=validate.And(validate.Length(max=1))), "ab") == [(11006, "/value")]
