"""How failed logins slow down those that follow: by user and source address, and by address alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import count

LOCAL = "local"
"""The address of those who come through a Unix socket."""

_FORGOTTEN_AFTER = 3600.0
_TRUSTED_FOR = 24 * 3600.0
_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow `free` failures, then make the next attempt wait 1 second, 2, 4, up to `longest`."""

    free: int
    longest: float


PAIR = Rule(free=5, longest=900)
"""For one user from one address."""

ADDRESS = Rule(free=50, longest=60)
"""For one address, behind which many may sit."""


class Throttle:
    """Count failures, in bounded memory.

    An attempt counts as failed from its beginning until it has succeeded, so that none slips through beside others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._pairs = _Failures(PAIR, most)
        self._addresses = _Failures(ADDRESS, most)
        self._trusted: dict[str, float] = {}
        # PostgreSQL tells what is said twice in one transaction only once.
        self._serial = count()

    def wait(self, username: str, address: str) -> float:
        """Return how many seconds `username` has to wait at `address`, 0 when it may try."""
        now, group = self._clock(), _group(address)
        return max(self._pairs.wait(_pair(username, group), now), self._addresses.wait(group, now))

    def trusts(self, address: str) -> bool:
        """Tell whether a login from there succeeded lately, with few failures since."""
        now, group = self._clock(), _group(address)
        return self._trusted.get(group, now) > now and self._addresses.within(group, now)

    def begin(self, username: str, address: str) -> None:
        """Count an attempt as failed."""
        now, group = self._clock(), _group(address)
        self._pairs.add(_pair(username, group), now)
        self._addresses.add(group, now)

    def undo(self, username: str, address: str) -> None:
        """Take an attempt back that came to no end."""
        group = _group(address)
        self._pairs.take_back(_pair(username, group))
        self._addresses.take_back(group)

    def succeed(self, username: str, address: str) -> str | None:
        """Forget the failures of `username` at `address`; return what other workers should `hear`, if it is news."""
        group = _group(address)
        pair, now = _pair(username, group), self._clock()
        self._addresses.take_back(group)
        # One failure is this very attempt's.
        news = self._pairs.count(pair) > 1 or self._trusted.get(group, 0) < now + _TRUSTED_FOR / 2
        self._clear(pair, group, now)
        return f"+ {pair} {group} {next(self._serial)}" if news else None

    def fail(self, username: str, address: str) -> str:
        """Return what other workers should `hear` of an attempt that failed."""
        group = _group(address)
        return f"- {_pair(username, group)} {group} {next(self._serial)}"

    def hear(self, news: str) -> None:
        """Count what another worker has seen; raises `ValueError` for what none of them says."""
        sign, pair, group, _ = news.split(" ")
        now = self._clock()
        if sign == "+":
            self._clear(pair, group, now)
        else:
            self._pairs.add(pair, now)
            self._addresses.add(group, now)

    def _clear(self, pair: str, group: str, now: float) -> None:
        self._pairs.forget(pair)
        self._trusted.pop(group, None)
        self._trusted[group] = now + _TRUSTED_FOR
        if len(self._trusted) > self._most:
            del self._trusted[next(iter(self._trusted))]


class _Failures:
    """Count failures by key: how many, and when the last was; those whose last is longest ago go first."""

    def __init__(self, rule: Rule, most: int) -> None:
        self._rule = rule
        self._most = most
        self._seen: dict[str, tuple[int, float]] = {}

    def count(self, key: str) -> int:
        return self._seen.get(key, (0, 0.0))[0]

    def within(self, key: str, now: float) -> bool:
        """Tell whether `key` has failures left that cost nothing."""
        count, last = self._seen.get(key, (0, now))
        return count < self._rule.free or now - last > _FORGOTTEN_AFTER

    def wait(self, key: str, now: float) -> float:
        if self.within(key, now):
            return 0.0
        count, last = self._seen[key]
        return max(0.0, last + min(2.0 ** min(count - self._rule.free, 30), self._rule.longest) - now)

    def add(self, key: str, now: float) -> None:
        count, last = self._seen.pop(key, (0, now))
        self._seen[key] = (1 if now - last > _FORGOTTEN_AFTER else count + 1, now)
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]

    def take_back(self, key: str) -> None:
        count, last = self._seen.get(key, (0, 0.0))
        if count > 1:
            self._seen[key] = (count - 1, last)
        else:
            self._seen.pop(key, None)

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


def source(remote: str | None, forwarded: Iterable[str], trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the address of the client: the last hop that is none of the `trusted` proxies.

    `forwarded` are the values of `X-Forwarded-For`. Whoever can add to them can only add at the beginning, so they
    are read from the end, and no further than trusted proxies vouch for.
    """
    address = _address(remote or "")
    if address is None:
        return LOCAL
    hops = [hop for value in forwarded for hop in value.split(",")]
    while hops and any(address in network for network in trusted):
        hop = _address(hops.pop())
        if hop is None:
            break
        address = hop
    return str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in `text`, in brackets or with a port as some proxies write it; None where there is none."""
    text = text.strip().removeprefix("[").partition("]")[0]
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _group(address: str) -> str:
    """Return `address`, of IPv6 the network of 64 bits, in which anyone has all addresses that they want."""
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], 64), strict=False))


def _pair(username: str, group: str) -> str:
    return blake2b(f"{group} {username}".encode(), digest_size=16).hexdigest()
