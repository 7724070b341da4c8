"""What the client takes and what it sends: media types, content codings and preferences."""

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
"""The headers that what is served as JSON depends on."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Python takes long to compile a class that names the characters beyond ASCII, and not one that lacks the others.
_QUOTED = r'"(?:[^\x00-\x08\n-\x1f\x7f"\\]|\\[^\x00-\x08\n-\x1f\x7f])*"'
_MEDIA_TYPE = re.compile(rf"({_TOKEN})/({_TOKEN})")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED}))?")
# A quote that is never closed takes the rest: looking for its end from every quote anew would take quadratic time.
_MEMBER = re.compile(r'(?:"(?:[^"\\]|\\.?)*+"?|[^,"])+')
# Java's own client sends q=.2, and others more digits than three.
_WEIGHT = re.compile(r"0?\.\d+|0\.?|1(?:\.0*)?")
_PREFERENCE = re.compile(rf"({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|{_QUOTED}))?(?=[ \t]*(?:;|$))")

_COMPRESSION_LEVEL = 5
_LONGEST_REMEMBERED = 512


def acceptable(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the one of `offered` media types that the client likes best, or None where it takes none.

    RFC 9110 §12.5.1. Of those it likes equally, the first. Members that are malformed are left out; when none
    remains, all is taken. A range with `charset=utf-8` matches: that is what all we offer is written in.
    """
    if accept is None or accept == "*/*" or accept == offered[0]:
        return offered[0]
    return _remembered(_acceptable, accept)(accept, tuple(offered))


def accept(request: web.Request, *offered: str) -> str:
    """Return the media type to answer with; raises `ApiError` 406 where the client takes none of `offered`."""
    return choose(line(request, hdrs.ACCEPT), *offered)


def choose(accepted: str | None, *offered: str) -> str:
    """Return the media type to answer with, as `accept` does, by the line that says what is accepted."""
    chosen = acceptable(accepted, offered)
    if chosen is None:
        message = f"Accept one of: {', '.join(offered)}."
        raise errors.NotAcceptable(message, header="Accept", headers={"Vary": VARY})
    return chosen


def line(request: web.Request, name: str) -> str | None:
    """Return a header as one line, in however many it came (RFC 9110 §5.3); None where it is not there."""
    values = request.headers.getall(name, None)
    return None if values is None else values[0] if len(values) == 1 else ", ".join(values)


def encoding(accept_encoding: str | None) -> str:
    """Return the content coding to answer in, `gzip` or `identity` (RFC 9110 §12.5.3)."""
    if accept_encoding is None:
        return "identity"
    return _remembered(_encoding, accept_encoding)(accept_encoding)


def media_type(content_type: str | None) -> str:
    """Return the media type in a `Content-Type`, lower-case and without parameters; "" for none or a malformed one."""
    return "" if content_type is None else _remembered(_content_type, content_type)(content_type)[0]


def check_content(headers: Mapping[str, str], taken: Sequence[str], header: str) -> str:
    """Return the media type of a request's body.

    Raises `ApiError` 415 unless it is one of `taken`, in UTF-8 and not compressed.
    `header` is the one that tells the client what is taken: `Accept-Patch` for PATCH, else `Accept`. A request that
    has neither a body nor a type is let through as the first of `taken`: that its body is missing is another fault.
    """
    content_type = headers.get(hdrs.CONTENT_TYPE)
    if hdrs.CONTENT_ENCODING in headers:
        told = {header: ", ".join(taken), "Accept-Encoding": "identity"}
        raise _not_taken("Content-Encoding", "Send the body as it is, without Content-Encoding.", told)
    if content_type == taken[0]:
        return taken[0]
    if content_type is None:
        if headers.get(hdrs.CONTENT_LENGTH, "0") == "0" and hdrs.TRANSFER_ENCODING not in headers:
            return taken[0]
        raise _not_taken("Content-Type", f"Send Content-Type: {' or '.join(taken)}.", {header: ", ".join(taken)})
    kind, charset = _remembered(_content_type, content_type)(content_type)
    if kind not in taken:
        raise _not_taken("Content-Type", f"Send {' or '.join(taken)}.", {header: ", ".join(taken)})
    if charset.lower() != "utf-8":
        raise _not_taken("Content-Type", "Send the body in UTF-8.", {header: ", ".join(taken)})
    return kind


def prefer(value: str) -> frozenset[str]:
    """Return the preferences in a `Prefer` (RFC 7240), such as `return=minimal`; of one given twice, the first."""
    found: dict[str, str] = {}
    for member in _members(value):
        match = _PREFERENCE.match(member)
        if match is not None:
            name = match[1].lower()
            wanted = _unquoted(match[2] or "")
            found.setdefault(name, f"{name}={wanted}" if wanted else name)
    return frozenset(found.values())


def compress(body: bytes) -> bytes:
    """Return `body` in gzip, the same bytes for the same body."""
    return gzip.compress(body, _COMPRESSION_LEVEL, mtime=0)


def _remembered(function: Callable[..., T], value: str) -> Callable[..., T]:
    """Return `function`, which remembers; for a long value without its memory, lest such values fill it."""
    if len(value) <= _LONGEST_REMEMBERED:
        return function
    plain: Callable[..., T] = function.__wrapped__  # type: ignore[attr-defined]  # it is an lru_cache
    return plain


@lru_cache(maxsize=256)
def _acceptable(accept: str, offered: tuple[str, ...]) -> str | None:
    ranges = [parsed for member in _members(accept) if (parsed := _range(member)) is not None]
    if not ranges:
        return offered[0]
    best, liked = None, 0.0
    for media in offered:
        matching = [(specificity, weight) for name, specificity, weight in ranges if _matches(name, media)]
        weight = max(matching)[1] if matching else 0.0
        if weight > liked:
            best, liked = media, weight
    return best


def _range(member: str) -> tuple[str, int, float] | None:
    """Return the media range in a member of `Accept`, how specific it is, and its weight; None for a malformed one."""
    # A lone star is what Java's own client sends.
    parsed = _parse("*/*" + member[1:] if re.match(r"\*[ \t]*(;|$)", member) else member)
    if parsed is None:
        return None
    name, parameters = parsed
    weight = _weight(parameters.pop("q", "1"))
    if weight is None or (name.startswith("*/") and name != "*/*"):
        return None
    specificity = (0 if name == "*/*" else 1 if name.endswith("/*") else 2) + len(parameters)
    if parameters.pop("charset", "utf-8").lower() != "utf-8" or parameters:
        # It is about another representation than the one we have.
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
    """Return the media type and the charset, `utf-8` where none is given; ("", "") for a malformed value."""
    parsed = _parse(content_type)
    if parsed is None:
        return "", ""
    return parsed[0], parsed[1].get("charset", "utf-8")


def _parse(value: str) -> tuple[str, dict[str, str]] | None:
    """Return a media type and its parameters (RFC 9110 §8.3.1); None for what is none, or names a parameter twice."""
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
    """Yield the members of a list (RFC 9110 §5.6.1), the empty ones left out."""
    return (stripped for member in _MEMBER.findall(value) if (stripped := member.strip(" \t")))


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _weight(value: str) -> float | None:
    return float(value) if _WEIGHT.fullmatch(value) else None


def _not_taken(header: str, message: str, headers: Mapping[str, str]) -> ApiError:
    return errors.UnsupportedMediaType(message, header=header, headers=headers)
