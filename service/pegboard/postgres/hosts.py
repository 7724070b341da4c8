"""Connecting to one of the hosts in a database URL, within one timeout for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.exceptions import CannotConnectNowError, TargetServerAttributeNotMatched

# Errors after which the next host is tried.
_TRY_NEXT = (OSError, CannotConnectNowError, TargetServerAttributeNotMatched)
# asyncpg takes a session that we made read-only for one on a standby.
_SESSION_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "read-write": ("primary",),
    "prefer-standby": ("standby", "any"),
}


async def connect(dsn: str, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109 - split between hosts
    """Return an asyncpg connection to the first suitable host.

    Of several hosts this is the primary, unless the URL's `target_session_attrs` requests another. The `timeout` is
    split evenly, so that a host that does not respond leaves time for the others. Raises the error of the last host.
    """
    urls, attributes = _split(dsn), _attributes(dsn)
    failure: Exception = ConnectionError("the URL contains no host")
    share = timeout / (len(urls) * len(attributes))
    for attribute in attributes:
        for url in urls:
            try:
                # asyncpg's timeout does not cover DNS lookups.
                async with asyncio.timeout(share):
                    wanted = SessionAttribute(attribute) if attribute else None
                    return await asyncpg.connect(url, timeout=share, target_session_attrs=wanted, **options)
            except TargetServerAttributeNotMatched:
                # The message must not name one host, as the server itself works.
                failure = ConnectionError(f"no reachable server is {attributes[0]}")
            except _TRY_NEXT as error:
                failure = error
    raise failure


def _split(dsn: str) -> list[str]:
    """Return a URL for each host; hosts in the query, such as socket paths, are not split."""
    parts = urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


def _attributes(dsn: str) -> tuple[str | None, ...]:
    """Return the attributes to look for, in order of preference; None leaves it to asyncpg."""
    parts = urlsplit(dsn)
    requested = parse_qs(parts.query).get("target_session_attrs", [""])[-1]
    several = "," in parts.netloc.rpartition("@")[2]
    return _SESSION_ATTRIBUTES.get(requested) or (requested or ("primary" if several else None),)
