"""Digests of bodies (RFC 9530): SHA-256 in the headers of requests and responses."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable

from multidict import CIMultiDictProxy

from pegboard import errors

HEADERS = ("Content-Digest", "Repr-Digest")

_MEMBER = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):[ \t]*")
_SIZE = 32


def read(headers: CIMultiDictProxy[str]) -> dict[str, bytes]:
    """Return the SHA-256 in each header; other algorithms are ignored.

    Raises `ApiError` 400 for a malformed header.
    """
    digests = {}
    for name in HEADERS:
        for member in ",".join(headers.getall(name, ())).split(",") if name in headers else ():
            match = _MEMBER.fullmatch(member)
            digest = None if match is None else _decoded(match[2])
            if match is None or digest is None or (match[1] == "sha-256" and len(digest) != _SIZE):
                raise errors.InvalidHeader(f"{name} must look like `sha-256=:BASE64:` (RFC 9530).", header=name)
            if match[1] == "sha-256":
                digests[name] = digest
    return digests


def check(sent: dict[str, bytes], digest: bytes) -> None:
    """Raise `ApiError` 400 that names every header whose digest is not that of the body."""
    mismatched = [name for name, value in sent.items() if value != digest]
    if mismatched:
        raise errors.DigestMismatch(details=tuple(_details(mismatched)))


def _details(names: Iterable[str]) -> Iterable[errors.ErrorDetail]:
    return (
        errors.ErrorDetail(errors.DigestMismatch.code, errors.DigestMismatch.message, header=name) for name in names
    )


def format_digest(digest: bytes) -> str:
    """Return a SHA-256 as the value of either header."""
    return f"sha-256=:{b64encode(digest).decode()}:"


def _decoded(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        return None
