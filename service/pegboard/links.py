"""The variables that Kubernetes and Docker add to the environment of a container for services that it may use."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address

_PROTOCOL = "tcp|udp|sctp"
_URL = rf"({_PROTOCOL})://(?P<address>\[[0-9a-f:.]+\]|[0-9.]+):[0-9]{{1,5}}"
_ADDRESS = r"(?P<address>[0-9a-f:.]+)"
_NUMBER = r"[0-9]{1,5}"
_EXPOSED = rf"PORT_{_NUMBER}_({_PROTOCOL.upper()})"
_PORT = re.compile(_URL)
_CONTAINERS = r"/[^/\s]+/[^/\s]+"

_FORMS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (re.compile(rf"[A-Z0-9_]+_{name}"), re.compile(value))
    for name, value in (
        ("SERVICE_HOST", _ADDRESS),
        ("SERVICE_PORT(_[A-Z0-9_]+)?", _NUMBER),
        ("PORT", _URL),
        (f"{_EXPOSED}(_START|_END)?", _URL),
        (f"{_EXPOSED}_PROTO", _PROTOCOL),
        (f"{_EXPOSED}_PORT(_START|_END)?", _NUMBER),
        (f"{_EXPOSED}_ADDR", _ADDRESS),
        ("NAME", _CONTAINERS),
    )
)
"""Each form of a variable, and of its value; the last one is Docker's only."""


def names_in(environ: Mapping[str, str], prefix: str, settings: Collection[str] = ()) -> frozenset[str]:
    """Return the names that begin with `prefix` and, by name and value, are of Kubernetes or Docker.

    Of the names of `settings`, they are those with the address of a port, which no setting has: `tcp://10.0.0.1:80`.
    Docker also adds the other container's own variables, `NAME_ENV_*`, whatever their names and values.
    """
    named = {name: value for name, value in environ.items() if name.startswith(prefix)}
    found = {name for name, value in named.items() if _has_form(name, value)}
    containers = tuple(f"{name.removesuffix('NAME')}ENV_" for name in found if name.endswith("_NAME"))
    found |= {name for name in named if containers and name.startswith(containers)}
    return frozenset(name for name in found if name not in settings or _matches(_PORT, named[name]))


def _has_form(name: str, value: str) -> bool:
    return any(form.fullmatch(name) and _matches(values, value) for form, values in _FORMS)


def _matches(pattern: re.Pattern[str], value: str) -> bool:
    match = pattern.fullmatch(value)
    if match is None:
        return False
    address = match.groupdict().get("address")
    return address is None or _is_address(address.strip("[]"))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
