"""Conditional requests: which headers are accepted, which are rejected, and the order of RFC 9110 §13.2.2."""

from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from pegboard.errors import ApiError
from pegboard.http import conditions
from pegboard.http.conditions import Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAST, FUTURE = "Wed, 31 Dec 2025 00:00:00 GMT", "Fri, 02 Jan 2026 00:00:00 GMT"
PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.FAILED


def read(*pairs: tuple[str, str]) -> conditions.Conditions:
    return conditions.read(CIMultiDictProxy(CIMultiDict(pairs)))


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize(
    "value", ["", " ", "abc", '"abc', 'w/"abc"', '"a" "b"', ",", '"a",b', '*, "a"', '"a b"', "W/abc", '"a"b"']
)
def test_a_malformed_etag_is_400_naming_the_header(name: str, value: str) -> None:
    with pytest.raises(ApiError) as caught:
        read((name, value))
    assert (caught.value.status, caught.value.details[0].header) == (400, name)


@pytest.mark.parametrize(
    ("headers", "reading", "writing"),
    [
        ([], PROCEED, PROCEED),
        ([("If-Match", '"a"')], PROCEED, PROCEED),
        ([("If-Match", '"b", "a"')], PROCEED, PROCEED),
        ([("If-Match", '"b"'), ("If-Match", '"a"')], PROCEED, PROCEED),
        ([("If-Match", '"b",, "a" ,')], PROCEED, PROCEED),
        ([("If-Match", '"a"'), ("If-Match", "")], PROCEED, PROCEED),
        ([("If-None-Match", ', ,"a"')], NOT_MODIFIED, FAILED),
        ([("If-Match", '"a-gzip"')], PROCEED, PROCEED),
        ([("If-Match", "*")], PROCEED, PROCEED),
        ([("If-Match", 'W/"a"')], FAILED, FAILED),
        ([("If-Match", '"b"')], FAILED, FAILED),
        ([("If-None-Match", '"a"')], NOT_MODIFIED, FAILED),
        ([("If-None-Match", 'W/"a"')], NOT_MODIFIED, FAILED),
        ([("If-None-Match", '"a-gzip"')], NOT_MODIFIED, FAILED),
        ([("If-None-Match", "*")], NOT_MODIFIED, FAILED),
        ([("If-None-Match", '"b"')], PROCEED, PROCEED),
        ([("If-Modified-Since", FUTURE)], NOT_MODIFIED, PROCEED),
        ([("If-Modified-Since", PAST)], PROCEED, PROCEED),
        ([("If-Modified-Since", FUTURE), ("If-None-Match", '"b"')], PROCEED, PROCEED),
        ([("If-Unmodified-Since", PAST)], FAILED, FAILED),
        ([("If-Unmodified-Since", FUTURE)], PROCEED, PROCEED),
        ([("If-Unmodified-Since", PAST), ("If-Match", '"a"')], PROCEED, PROCEED),
        ([("If-Modified-Since", "yesterday"), ("If-Unmodified-Since", "5")], PROCEED, PROCEED),
    ],
)
def test_preconditions_are_evaluated_in_the_standard_order(
    headers: list[tuple[str, str]], reading: Outcome, writing: Outcome
) -> None:
    found = read(*headers)
    assert conditions.evaluate(found, "a", NOW, reading=True) is reading
    assert conditions.evaluate(found, "a", NOW, reading=False) is writing


def test_the_same_second_counts_as_unmodified() -> None:
    found = read(("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT"))
    assert conditions.evaluate(found, "a", NOW, reading=True) is NOT_MODIFIED
    assert conditions.evaluate(found, "a", NOW + timedelta(seconds=1), reading=True) is PROCEED


def test_requests_without_preconditions_share_one_value() -> None:
    assert read(("Accept", "*/*")) is conditions.NONE
