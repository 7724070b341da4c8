"""The parsers of the settings' values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Generic, TypeVar

from packaging.utils import canonicalize_name

from pegboard import database_urls
from pegboard.database_urls import InvalidUrl

V = TypeVar("V", int, float)
Network = IPv4Network | IPv6Network

MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 8, 1024
"""The lengths of a password in characters, after NFC."""

SIZE_UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Expected(ValueError):
    """Describe the expected value, in words that follow "must be"."""


def text(value: str) -> str:
    """Parse a value that is not empty and has no white space or control characters."""
    if not value or not value.isprintable() or " " in value:
        raise Expected("a name or an address without white space")
    return value


def path(value: str) -> Path:
    """Parse the path of a folder, relative to the working directory unless it is absolute."""
    if not value or "\0" in value:
        raise Expected("the path of a folder")
    return Path(value)


def password(value: str) -> str:
    """Parse a password as RFC 7617 allows it: without control characters, of a limited length after NFC."""
    has_length = MIN_PASSWORD_LENGTH <= len(unicodedata.normalize("NFC", value)) <= MAX_PASSWORD_LENGTH
    if not has_length or "Cc" in map(unicodedata.category, value):
        raise Expected(f"{MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters long, without control characters")
    return value


def database_url(value: str) -> str:
    """Parse the URL of a PostgreSQL database, on one host or on several, with options of libpq."""
    try:
        database_urls.check(value)
    except InvalidUrl as error:
        raise Expected(str(error)) from None
    return value


def path_prefix(value: str) -> str:
    """Parse the path under which a proxy serves the API; a slash at the end is removed."""
    prefix = value.rstrip("/")
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", prefix):
        raise Expected("a path like /api")
    return prefix


def names(value: str) -> tuple[str, ...]:
    """Parse the names of plugins, separated by commas, each once."""
    parsed = tuple(part.strip() for part in value.split(",")) if value else ()
    if len(set(parsed)) < len(parsed) or not all(re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) for name in parsed):
        raise Expected("names of plugins separated by commas, each once")
    return parsed


def mounts(value: str) -> tuple[tuple[str, str], ...]:
    """Parse `NAME=OTHER_NAME` or `DISTRIBUTION/NAME=OTHER_NAME`, separated by commas; each name once."""
    pairs = [tuple(side.strip() for side in part.split("=")) for part in value.split(",")] if value else []
    resource = r"[a-z0-9][a-z0-9_-]*"
    for pair in pairs:
        if len(pair) != 2 or not re.fullmatch(rf"([A-Za-z0-9._-]+/)?{resource}", pair[0]):
            break
        if not re.fullmatch(resource, pair[1]):
            break
    else:
        parsed = {_normalized(pair[0]): pair[1] for pair in pairs}
        if len(parsed) == len(pairs) == len(set(parsed.values())):
            return tuple(parsed.items())
    raise Expected("pairs such as contacts=people or my-distribution/contacts=people, separated by commas")


def _normalized(name: str) -> str:
    distribution, slash, resource = name.rpartition("/")
    return f"{canonicalize_name(distribution)}{slash}{resource}"


def networks(value: str) -> tuple[Network, ...]:
    """Parse addresses and networks, separated by commas."""
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",")) if value else ()
    except ValueError:
        raise Expected("addresses or networks separated by commas, like 10.0.0.0/8,::1") from None


def origins(value: str) -> tuple[str, ...]:
    """Parse `*`, or origins separated by commas; they are returned as browsers send them, without a default port."""
    parsed = tuple(_origin(part.strip()) for part in value.split(",")) if value and value != "*" else ()
    if not all(parsed):
        raise Expected("* or origins separated by commas, like https://app.example.com")
    return ("*",) if value == "*" else parsed


def _origin(text: str) -> str:
    """Return an origin (RFC 6454) as browsers send it, or "" for an invalid one."""
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", text.lower())
    if match is None:
        return ""
    scheme, host, port = match[1], match[2], match[3] or ""
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS.get(scheme) else port)


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser of one of `choices`, in upper or lower case."""

    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise Expected("one of " + ", ".join(choices))
        return value.lower()

    return parse


def boolean(value: str) -> bool:
    """Parse `true` or `false`, in upper or lower case."""
    return one_of("true", "false")(value) == "true"


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser of an integer between two bounds."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not lowest <= int(value) <= highest:
            raise Expected(f"an integer from {lowest} to {highest}")
        return int(value)

    return parse


def seconds(lowest: float, highest: float) -> Callable[[str], float]:
    """Return a parser of a number of seconds between two bounds."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", value) or not lowest <= float(value) <= highest:
            raise Expected(f"a number of seconds from {lowest:g} to {highest:g}")
        return float(value)

    return parse


def size(lowest: str, highest: str) -> Callable[[str], int]:
    """Return a parser of a number of bytes between two bounds, with an optional unit: `KiB`, `MiB` or `GiB`."""
    minimum, maximum = _bytes(lowest), _bytes(highest)

    def parse(value: str) -> int:
        if not minimum <= _bytes(value) <= maximum:
            raise Expected(f"a number of bytes from {lowest} to {highest}, like 65536 or 64KiB")
        return _bytes(value)

    return parse


def _bytes(value: str) -> int:
    """Return the number of bytes in `value`, or -1 if it is invalid."""
    match = re.fullmatch(r"([0-9]{1,15}) ?([A-Za-z]*)", value)
    unit = SIZE_UNITS.get(match[2].upper()) if match else None
    return int(match[1]) * unit if match and unit else -1


@dataclass(frozen=True, slots=True)
class PerPlugin(Generic[V]):
    """Hold a default value for all plugins, and the values of those that have their own."""

    default: V
    own: Mapping[str, V] = field(default_factory=dict)

    def of(self, plugin: str) -> V:
        """Return the value for a plugin."""
        return self.own.get(plugin, self.default)


def per_plugin(parse: Callable[[str], V]) -> Callable[[str], PerPlugin[V]]:
    """Return a parser of a default value, followed by values for single plugins: `30,reports=120`."""

    def read(value: str) -> PerPlugin[V]:
        default, *pairs = (part.strip() for part in value.split(","))
        overrides = [pair.partition("=") for pair in pairs]
        names = [name for name, _, _ in overrides]
        if len(set(names)) < len(names) or not all(re.fullmatch(r"[a-z][a-z0-9_-]*", name) for name in names):
            raise Expected("a value, then values for single plugins, each plugin once, like 30,reports=120")
        return PerPlugin(parse(default), {name: parse(own) for name, _, own in overrides})

    return read
