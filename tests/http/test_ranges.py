"""Ranges, digests and file names of content: parsing and formatting of headers."""

from __future__ import annotations

from hashlib import sha256

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from pegboard import ApiError, errors
from pegboard.http import digests, ranges
from pegboard.http.disposition import disposition

DIGEST = sha256(b"hello").digest()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=0-99", (0, 10)),
        ("bytes=3-", (3, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("Bytes= 2-4 ", (2, 5)),
        ("bytes=0-9999999999999999999", (0, 10)),
        (None, None),
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=0x1-2", None),
        ("bytes=+1-2", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes=1-2-3", None),
        ("items=0-1", None),
    ],
)
def test_a_range_selects_a_part_or_everything(header: str | None, part: tuple[int, int] | None) -> None:
    assert ranges.parse(header, 10) == part


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_a_range_after_the_end_is_rejected_with_the_size(header: str, size: int) -> None:
    with pytest.raises(ApiError) as refused:
        ranges.parse(header, size)
    assert type(refused.value) is errors.RangeNotSatisfiable
    assert refused.value.headers == {"Content-Range": f"bytes */{size}"}


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (None, True),
        ('"abc"', True),
        ('"abd"', False),
        ('W/"abc"', False),
        ("abc", False),
        ("Sun, 15 Feb 2015 05:21:07 GMT", False),
    ],
)
def test_a_range_is_applied_only_to_the_version_in_if_range(header: str | None, meant: bool) -> None:
    assert ranges.if_range_matches(header, "abc") is meant


def headers(*values: str, name: str = "Repr-Digest") -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([(name, value) for value in values]))


def test_a_digest_is_parsed_as_it_is_formatted() -> None:
    assert digests.format_digest(DIGEST) == "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
    assert digests.read(headers(digests.format_digest(DIGEST))) == {"Repr-Digest": DIGEST}
    assert digests.read(headers("sha-512=:AAAA:", digests.format_digest(DIGEST))) == {"Repr-Digest": DIGEST}
    assert digests.read(headers("md5=:AAAA:")) == {}
    assert digests.read(headers()) == {}


@pytest.mark.parametrize(
    "value", ["", "x", "sha-256=abc", "sha-256=:abc:", "sha-256=:AAAA:", "sha-256=:AA\u00e9A:", "a=::,"]
)
def test_a_malformed_digest_is_rejected(value: str) -> None:
    with pytest.raises(ApiError) as refused:
        digests.read(headers(value, name="Content-Digest"))
    assert (type(refused.value), refused.value.details[0].header) == (errors.InvalidHeader, "Content-Digest")


@pytest.mark.parametrize(
    ("media_type", "name", "expected"),
    [
        ("image/png", "a.png", 'inline; filename="a.png"'),
        ("IMAGE/PNG; q=1", "a.png", 'inline; filename="a.png"'),
        ("text/html", "a.html", 'attachment; filename="a.html"'),
        ("image/svg+xml", "a.svg", 'attachment; filename="a.svg"'),
        ("text/plain", None, "inline"),
        ("text/plain", "..", "inline"),
        ("a/b", "Zoë's résumé.pdf", "attachment; filename=\"Zoe's resume.pdf\"; filename*=UTF-8''Zo%C3%AB%27s%20r%C3%A9sum%C3%A9.pdf"),
        ("a/b", "\u6587\u66f8", "attachment; filename=\"_\"; filename*=UTF-8''%E6%96%87%E6%9B%B8"),
        ("a/b", 'x"; filename="evil.exe', "attachment; filename=\"x_; filename=_evil.exe\"; filename*=UTF-8''x%22%3B%20filename%3D%22evil.exe"),
        ("a/b", "../../etc/passwd", 'attachment; filename="passwd"'),
        ("a/b", "C:\\boot.ini", 'attachment; filename="boot.ini"'),
        ("a/b", "a\r\nSet-Cookie: x", "attachment; filename=\"aSet-Cookie: x\""),
        ("a/b", "\u202egpj.exe", 'attachment; filename="gpj.exe"'),
        ("a/b", "50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
    ],
)  # fmt: skip
def test_file_names_are_encoded_for_all_browsers(media_type: str, name: str | None, expected: str) -> None:
    assert disposition(media_type, name) == expected
