"""Passwords: the rules for them, and their argon2id hashes, computed and verified on a few threads."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import unicodedata
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError

from pegboard import errors
from pegboard.values import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH

T = TypeVar("T")

_MAX_DECOMPOSED = 4 * MAX_PASSWORD_LENGTH  # NFC composes at most four characters into one

log = logging.getLogger("pegboard.auth")


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold the cost parameters of a hash: memory in KiB, and passes. The defaults are OWASP's minimum."""

    memory: int = 19 * 1024
    passes: int = 2


class Hash(str):
    """Mark a string as the hash of a password, so that it is not hashed again."""

    __slots__ = ()


def prepare(password: str, pointer: str | None = None) -> bytes:
    """Return the bytes to hash, the NFC form in UTF-8; raises `ApiError` 422 for an invalid password.

    Control characters cannot be sent in Basic authentication (RFC 7617 §2).
    """
    text = unicodedata.normalize("NFC", password[: _MAX_DECOMPOSED + 1])
    if len(text) < MIN_PASSWORD_LENGTH:
        raise errors.TooShort(f"A password must have at least {MIN_PASSWORD_LENGTH} characters.", pointer)
    if len(text) > MAX_PASSWORD_LENGTH:
        raise errors.TooLong(f"A password can have at most {MAX_PASSWORD_LENGTH:,} characters.", pointer)
    if not {"Cc", "Cs"}.isdisjoint(map(unicodedata.category, text)):
        raise errors.InvalidCharacters("A password cannot have control characters or lone surrogates.", pointer)
    return text.encode()


class Passwords:
    """Compute and verify hashes without blocking the event loop.

    At most `threads` run at once, each with the memory of one hash, and at most `waiting` wait for a thread, with and
    without priority each; further calls are refused (429). `running`, `waiting` and `refused` count them.
    """

    def __init__(self, cost: Cost | None = None, *, threads: int | None = None, waiting: int = 32) -> None:
        cost = cost or Cost()
        threads = threads or max(1, min(4, (os.cpu_count() or 2) // 2))
        self._hasher = PasswordHasher(cost.passes, cost.memory, parallelism=1)
        self._dummy_hash = self._hasher.hash(secrets.token_bytes(32))
        self._threads = ThreadPoolExecutor(threads, "passwords")
        self._semaphore = _Semaphore(threads, waiting)

    @property
    def running(self) -> int:
        """Return the number of passwords being hashed or verified."""
        return self._semaphore.acquired

    @property
    def waiting(self) -> int:
        """Return the number of calls waiting for a thread."""
        return self._semaphore.waiting

    @property
    def refused(self) -> int:
        """Return the number of calls refused because too many were waiting."""
        return self._semaphore.refused

    async def hash(self, password: bytes) -> Hash:
        """Return the hash of a prepared password, including its parameters and salt."""
        return Hash(await self._run(lambda: self._hasher.hash(password), priority=True))

    async def verify(self, stored: str | None, password: bytes, *, priority: bool = False) -> bool:
        """Return whether `stored` is the hash of `password`; if it is None, this takes as long and returns False.

        Calls with `priority` come before those without. Raises `ApiError` 429 if too many are waiting.
        """
        correct = await self._run(lambda: self._matches(stored or self._dummy_hash, password), priority=priority)
        return correct and stored is not None

    def outdated(self, stored: str) -> bool:
        """Return whether `stored` was computed with other cost parameters than the current ones."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return False
        except (Argon2Error, InvalidHashError) as error:
            log.error("a stored password cannot be verified: %s", type(error).__name__)
            return False

    async def _run(self, work: Callable[[], T], *, priority: bool) -> T:
        await self._semaphore.acquire(priority=priority)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._semaphore.release()


class _Semaphore:
    """Limit concurrency: first come, first served, those with priority before the others."""

    def __init__(self, free: int, max_waiting: int) -> None:
        self.acquired = 0
        self.refused = 0
        self._free = free
        self._max_waiting = max_waiting
        self._priority: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._priority) + len(self._others)

    async def acquire(self, *, priority: bool) -> None:
        """Wait until one is free; raise `ApiError` 429 if too many are waiting."""
        if self._free:
            self._free -= 1
            self.acquired += 1
            return
        queue = self._priority if priority else self._others
        if len(queue) >= self._max_waiting:
            self.refused += 1
            raise errors.TooManyRequests(headers={"Retry-After": "1"})
        waiter = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                queue.remove(waiter)
            else:
                self.release()
            raise

    def release(self) -> None:
        for queue in (self._priority, self._others):
            while queue:
                waiter = queue.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return
        self._free += 1
        self.acquired -= 1
