"""The URLs of databases: each option of libpq is honoured, ignored where that is safe, or refused."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache, partial
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

_FORM = "a URL like postgresql://user:password@host:5432/database"
_SYSTEM = "system"
_ATTRIBUTES = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_ENCRYPTING = ("require", "verify-ca", "verify-full")
_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

# asyncpg takes a session that we made read-only for one on a standby.
_ORDER: Mapping[str, tuple[str, ...]] = {"read-write": ("primary",), "prefer-standby": ("standby", "any")}

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer", "require"),
    "client_encoding": ("auto", "utf8", "utf-8", "unicode"),
    "gssencmode": ("disable", "prefer"),
    "gsslib": ("gssapi", "sspi"),
    "load_balance_hosts": ("disable", "random"),
    "min_protocol_version": ("3.0",),
    "ssl": ("true",),
    "ssl_max_protocol_version": _VERSIONS,
    "ssl_min_protocol_version": _VERSIONS,
    "sslcertmode": ("allow",),
    "sslmode": ("disable", "allow", "prefer", *_ENCRYPTING),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": _ATTRIBUTES,
}
_INTEGERS = (
    *("connect_timeout", "gssdelegation", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
    *("sslcompression", "sslsni", "tcp_user_timeout"),
)
_TEXTS = ("application_name", "fallback_application_name", "krbsrvname", "max_protocol_version", "options", "passfile")
_PLACES = ("database", "dbname", "host", "password", "port", "user")
_FILES = ("sslcert", "sslcrl", "sslkey", "sslrootcert")
_SECRETS = ("sslkeylogfile", "sslpassword")
_OF_ASYNCPG = frozenset(
    {*_PLACES, *_FILES, "gsslib", "krbsrvname", "options", "passfile", "ssl_max_protocol_version"}
    | {"ssl_min_protocol_version", "sslmode", "sslnegotiation", "sslpassword"}
)
"""The options that asyncpg handles; it would send any other one to the server as a parameter of the session."""
_KNOWN = (*_CHOICES, *_INTEGERS, *_TEXTS, *_PLACES, *_FILES, *_SECRETS)

_NOT_ENFORCED = "it cannot be enforced, so remove it"
_REFUSED: Mapping[str, str] = {
    "hostaddr": "write the address in place of the host",
    "pgbouncer": "remove it, and set PEGBOARD_DIRECT_DATABASE_URL",
    "replication": "remove it",
    "require_auth": _NOT_ENFORCED,
    "requirepeer": _NOT_ENFORCED,
    "service": "write what the service file contains into the URL",
    "servicefile": "write what the service file contains into the URL",
    "sslcrldir": "name one file with sslcrl",
}
_UNKNOWN = "remove it, or write a parameter of the server as options=-c%20NAME=VALUE"


class InvalidUrl(ValueError):
    """Describe the expected URL, in words that follow "must be"; they contain no secret."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Hold what a URL prescribes for connections.

    `hosts` are URLs for asyncpg, one for each host; those in the query, such as socket paths, are not separated.
    `attributes` are the session attributes to look for, in order of preference; None leaves them to asyncpg.
    `connect_timeout` is in seconds, for each host; 0 means no limit of its own. `files` are those that TLS uses; with
    `trusts_system`, they are for the `context`.
    """

    hosts: tuple[str, ...]
    attributes: tuple[str | None, ...]
    connect_timeout: int
    application_name: str
    random: bool
    trusts_system: bool
    files: TlsFiles

    @property
    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context that trusts the authorities of the system, if the URL wants it."""
        return _system_context(self.files) if self.trusts_system else None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Hold the paths of the PEM files for TLS, and the password of the key; they are empty if there are none."""

    sslrootcert: str = ""
    sslcrl: str = ""
    sslcert: str = ""
    sslkey: str = ""
    sslpassword: str = field(default="", repr=False)

    def load(self, context: ssl.SSLContext) -> None:
        """Load the files; raises `InvalidUrl` for one that cannot be used."""
        for name, path in (("sslrootcert", self.sslrootcert), ("sslcrl", self.sslcrl)):
            if path:
                _use(name, partial(context.load_verify_locations, path))
        if self.sslcert:
            _use("sslcert", partial(context.load_cert_chain, self.sslcert, self.sslkey or None, self._password))

    def _password(self) -> str:
        return self.sslpassword


def check(url: str) -> None:
    """Raise `InvalidUrl` for a URL that `parse` refuses, and for files that cannot be used."""
    parsed = parse(url)
    parsed.files.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def parse(url: str) -> DatabaseUrl:
    """Return what `url` prescribes, without a look at its files; raises `InvalidUrl` for what cannot be done."""
    parts = _split(url)
    options = _options(parts.query)
    trusts_system = options.get("sslrootcert") == _SYSTEM
    _check_tls(options, trusts_system=trusts_system)
    handled = _OF_ASYNCPG - {"sslmode", "sslrootcert"} if trusts_system else _OF_ASYNCPG
    query = urlencode({name: value for name, value in options.items() if name in handled})
    user, at, hosts = parts.netloc.rpartition("@")
    requested = options.get("target_session_attrs", "")
    several = "," in hosts
    files = {name: options.get(name, "") for name in TlsFiles.__dataclass_fields__}
    if trusts_system:
        files["sslrootcert"] = ""
    return DatabaseUrl(
        hosts=tuple(parts._replace(netloc=f"{user}{at}{host}", query=query).geturl() for host in hosts.split(",")),
        attributes=_ORDER.get(requested) or (requested or ("primary" if several else None),),
        connect_timeout=max(0, int(options.get("connect_timeout", "0"))),
        application_name=options.get("application_name", ""),
        random=options.get("load_balance_hosts") == "random",
        trusts_system=trusts_system,
        files=TlsFiles() if options.get("sslmode") == "disable" else TlsFiles(**files),
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        ports = [urlsplit(f"//{host}").port for host in hosts]
        for host in map(unquote, hosts):
            # A name that this refuses cannot be resolved; a path is that of a socket.
            host.startswith("/") or host.encode("idna")
        valid = parts.scheme in ("postgresql", "postgres") and 0 not in ports and (len(hosts) == 1 or all(hosts))
    except ValueError:
        valid = False
    # An unquoted `?` in the password would put a part of it into the query.
    misplaced = "@" in parts.query and "@" not in parts.netloc if valid else True
    if misplaced or not url.isprintable() or " " in url:
        raise InvalidUrl(_FORM)
    return parts


def _options(query: str) -> dict[str, str]:
    """Return the options that are set, the last of each name."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
    except ValueError:
        raise InvalidUrl(f"{_FORM}?NAME=VALUE&NAME=VALUE") from None
    for name, value in pairs:
        if name not in _KNOWN:
            raise InvalidUrl(_refusal(name))
        _check(name, value)
    options = {name: value for name, value in pairs if value}
    if options.pop("ssl", None):
        options.setdefault("sslmode", "require")
    return options


