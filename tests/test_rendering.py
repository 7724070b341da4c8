"""Serialization of values: instants always have one format."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from pegboard import rendering


class Colour(Enum):
    RED = "red"


PARIS = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC), '"2015-02-15T05:21:07Z"'),
        (datetime(2015, 2, 15, 5, 21, 7, 999999, tzinfo=PARIS), '"2015-02-15T04:21:07Z"'),
        (datetime(2015, 2, 15, 5, 21, 7), '"2015-02-15T05:21:07Z"'),
        (datetime(1, 1, 1, tzinfo=UTC), '"0001-01-01T00:00:00Z"'),
        (date(5, 2, 15), '"0005-02-15"'),
        (time(5, 21, 7, 5), '"05:21:07"'),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=10), '"00000000-0000-0000-0000-00000000000a"'),
        (Colour.RED, '"red"'),
        ((1, 2), "[1,2]"),
        ({1}, "[1]"),
        (float("inf"), "null"),
        (Decimal("NaN"), '"NaN"'),
        (Decimal("-Infinity"), '"-Infinity"'),
    ],
)
def test_every_kind_of_value_has_one_format(value: Any, text: str) -> None:
    assert rendering.dumps([{"a": value}]).decode() == f'[{{"a":{text}}}]'


@pytest.mark.parametrize("value", [object(), "\ud800", {1: 2}, 2**64])
def test_unserializable_values_are_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        rendering.dumps(value)


def test_http_dates_have_the_format_of_rfc_9110() -> None:
    assert rendering.http_date(datetime(2015, 2, 15, 6, 21, 7, tzinfo=PARIS)) == "Sun, 15 Feb 2015 05:21:07 GMT"


def test_equal_bytes_have_equal_digests() -> None:
    assert rendering.digest(b"a") == rendering.digest(b"a") != rendering.digest(b"b")
