"""Connecting to one of the hosts in a database URL, within one timeout for all of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.exceptions import (
    CannotConnectNowError,
    CantChangeRuntimeParamError,
    ClientConfigurationError,
    InvalidParameterValueError,
    PostgresSyntaxError,
    TargetServerAttributeNotMatched,
    UndefinedObjectError,
)

from pegboard import database_urls

# Errors after which the next host is tried.
_TRY_NEXT = (OSError, CannotConnectNowError, TargetServerAttributeNotMatched)
# The server's errors for the parameters of a session.
_PARAMETERS = (
    CantChangeRuntimeParamError,
    InvalidParameterValueError,
    PostgresSyntaxError,
    UndefinedObjectError,
)


async def connect(
    dsn: str,
    timeout: float,  # noqa: ASYNC109 - split between hosts
    server_settings: Mapping[str, str],
    **options: Any,
) -> Any:
    """Return an asyncpg connection to the first suitable host, with the options of the URL.

    Of several hosts this is the primary, unless the URL's `target_session_attrs` requests another. The `timeout` is
    split evenly, so that a host that does not respond leaves time for the others; `connect_timeout` in the URL shortens
    the share of each. Raises the error of the last host, and `ClientConfigurationError` for options that cannot work.
    """
    try:
        url = database_urls.parse(dsn)
        context = url.context
    except database_urls.InvalidUrl as error:
        raise ClientConfigurationError(f"the URL of the database must be {error}") from None
    hosts = random.sample(url.hosts, len(url.hosts)) if url.random else url.hosts
    if url.application_name:
        server_settings = {**server_settings, "application_name": url.application_name}
    options |= {"server_settings": {**server_settings}, "ssl": context}
    failure: Exception = ConnectionError("the URL contains no host")
    share = timeout / (len(hosts) * len(url.attributes))
    if url.connect_timeout:
        share = min(share, url.connect_timeout)
    for attribute in url.attributes:
        for host in hosts:
            try:
                # asyncpg's timeout does not cover DNS lookups.
                async with asyncio.timeout(share):
                    wanted = SessionAttribute(attribute) if attribute else None
                    return await asyncpg.connect(host, timeout=share, target_session_attrs=wanted, **options)
            except TargetServerAttributeNotMatched:
                # The message must not name one host, as the server itself works.
                failure = ConnectionError(f"no reachable server is {url.attributes[0]}")
            except _TRY_NEXT as error:
                failure = error
            except _PARAMETERS as error:
                raise ClientConfigurationError(f"the server rejects the options of its URL: {error}") from error
    raise failure
