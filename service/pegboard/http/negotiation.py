"""Content negotiation: media types, content codings and preferences."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from aiohttp import hdrs, web

from pegboard import errors
from pegboard.errors import ApiError

T = TypeVar("T")

JSON = "application/json"
VARY = "Accept, Accept-Encoding"
"""The request headers that a JSON response depends on."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Python compiles a negated class fast, but one that lists all characters above ASCII slowly.
_QUOTED = r'"(?:[^\x00-\x08\n-\x1f\x7f"\\]|\\[^\x00-\x08\n-\x1f\x7f])*"'
_MEDIA_TYPE = re.compile(rf"({_TOKEN})/({_TOKEN})")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED}))?")
# An unclosed quote matches the rest: a search for its end from every quote would take quadratic time.
_MEMBER = re.compile(r'(?:"(?:[^"\\]|\\.?)*+"?|[^,"])+')
# Java's HTTP client sends q=.2, and others more than three digits.
_WEIGHT = re.compile(r"0?\.\d+|0\.?|1(?:\.0*)?")
_PREFERENCE = re.compile(rf"({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|{_QUOTED}))?(?=[ \t]*(?:;|$))")

_COMPRESSION_LEVEL = 5
_MAX_CACHED = 512


def acceptable(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the media type of `offered` that the client prefers, or None if it accepts none (RFC 9110 §12.5.1).

    Of several with the same weight, the first. Malformed members are ignored; without a valid one, all types are
    accepted. A range with `charset=utf-8` matches, since all offered types are in UTF-8.
    """
    if accept is None or accept == "*/*" or accept == offered[0]:
        return offered[0]
    return _cached(_acceptable, accept)(accept, tuple(offered))


def accept(request: web.Request, *offered: str) -> str:
    """Return the media type of the response; raises `ApiError` 406 if the client accepts none of `offered`."""
    return choose_media_type(header_value(request, hdrs.ACCEPT), *offered)


def choose_media_type(accepted: str | None, *offered: str) -> str:
    """Return the media type of the response as `accept` does, for `accepted`, the value of the `Accept` header."""
    chosen = acceptable(accepted, offered)
    if chosen is None:
        message = f"Accept one of: {', '.join(offered)}."
        raise errors.NotAcceptable(message, header="Accept", headers={"Vary": VARY})
    return chosen


def header_value(request: web.Request, name: str) -> str | None:
    """Return the value of a header, with repeated ones joined (RFC 9110 §5.3); None if the request has none."""
    values = request.headers.getall(name, None)
    return None if values is None else values[0] if len(values) == 1 else ", ".join(values)


def encoding(accept_encoding: str | None) -> str:
    """Return the content coding of the response, `gzip` or `identity` (RFC 9110 §12.5.3)."""
    if accept_encoding is None:
        return "identity"
    return _cached(_encoding, accept_encoding)(accept_encoding)


def media_type(content_type: str | None) -> str:
    """Return the media type in a `Content-Type`, in lower case and without parameters; "" if missing or malformed."""
    return "" if content_type is None else _cached(_content_type, content_type)(content_type)[0]


def check_content(headers: Mapping[str, str], accepted: Sequence[str], header: str) -> str:
    """Return the media type of a request's body.

    Raises `ApiError` 415 unless it is one of `accepted`, in UTF-8 and not compressed. The 415 lists the accepted types
    in `header`: `Accept-Patch` for PATCH, else `Accept`. A request with neither a body nor a type counts as the first
    of `accepted`: a missing body is a different error.
    """
    content_type = headers.get(hdrs.CONTENT_TYPE)
    if hdrs.CONTENT_ENCODING in headers:
        response_headers = {header: ", ".join(accepted), "Accept-Encoding": "identity"}
        raise _unsupported("Content-Encoding", "Send the body as it is, without Content-Encoding.", response_headers)
    if content_type == accepted[0]:
        return accepted[0]
    if content_type is None:
        if headers.get(hdrs.CONTENT_LENGTH, "0") == "0" and hdrs.TRANSFER_ENCODING not in headers:
            return accepted[0]
        raise _unsupported(
            "Content-Type", f"Send Content-Type: {' or '.join(accepted)}.", {header: ", ".join(accepted)}
        )
    sent_type, charset = _cached(_content_type, content_type)(content_type)
    if sent_type not in accepted:
        raise _unsupported("Content-Type", f"Send {' or '.join(accepted)}.", {header: ", ".join(accepted)})
    if charset.lower() != "utf-8":
        raise _unsupported("Content-Type", "Send the body in UTF-8.", {header: ", ".join(accepted)})
    return sent_type


def preferences(value: str) -> frozenset[str]:
    """Return the preferences in a `Prefer` (RFC 7240), such as `return=minimal`; the first of repeated ones counts."""
    by_name: dict[str, str] = {}
    for member in _members(value):
        match = _PREFERENCE.match(member)
        if match is not None:
            name = match[1].lower()
            setting = _unquoted(match[2] or "")
            by_name.setdefault(name, f"{name}={setting}" if setting else name)
    return frozenset(by_name.values())


def compress(body: bytes) -> bytes:
    """Return `body` compressed by gzip; equal bodies give equal bytes."""
    return gzip.compress(body, _COMPRESSION_LEVEL, mtime=0)


def _cached(function: Callable[..., T], value: str) -> Callable[..., T]:
    """Return the cached `function`, or for a long value the function without its cache, to bound the memory."""
    if len(value) <= _MAX_CACHED:
        return function
    uncached: Callable[..., T] = function.__wrapped__  # type: ignore[attr-defined]  # it is an lru_cache
    return uncached


@lru_cache(maxsize=256)
def _acceptable(accept: str, offered: tuple[str, ...]) -> str | None:
    ranges = [parsed for member in _members(accept) if (parsed := _range(member)) is not None]
    if not ranges:
        return offered[0]
    best, best_weight = None, 0.0
    for media in offered:
        matching = [(specificity, weight) for name, specificity, weight in ranges if _matches(name, media)]
        weight = max(matching)[1] if matching else 0.0
        if weight > best_weight:
            best, best_weight = media, weight
    return best


def _range(member: str) -> tuple[str, int, float] | None:
    """Return the media range in a member of `Accept`, its specificity and its weight; None for a malformed member."""
    # Java's HTTP client sends a lone star.
    parsed = _parse("*/*" + member[1:] if re.match(r"\*[ \t]*(;|$)", member) else member)
    if parsed is None:
        return None
    name, parameters = parsed
    weight = _weight(parameters.pop("q", "1"))
    if weight is None or (name.startswith("*/") and name != "*/*"):
        return None
    specificity = (0 if name == "*/*" else 1 if name.endswith("/*") else 2) + len(parameters)
    if parameters.pop("charset", "utf-8").lower() != "utf-8" or parameters:
        # It matches none of the representations offered.
        return "", specificity, weight
    return name, specificity, weight


def _matches(name: str, media: str) -> bool:
    return name in (media, "*/*") or (name.endswith("/*") and media.startswith(name[:-1]))


@lru_cache(maxsize=256)
def _encoding(accept_encoding: str) -> str:
    weights: dict[str, float] = {}
    for member in _members(accept_encoding):
        coding, _, parameters = member.partition(";")
        name, _, value = parameters.partition("=")
        weight = _weight(value.strip()) if name.strip().lower() == "q" else None if parameters else 1.0
        if weight is not None:
            weights[coding.strip().lower()] = weight
    other = weights.get("*")
    compressed = weights.get("gzip", weights.get("x-gzip", other or 0.0))
    plain = weights.get("identity", other or 0.0)
    return "gzip" if compressed > 0 and compressed >= plain else "identity"


@lru_cache(maxsize=256)
def _content_type(content_type: str) -> tuple[str, str]:
    """Return the media type and the charset, by default `utf-8`; ("", "") for a malformed value."""
    parsed = _parse(content_type)
    if parsed is None:
        return "", ""
    return parsed[0], parsed[1].get("charset", "utf-8")


def _parse(value: str) -> tuple[str, dict[str, str]] | None:
    """Return a media type and its parameters (RFC 9110 §8.3.1); None if it is malformed or repeats a parameter."""
    match = _MEDIA_TYPE.match(value)
    if match is None:
        return None
    position, parameters = match.end(), dict[str, str]()
    while position < len(value):
        parameter = _PARAMETER.match(value, position)
        if parameter is None:
            return None
        position = parameter.end()
        name = (parameter[1] or "").lower()
        if name in parameters:
            return None
        if name:
            parameters[name] = _unquoted(parameter[2])
    return match[0].lower(), parameters


def _members(value: str) -> Iterator[str]:
    """Yield the members of a list (RFC 9110 §5.6.1), without the empty ones."""
    return (stripped for member in _MEMBER.findall(value) if (stripped := member.strip(" \t")))


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _weight(value: str) -> float | None:
    return float(value) if _WEIGHT.fullmatch(value) else None


def _unsupported(header: str, message: str, headers: Mapping[str, str]) -> ApiError:
    return errors.UnsupportedMediaType(message, header=header, headers=headers)
