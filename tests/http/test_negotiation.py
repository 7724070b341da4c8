"""Parsing of Accept, Accept-Encoding, Content-Type and Prefer."""

import gzip

import pytest

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.http import negotiation

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
MERGE = "application/merge-patch+json"

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        (" , ,", JSON),
        ("*/*", JSON),
        (JSON, JSON),
        ("Application/JSON", JSON),
        (BROWSER, JSON),
        (JAVA, JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv, application/json;q=0.5", CSV),
        ("text/csv;q=0.5, application/json", JSON),
        ("text/csv, application/json", JSON),
        ("text/csv, */*", JSON),
        ("text/csv, */*;q=0.9", CSV),
        ("application/json;q=0, */*", CSV),
        ("application/json;q=0", None),
        ("application/*;q=0, */*", CSV),
        ("application/*;q=0.1, application/x-ndjson;q=0.2", NDJSON),
        ("*/*;q=0", None),
        ("image/png", None),
        ("text/html", None),
        ("application/json;charset=utf-8", JSON),
        ('application/json; charset="UTF-8"', JSON),
        ("application/json;charset=latin-1", None),
        ("application/json;version=2", None),
        ("application/json;version=2, */*;q=0.1", JSON),
        ("application/json;charset=utf-8;q=0.1, text/csv;q=0.2", CSV),
        ("application/json ; q=0.1 , text/csv ; q=0.2", CSV),
        ("application/json;Q=0.1, text/csv;q=0.2", CSV),
        ("garbage", JSON),
        ("garbage, text/csv", CSV),
        ("application/json;q=2, text/csv", CSV),
        ("application/json;q=x, text/csv", CSV),
        ("application/json;q=-1, text/csv", CSV),
        ("application/json;q=0.1;q=1, text/csv", CSV),
        ("*/json, text/csv", CSV),
        ('text/csv;a="b,c";q=0.5, application/json;q=0.4', JSON),
        ('text/plain;a="b, application/json', JSON),
        ("/json, text/csv", CSV),
        ("application/json;q=0.333333", JSON),
        ("x" * 600 + "/x", None),
    ],
)
def test_the_best_acceptable_type_is_chosen(accept: str | None, chosen: str | None) -> None:
    assert negotiation.acceptable(accept, (JSON, CSV, NDJSON)) == chosen


@pytest.mark.parametrize("value", ['"' * 30_000, '"\\' * 15_000, "a/b," * 8_000, ";" * 30_000, "a/a" + ";a=" * 9_000])
def test_a_hostile_header_costs_little(value: str) -> None:
    negotiation.acceptable(value, (JSON, CSV))
    negotiation.encoding(value)
    negotiation.media_type(value)
    negotiation.preferences(value)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br, deflate", "identity"),
        ("*", "gzip"),
        ("*;q=0", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip; q=0.0, *", "identity"),
        ("gzip;q=0.5", "gzip"),
        ("identity;q=0", "identity"),
        ("identity;q=0, gzip", "gzip"),
        ("gzip;q=0.5, identity", "identity"),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("gzip;q=0.3, *;q=0.5", "identity"),
        ("gzip;q=nonsense", "identity"),
        ("gzip;level=9", "identity"),
    ],
)
def test_a_response_is_compressed_if_the_client_prefers_it_equally(accepted: str | None, chosen: str) -> None:
    assert negotiation.encoding(accepted) == chosen


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, ""),
        (JSON, JSON),
        ("Application/JSON; Charset=UTF-8", JSON),
        ("application/json ; charset=utf-8 ;", JSON),
        ("application/json; charset", ""),
        ("application/json; charset=utf-8; charset=utf-8", ""),
        ("application/json, text/plain", ""),
        ("application", ""),
        ("application/json charset=utf-8", ""),
    ],
)
def test_media_types_are_parsed_strictly(content_type: str | None, expected: str) -> None:
    assert negotiation.media_type(content_type) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Type": JSON}, JSON),
        ({"Content-Type": "application/json;charset=utf-8"}, JSON),
        ({"Content-Type": 'application/json; charset="Utf-8"'}, JSON),
        ({"Content-Type": "application/json; version=1"}, JSON),
        ({"Content-Type": MERGE}, MERGE),
        ({}, JSON),
        ({"Content-Length": "0"}, JSON),
    ],
)
def test_the_accepted_media_type_is_returned(headers: dict[str, str], expected: str) -> None:
    assert negotiation.check_content(headers, (JSON, MERGE), "Accept-Patch") == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "2"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; charset=utf8"},
        {"Content-Type": "application/json; charset"},
        {"Content-Type": "application/json, application/json"},
        {"Content-Type": JSON, "Content-Encoding": "gzip"},
        {"Content-Type": JSON, "Content-Encoding": "identity"},
        {"Content-Type": JSON, "Content-Encoding": "gzip, identity"},
        {"Content-Type": JSON, "Content-Encoding": ""},
    ],
)
def test_another_media_type_is_rejected_with_the_accepted_ones(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        negotiation.check_content(headers, (JSON, MERGE), "Accept-Patch")
    assert type(caught.value) is errors.UnsupportedMediaType
    assert caught.value.headers["Accept-Patch"] == f"{JSON}, {MERGE}"
    at_fault = "Content-Encoding" if "Content-Encoding" in headers else "Content-Type"
    assert caught.value.details[0].header == at_fault


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("return=minimal", {"return=minimal"}),
        ("Return = minimal", {"return=minimal"}),
        ('return="minimal"; foo=bar', {"return=minimal"}),
        ("respond-async, wait=100, return=representation", {"respond-async", "wait=100", "return=representation"}),
        ("return=minimal, return=representation", {"return=minimal"}),
        ("return=minimal oops", set()),
        ("", set()),
        ("=, return=", set()),
    ],
)
def test_preferences_are_parsed(value: str, expected: set[str]) -> None:
    assert negotiation.preferences(value) == expected


def test_compression_is_deterministic() -> None:
    body = b'{"name":"Ada"}' * 100
    compressed = negotiation.compress(body)
    assert compressed == negotiation.compress(body)
    assert gzip.decompress(compressed) == body
    assert compressed[4:8] == b"\0\0\0\0"
    assert len(compressed) < len(body) / 5