def _refusal(name: str) -> str:
    near = get_close_matches(name, _KNOWN, n=1)
    cure = _REFUSED.get(name) or (f"perhaps {near[0]} is meant" if near else _UNKNOWN)
    return f"a URL without the option {name[:60]!r}: {cure}"


def _check(name: str, value: str) -> None:
    if not value:
        return
    choices = _CHOICES.get(name)
    if choices is not None and (value.lower() if name == "client_encoding" else value) not in choices:
        raise InvalidUrl(
            f"a URL whose {name} is {'one of ' * (len(choices) > 1)}{', '.join(choices)}, not {value[:60]!r}"
        )
    if name in _INTEGERS and not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise InvalidUrl(f"a URL whose {name} is an integer, not {value[:60]!r}")
    if name == "port" and not all(re.fullmatch(r"[0-9]{1,5}", p) and 0 < int(p) < 65536 for p in value.split(",")):
        raise InvalidUrl(f"a URL whose port is an integer from 1 to 65535, not {value[:60]!r}")


def _check_tls(options: Mapping[str, str], *, trusts_system: bool) -> None:
    """Check the options of TLS together."""
    if trusts_system and options.get("sslmode", "verify-full") != "verify-full":
        raise InvalidUrl(f"a URL whose sslmode is verify-full, as sslrootcert is {_SYSTEM}")
    lowest, highest = (options.get(f"ssl_{bound}_protocol_version", "") for bound in ("min", "max"))
    if lowest > highest > "":
        raise InvalidUrl(f"a URL whose ssl_max_protocol_version is at least {lowest}, not {highest}")
    encrypts = trusts_system or options.get("sslmode") in _ENCRYPTING
    if options.get("sslnegotiation") == "direct" and not encrypts:
        raise InvalidUrl(f"a URL whose sslmode is one of {', '.join(_ENCRYPTING)}, as sslnegotiation is direct")


@lru_cache(maxsize=4)
def _system_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    files.load(context)
    if files.sslcrl:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


def _use(name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        of_key = ", with the key in sslkey" * (name == "sslcert")
        raise InvalidUrl(f"a URL whose {name} is a PEM file that can be read{of_key} ({reason})") from None
