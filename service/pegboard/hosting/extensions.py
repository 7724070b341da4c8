"""The operator's middlewares: entry points of the group `pegboard.middlewares`, selected by a setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint
from typing import Any

from aiohttp.typedefs import Middleware

from pegboard.hosting import discovery, startup_guard
from pegboard.settings import SettingsError

GROUP = "pegboard.middlewares"

_VARIABLE = "PEGBOARD_MIDDLEWARES"


def middlewares(names: Sequence[str]) -> Iterator[Middleware]:
    """Yield the middlewares of these names, in this order.

    Raises `SettingsError` for one that is not installed, cannot be imported or is not a middleware.
    """
    points = {point.name: point for point in discovery.installed(GROUP)} if names else {}
    for name in names:
        yield _load(name, points)


def check(names: Sequence[str]) -> None:
    """Raise `SettingsError` if `middlewares` would."""
    for _ in middlewares(names):
        pass


def _load(name: str, points: dict[str, EntryPoint]) -> Middleware:
    point = points.get(name)
    if point is None:
        near = get_close_matches(name, points, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{_VARIABLE} names {name}, which no installed package has in {GROUP}.{hint}")
    try:
        found: Any = point.load()
    except BaseException as error:
        if startup_guard.is_stop_request(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"{_VARIABLE}: {point.value} cannot be imported: {reason}.") from error
    # Set by the decorator `aiohttp.web.middleware`.
    if not callable(found) or getattr(found, "__middleware_version__", None) != 1:
        raise SettingsError(f"{_VARIABLE}: {point.value} is not a middleware: write @aiohttp.web.middleware above it.")
    middleware: Middleware = found
    return middleware
