"""Throttling of logins after failures: by user name and source address, and by address alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import count

LOCAL = "local"
"""The address of clients that connect through a Unix socket."""

_FORGOTTEN_AFTER = 3600.0
_TRUSTED_FOR = 24 * 3600.0
_MAX_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow `free` failures, then delay the next attempts by 1 second, 2, 4, and so on, up to `max_delay`."""

    free: int
    max_delay: float


PAIR = Rule(free=5, max_delay=900)
"""For one user name from one address."""

ADDRESS = Rule(free=50, max_delay=60)
"""For one address, which many clients may share."""


class Throttle:
    """Count failures, in bounded memory.

    An attempt counts as failed from its start until it succeeds, so that concurrent attempts do not bypass the limit.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = _MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._pairs = _Failures(PAIR, max_keys)
        self._addresses = _Failures(ADDRESS, max_keys)
        self._trusted: dict[str, float] = {}
        # Makes each message unique, as PostgreSQL drops duplicate notifications of one transaction.
        self._serial = count()

    def wait(self, username: str, address: str) -> float:
        """Return the delay in seconds before `username` may try again from `address`, or 0."""
        now, group = self._clock(), _group(address)
        return max(self._pairs.wait(_pair(username, group), now), self._addresses.wait(group, now))

    def trusts(self, address: str) -> bool:
        """Return whether a login from `address` succeeded recently, with few failures since."""
        now, group = self._clock(), _group(address)
        return self._trusted.get(group, now) > now and self._addresses.has_free(group, now)

    def begin(self, username: str, address: str) -> None:
        """Count an attempt as failed."""
        now, group = self._clock(), _group(address)
        self._pairs.add(_pair(username, group), now)
        self._addresses.add(group, now)

    def undo(self, username: str, address: str) -> None:
        """Remove an attempt that was not completed."""
        group = _group(address)
        self._pairs.remove(_pair(username, group))
        self._addresses.remove(group)

    def succeed(self, username: str, address: str) -> str | None:
        """Clear the failures of `username` at `address`; return the message for other workers, if they need one."""
        group = _group(address)
        pair, now = _pair(username, group), self._clock()
        self._addresses.remove(group)
        # One failure is this attempt itself.
        is_news = self._pairs.count(pair) > 1 or self._trusted.get(group, 0) < now + _TRUSTED_FOR / 2
        self._clear(pair, group, now)
        return f"+ {pair} {group} {next(self._serial)}" if is_news else None

    def fail(self, username: str, address: str) -> str:
        """Return the message to other workers about a failed attempt."""
        group = _group(address)
        return f"- {_pair(username, group)} {group} {next(self._serial)}"

    def receive(self, message: str) -> None:
        """Apply a message from another worker; raises `ValueError` for a malformed one."""
        sign, pair, group, _ = message.split(" ")
        now = self._clock()
        if sign == "+":
            self._clear(pair, group, now)
        else:
            self._pairs.add(pair, now)
            self._addresses.add(group, now)

    def _clear(self, pair: str, group: str, now: float) -> None:
        self._pairs.clear(pair)
        self._trusted.pop(group, None)
        self._trusted[group] = now + _TRUSTED_FOR
        if len(self._trusted) > self._max_keys:
            del self._trusted[next(iter(self._trusted))]


class _Failures:
    """Store the number of failures and the time of the last by key; the least recent keys are dropped first."""

    def __init__(self, rule: Rule, max_keys: int) -> None:
        self._rule = rule
        self._max_keys = max_keys
        self._seen: dict[str, tuple[int, float]] = {}

    def count(self, key: str) -> int:
        return self._seen.get(key, (0, 0.0))[0]

    def has_free(self, key: str, now: float) -> bool:
        """Return whether the next attempt of `key` is not delayed yet."""
        count, last = self._seen.get(key, (0, now))
        return count < self._rule.free or now - last > _FORGOTTEN_AFTER

    def wait(self, key: str, now: float) -> float:
        if self.has_free(key, now):
            return 0.0
        count, last = self._seen[key]
        return max(0.0, last + min(2.0 ** min(count - self._rule.free, 30), self._rule.max_delay) - now)

    def add(self, key: str, now: float) -> None:
        count, last = self._seen.pop(key, (0, now))
        self._seen[key] = (1 if now - last > _FORGOTTEN_AFTER else count + 1, now)
        if len(self._seen) > self._max_keys:
            del self._seen[next(iter(self._seen))]

    def remove(self, key: str) -> None:
        """Remove one failure."""
        count, last = self._seen.get(key, (0, 0.0))
        if count > 1:
            self._seen[key] = (count - 1, last)
        else:
            self._seen.pop(key, None)

    def clear(self, key: str) -> None:
        self._seen.pop(key, None)


def source(remote: str | None, forwarded: Iterable[str], trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the address of the client: the last hop that is not a `trusted` proxy.

    `forwarded` are the values of `X-Forwarded-For`. A client can forge only their beginning, so they are read from the
    end, as long as the hops are trusted proxies.
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
    """Return the address in `text`, which some proxies write in brackets or with a port, or None if it is invalid."""
    text = text.strip().removeprefix("[").partition("]")[0]
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _group(address: str) -> str:
    """Return an IPv4 address unchanged, and the /64 network of an IPv6 address, all of which one client can use."""
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], 64), strict=False))


def _pair(username: str, group: str) -> str:
    return blake2b(f"{group} {username}".encode(), digest_size=16).hexdigest()
