"""Parsing of bodies: JSON according to RFC 8259, strict where other parsers are lax."""

import pytest

from pegboard.errors import ApiError
from pegboard.http import payload


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 10002), (b" \n", 10002), (b"{", 10000), (b"{'a':1}", 10000), (b"nul", 10000), (b"[1,]", 10000), (b"{} {}", 10000), (b"NaN", 10000),
        (b"[Infinity]", 10000), (b"[-Infinity]", 10000), (b"[1e400]", 10000), (b'["\\ud800"]', 10000), (b"\xef\xbb\xbf{}", 10000), (b'"\xff"', 10000),
        ('{"a":1}'.encode("utf-16"), 10000), (b'"\x01"', 10000), (b"[01]", 10000), (b"[+1]", 10000), (b"// a\n{}", 10000), (b"[" * 100_000, 10000),
        (b"[" * 101 + b"]" * 101, 10001), (b'{"a":' * 101 + b"1" + b"}" * 101, 10001),
    ],
)  # fmt: skip
def test_invalid_json_is_400(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        payload.parse(body, 100)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_nesting_is_measured_by_depth_not_by_brackets() -> None:
    assert payload.parse(b"[" * 100 + b"]" * 100, 100)
    assert payload.parse(b"[" + b",".join([b"{}"] * 200) + b"]", 100) == [{}] * 200


def test_the_last_of_two_equal_keys_is_used() -> None:
    assert payload.parse(b'{"a":1,"a":2}', 100) == {"a": 2}
