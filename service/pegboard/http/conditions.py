"""Conditional requests (RFC 9110 §13): what the client demands of the item's state, and whether it holds."""

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
# What a tag has beyond the state of the item: its encoding and, where that does not matter, what is shown with it.
_VARIANT = re.compile(r"-gzip$")
_VARIANTS = {"If-Match": re.compile(r"\..*$|-gzip$")}
_GUARDED = (hdrs.IF_MATCH, hdrs.IF_NONE_MATCH, hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE)


class Outcome(Enum):
    """Say how a conditional request goes on."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Tags:
    """Hold the entity tags of one header; `anything` stands for `*`."""

    anything: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    def match_strongly(self, tag: str) -> bool:
        """Compare as RFC 9110 §8.8.3.2 says for `If-Match`: a weak tag never matches.

        What follows a dot in `tag` does not count, since it is about other items.
        """
        return self.anything or tag.partition(".")[0] in self.strong

    def match_weakly(self, tag: str) -> bool:
        """Compare as RFC 9110 §8.8.3.2 says for `If-None-Match`."""
        return self.anything or tag in self.strong or tag in self.weak


@dataclass(frozen=True, slots=True)
class Conditions:
    """Hold the conditions of one request; all None where it has none."""

    if_match: Tags | None = None
    if_none_match: Tags | None = None
    modified_since: datetime | None = None
    unmodified_since: datetime | None = None

    def evaluate(self, tag: str, modified: datetime | None, *, reading: bool) -> Outcome:
        """Hold the conditions against an item that exists, in the order of RFC 9110 §13.2.2.

        `tag` is the opaque part of its entity tag, `modified` its last change if known.
        """
        if self.if_match is not None:
            if not self.if_match.match_strongly(tag):
                return Outcome.FAILED
        elif self.unmodified_since and modified and modified > self.unmodified_since:
            return Outcome.FAILED
        if self.if_none_match is not None:
            if self.if_none_match.match_weakly(tag):
                return Outcome.NOT_MODIFIED if reading else Outcome.FAILED
        elif reading and self.modified_since and modified and modified <= self.modified_since:
            return Outcome.NOT_MODIFIED
        return Outcome.PROCEED

    def refusal(self, tag: str) -> ApiError:
        """Return the 412 for an item whose tag is `tag`: it names the condition that failed, and the item's tag."""
        header = "If-Unmodified-Since"
        if self.if_match is not None and not self.if_match.match_strongly(tag):
            header = "If-Match"
        elif self.if_none_match is not None and self.if_none_match.match_weakly(tag):
            header = "If-None-Match"
        return errors.PreconditionFailed(header=header, headers={"ETag": f'"{tag}"'})


NONE = Conditions()


def read(headers: CIMultiDictProxy[str]) -> Conditions:
    """Return the conditions that a request's headers hold.

    Raises `ApiError` 400 for a malformed tag, or for none; empty members of a list are ignored (RFC 9110 §5.6.1.2). A
    date that is none is ignored, as RFC 9110 §13.1.3 demands.
    """
    for name in _GUARDED:
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


def _tags(headers: CIMultiDictProxy[str], name: str) -> Tags | None:
    if name not in headers:
        return None
    text = ",".join(headers.getall(name)).strip(" \t")
    if text == "*":
        return Tags(anything=True)
    found: Mapping[bool, set[str]] = {False: set(), True: set()}
    position = 0
    while position < len(text):
        match = _TAG.match(text, position)
        if match is None:
            break
        found[match[1] is not None].add(_VARIANTS.get(name, _VARIANT).sub("", match[2]))
        position = match.end()
    if position < len(text) or not text:
        raise errors.InvalidHeader(
            f'{name} takes entity tags in quotes, separated by commas: "abc", or *.', header=name
        )
    return Tags(strong=frozenset(found[False]), weak=frozenset(found[True]))


def _date(headers: CIMultiDictProxy[str], name: str) -> datetime | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
