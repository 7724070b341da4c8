"""A strict parser for the `Authorization` header of Basic authentication (RFC 7617)."""

from __future__ import annotations

import binascii
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import NamedTuple


class Malformed(ValueError):
    """Describe what is wrong with a header, without quoting any of it."""


class Credential(NamedTuple):
    """Hold the credentials that a client sent; the field names are those of `aiohttp_basicauth`."""

    login: str
    password: str


def parse(values: Sequence[str]) -> Credential | None:
    """Return the credential in the values of `Authorization`, or None if there are none; raises `Malformed`."""
    if not values:
        return None
    if len(values) > 1:
        raise Malformed("The Authorization header was sent more than once.")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "basic":
        raise Malformed("The Authorization header does not use the scheme Basic.")
    username, colon, password = _decode(token.lstrip(" ")).partition(":")
    if not colon:
        raise Malformed("The credentials have no colon between the user name and the password.")
    if "Cc" in map(unicodedata.category, username + password):
        raise Malformed("The credentials contain a control character.")
    return Credential(username, password)


def _decode(token: str) -> str:
    try:
        decoded = b64decode(token, validate=True)
        canonical = b64encode(decoded) == token.encode()
    except (binascii.Error, ValueError):
        canonical = False
    if not canonical or not token:
        raise Malformed("The credentials are not valid Base64.")
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        raise Malformed("The credentials are not valid UTF-8.") from None
