"""Which passwords are taken, and their argon2id hashes, made and checked on few threads."""

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

T = TypeVar("T")

SHORTEST, LONGEST = 8, 1024
_LONGEST_DECOMPOSED = 4 * LONGEST  # NFC makes one character of at most four

log = logging.getLogger("pegboard.auth")


@dataclass(frozen=True, slots=True)
class Cost:
    """Say what one hash costs: memory in KiB, passes over it, lanes. What OWASP asks at least is the default."""

    memory: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


class Hash(str):
    """Be the hash of a password, which needs no more hashing."""

    __slots__ = ()


def prepare(password: str, pointer: str | None = None) -> bytes:
    """Return what is hashed: the NFC form in UTF-8; raise `ApiError` 422 for a password that is not taken.

    Control characters cannot be sent in Basic authentication (RFC 7617 §2).
    """
    text = unicodedata.normalize("NFC", password[: _LONGEST_DECOMPOSED + 1])
    if len(text) < SHORTEST:
        raise errors.TooShort(f"A password must have at least {SHORTEST} characters.", pointer)
    if len(text) > LONGEST:
        raise errors.TooLong(f"A password can have at most {LONGEST:,} characters.", pointer)
    if not {"Cc", "Cs"}.isdisjoint(map(unicodedata.category, text)):
        raise errors.InvalidCharacters("A password cannot have control characters or lone surrogates.", pointer)
    return text.encode()


class Passwords:
    """Make and check hashes without holding up the event loop.

    At most `threads` run at once, each with the memory of one hash, and at most `waiting` of each rank wait for their
    turn; one more is told to come back (429). `running`, `waiting` and `refused` say how many.
    """

    def __init__(self, cost: Cost | None = None, *, threads: int | None = None, waiting: int = 32) -> None:
        cost = cost or Cost()
        threads = threads or max(1, min(4, (os.cpu_count() or 2) // 2))
        self._hasher = PasswordHasher(cost.passes, cost.memory, cost.lanes)
        self._nobody = self._hasher.hash(secrets.token_bytes(32))
        self._threads = ThreadPoolExecutor(threads, "passwords")
        self._turns = _Turns(threads, waiting)

    @property
    def running(self) -> int:
        """Return how many are being hashed or checked."""
        return self._turns.taken

    @property
    def waiting(self) -> int:
        """Return how many wait for their turn."""
        return self._turns.waiting

    @property
    def refused(self) -> int:
        """Return how many were told to come back since too many waited."""
        return self._turns.refused

    async def hash(self, password: bytes) -> Hash:
        """Return the hash of a prepared password, its parameters and salt included."""
        return Hash(await self._run(lambda: self._hasher.hash(password), first=True))

    async def verify(self, stored: str | None, password: bytes, *, first: bool = False) -> bool:
        """Tell whether `stored` is the hash of `password`; None, where there is none, takes as long and is False.

        `first` comes before those without it. Raises `ApiError` 429 when too many wait.
        """
        right = await self._run(lambda: self._matches(stored or self._nobody, password), first=first)
        return right and stored is not None

    def outdated(self, stored: str) -> bool:
        """Tell whether `stored` was made at another cost than is asked now."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return False
        except (Argon2Error, InvalidHashError) as error:
            log.error("a stored password cannot be verified: %s", type(error).__name__)
            return False

    async def _run(self, work: Callable[[], T], *, first: bool) -> T:
        await self._turns.take(first=first)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._turns.give()


class _Turns:
    """Count the turns that are free, and hand each that ends to whoever waits longest, the first rank first."""

    def __init__(self, free: int, waiting: int) -> None:
        self.taken = 0
        self.refused = 0
        self._free = free
        self._most = waiting
        self._first: deque[asyncio.Future[None]] = deque()
        self._rest: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._first) + len(self._rest)

    async def take(self, *, first: bool) -> None:
        """Wait for a turn; raise `ApiError` 429 when too many do."""
        if self._free:
            self._free -= 1
            self.taken += 1
            return
        queue = self._first if first else self._rest
        if len(queue) >= self._most:
            self.refused += 1
            raise errors.TooManyRequests(headers={"Retry-After": "1"})
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                queue.remove(turn)
            else:
                self.give()
            raise

    def give(self) -> None:
        """Hand a turn on."""
        for queue in (self._first, self._rest):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
        self.taken -= 1
