"""Conditional requests (RFC 9110 §13): the preconditions of a request, and their evaluation against an item."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from pegboard import errors
from pegboard.errors import ApiError

_TAG = re.compile(r'[ \t,]*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,[ \t,]*|$)')
# The suffixes that are ignored: that of the encoding and, for If-Match, that of the expanded items.
_VARIANT = re.compile(r"-gzip$")
_VARIANTS = {"If-Match": re.compile(r"\..*$|-gzip$")}
_HEADERS = (hdrs.IF_MATCH, hdrs.IF_NONE_MATCH, hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE)


class Outcome(Enum):
    """Represent the result of evaluating the conditions."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class EntityTags:
    """Hold the entity tags of one header; `any_tag` represents `*`."""

    any_tag: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    def match_strongly(self, tag: str) -> bool:
        """Return whether `If-Match` matches, by the strong comparison of RFC 9110 §8.8.3.2: a weak tag never does.

        The part of `tag` after a dot is ignored, since it covers other items.
        """
        return self.any_tag or tag.partition(".")[0] in self.strong

    def match_weakly(self, tag: str) -> bool:
        """Return whether `If-None-Match` matches, by the weak comparison of RFC 9110 §8.8.3.2."""
        return self.any_tag or tag in self.strong or tag in self.weak


@dataclass(frozen=True, slots=True)
class Conditions:
    """Hold the conditions of one request; each that the request does not have is None."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None
    modified_since: datetime | None = None
    unmodified_since: datetime | None = None


def evaluate(conditions: Conditions, tag: str, modified: datetime | None, *, reading: bool) -> Outcome:
    """Evaluate conditions against an item that exists, in the order of RFC 9110 §13.2.2.

    `tag` is the opaque part of its entity tag, `modified` the time of its last change, if known.
    """
    if modified is not None and modified.microsecond:
        # As clients know it from the header.
        modified = modified.replace(microsecond=0)
    if conditions.if_match is not None:
        if not conditions.if_match.match_strongly(tag):
            return Outcome.FAILED
    elif conditions.unmodified_since and modified and modified > conditions.unmodified_since:
        return Outcome.FAILED
    if conditions.if_none_match is not None:
        if conditions.if_none_match.match_weakly(tag):
            return Outcome.NOT_MODIFIED if reading else Outcome.FAILED
    elif reading and conditions.modified_since and modified and modified <= conditions.modified_since:
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def precondition_failed(conditions: Conditions, tag: str) -> ApiError:
    """Return the 412 for an item whose tag is `tag`: it has the header that failed, and the item's tag."""
    header = "If-Unmodified-Since"
    if conditions.if_match is not None and not conditions.if_match.match_strongly(tag):
        header = "If-Match"
    elif conditions.if_none_match is not None and conditions.if_none_match.match_weakly(tag):
        header = "If-None-Match"
    return errors.PreconditionFailed(header=header, headers={"ETag": f'"{tag}"'})


NONE = Conditions()


def read(headers: CIMultiDictProxy[str]) -> Conditions:
    """Return the conditions in a request's headers.

    Raises `ApiError` 400 for a malformed tag, and for a header without one; empty members of a list are ignored (RFC
    9110 §5.6.1.2). An invalid date is ignored, as RFC 9110 §13.1.3 requires.
    """
    for name in _HEADERS:
        if name in headers:
            break
    else:
        return NONE
    if_match, if_none_match = errors.gather(lambda: _tags(headers, "If-Match"), lambda: _tags(headers, "If-None-Match"))
    return Conditions(
        if_match=if_match,
        if_none_match=if_none_match,
        modified_since=_date(headers, "If-Modified-Since"),
        unmodified_since=_date(headers, "If-Unmodified-Since"),
    )


def _tags(headers: CIMultiDictProxy[str], name: str) -> EntityTags | None:
    if name not in headers:
        return None
    text = ",".join(headers.getall(name)).strip(" \t")
    if text == "*":
        return EntityTags(any_tag=True)
    tags: Mapping[bool, set[str]] = {False: set(), True: set()}
    position = 0
    while position < len(text):
        match = _TAG.match(text, position)
        if match is None:
            break
        tags[match[1] is not None].add(_VARIANTS.get(name, _VARIANT).sub("", match[2]))
        position = match.end()
    if position < len(text) or not text:
        raise errors.InvalidHeader(
            f'{name} takes entity tags in quotes, separated by commas: "abc", or *.', header=name
        )
    return EntityTags(strong=frozenset(tags[False]), weak=frozenset(tags[True]))


def _date(headers: CIMultiDictProxy[str], name: str) -> datetime | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
