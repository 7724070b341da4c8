"""The hosts that a database's URL names: which of them is taken, and how long each is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.exceptions import CannotConnectNowError, TargetServerAttributeNotMatched

# What says that another host may serve.
_ELSEWHERE = (OSError, CannotConnectNowError, TargetServerAttributeNotMatched)
# asyncpg takes a session that is read-only by our own wish for one on a standby.
_SESSION_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "read-write": ("primary",),
    "prefer-standby": ("standby", "any"),
}


async def connect(dsn: str, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109 - shared out
    """Return a connection of asyncpg's to the first host that will do.

    Of several it is the primary, unless the URL's `target_session_attrs` asks for another. A host that does not answer
    costs its share of `timeout` seconds, so that one that has vanished hides none of the others. Raises what the last
    of them said.
    """
    urls, attributes = _single(dsn), _attributes(dsn)
    failure: Exception = ConnectionError("the URL contains no host")
    share = timeout / (len(urls) * len(attributes))
    for attribute in attributes:
        for url in urls:
            try:
                # asyncpg bounds no look-up of a name.
                async with asyncio.timeout(share):
                    wanted = SessionAttribute(attribute) if attribute else None
                    return await asyncpg.connect(url, timeout=share, target_session_attrs=wanted, **options)
            except TargetServerAttributeNotMatched:
                # Which of them it was says nothing: the server is well.
                failure = ConnectionError(f"none of the servers in the URL is {attributes[0]} that responds")
            except _ELSEWHERE as error:
                failure = error
    raise failure


def _single(dsn: str) -> list[str]:
    """Return a URL for each host; those that stand in the query, as paths of sockets do, stay together."""
    parts = urlsplit(dsn)
    who, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    return [parts._replace(netloc=f"{who}{at}{host}").geturl() for host in hosts.split(",")]


def _attributes(dsn: str) -> tuple[str | None, ...]:
    """Return what a host has to be, the second where none is the first; None for whatever asyncpg makes of the URL."""
    parts = urlsplit(dsn)
    asked = parse_qs(parts.query).get("target_session_attrs", [""])[-1]
    several = "," in parts.netloc.rpartition("@")[2]
    return _SESSION_ATTRIBUTES.get(asked) or (asked or ("primary" if several else None),)
