"""Cursors: exact round trips, and rejection if modified or used elsewhere."""

import math
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pegboard.query import cursor
from pegboard.query.cursor import Signer

SECRET = b"s" * 32
POSITION = ("Ångström", None, 7, "0190a4f2-0000-7000-8000-000000000001")
TEXT = cursor.encode(Signer(SECRET, b"contacts"), POSITION)

# Text that PostgreSQL can store: no lone surrogates, no U+0000.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False), st.uuids(),
    st.dates(), st.one_of(st.datetimes(), st.datetimes(timezones=st.just(UTC)), st.times()).map(lambda v: v.replace(fold=0)), texts,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(values, max_size=6).map(tuple), st.binary(), st.binary(min_size=1, max_size=64))
def test_values_survive_a_round_trip(position, scope, secret) -> None:
    text = cursor.encode(Signer(secret, scope), position)
    decoded = cursor.decode(Signer(secret, scope), text)
    assert repr(decoded) == repr(position)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)


def test_nan_survives_a_round_trip() -> None:
    (decoded,) = cursor.decode(Signer(SECRET, b""), cursor.encode(Signer(SECRET, b""), (math.nan,)))
    assert math.isnan(decoded)


def test_microseconds_and_types_are_preserved() -> None:
    position = (
        datetime(2015, 2, 15, 5, 21, 7, 123456, UTC), date(1, 1, 1), time(23, 59, 59, 1), Decimal("1.10"),
        UUID(int=7), True, False, 1, 1.0, -0.0, "", None,
    )  # fmt: skip
    assert repr(cursor.decode(Signer(SECRET, b""), cursor.encode(Signer(SECRET, b""), position))) == repr(position)


@pytest.mark.parametrize("index", range(len(TEXT)))
def test_a_changed_character_is_rejected(index) -> None:
    for other in "AQgw_-9":
        changed = TEXT[:index] + other + TEXT[index + 1 :]
        if changed != TEXT:
            with pytest.raises(ValueError):  # noqa: PT011  # any: the message is not exposed
                cursor.decode(Signer(SECRET, b"contacts"), changed)


@pytest.mark.parametrize(
    "text",
    ["", "A", "AA", "AAAA", TEXT + "A", TEXT + "=", TEXT + "==", "=" + TEXT, TEXT[:-1], TEXT[1:], TEXT + "\n", " " + TEXT,
     TEXT + TEXT, "é" + TEXT, "\ud800", "*" + TEXT, TEXT[:5] + "!" + TEXT[5:], "A" * 8_000],
)  # fmt: skip
def test_an_invalid_cursor_is_rejected(text) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any: the message is not exposed
        cursor.decode(Signer(SECRET, b"contacts"), text)


@pytest.mark.parametrize(("secret", "scope"), [(b"t" * 32, b"contacts"), (SECRET, b"contact"), (SECRET, b"")])
def test_another_secret_or_scope_is_rejected(secret, scope) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any: the message is not exposed
        cursor.decode(Signer(secret, scope), TEXT)


def test_scope_and_payload_are_separated_unambiguously() -> None:
    assert cursor.encode(Signer(SECRET, b"a"), ("b",)) != cursor.encode(Signer(SECRET, b"ab"), ("",))


class Colour(IntEnum):
    RED = 1


def test_a_value_of_a_subclass_is_decoded_as_its_base_type() -> None:
    assert cursor.decode(Signer(SECRET, b""), cursor.encode(Signer(SECRET, b""), (Colour.RED,))) == (1,)


def test_an_unknown_type_is_rejected() -> None:
    with pytest.raises(TypeError, match="bytes"):
        cursor.encode(Signer(SECRET, b""), (b"x",))
