"""Basic authentication: credentials are verified once, cached for a while, and dropped when the client changes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from math import ceil
from time import monotonic
from typing import Any, NoReturn

import asyncpg
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from aiohttp_basicauth import BasicAuthMiddleware

from pegboard import errors
from pegboard.auth import clients, credentials, passwords, throttle
from pegboard.auth.clients import Client, Clients, Stored, quoted_username
from pegboard.auth.credentials import Malformed
from pegboard.auth.notifications import Notifications
from pegboard.auth.throttle import Throttle
from pegboard.errors import ApiError
from pegboard.http.request import STATE
from pegboard.postgres import database
from pegboard.settings import Settings

REALM = "pegboard"
OUTCOMES = ("remembered", "verified", "failed", "throttled", "malformed", "missing")
"""The outcomes of checking the credentials of a request."""

_LOGINS = "pegboard_login"
_RECHECK_AFTER = 0.8  # seconds for which a cached credential is valid while no notifications of changes arrive
_MAX_ENTRIES = 10_000
_DATABASE_ERRORS = (ApiError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)

log = logging.getLogger("pegboard.auth")


@dataclass(slots=True)
class CachedCredential:
    """Hold a verified credential: its client and the hash, when it expires, and when the client was last read."""

    client: Client
    password: str
    until: float
    checked: float


@dataclass(frozen=True, slots=True)
class Login:
    """Describe one login attempt; `digest` is a keyed digest of the `Authorization` header."""

    digest: bytes
    username: str
    password: str
    address: str
    request_id: str


class CredentialCache:
    """Cache credentials by a keyed digest, up to 10,000, until their client changes.

    `generation` increases with every change of a client, so that a check which began before it is not cached after it.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.entries: dict[bytes, CachedCredential] = {}
        self._digests: dict[str, set[bytes]] = {}

    def put(self, digest: bytes, entry: CachedCredential) -> None:
        """Add `entry`, and drop those that have expired."""
        self.drop(digest)
        self.entries[digest] = entry
        self._digests.setdefault(entry.client.id, set()).add(digest)
        # The oldest come first, and all have the same lifetime.
        oldest = next(iter(self.entries))
        while len(self.entries) > _MAX_ENTRIES or self.entries[oldest].until < entry.checked:
            self.drop(oldest)
            oldest = next(iter(self.entries))

    def drop(self, digest: bytes) -> None:
        """Drop one credential."""
        entry = self.entries.pop(digest, None)
        if entry is not None:
            digests = self._digests[entry.client.id]
            digests.discard(digest)
            if not digests:
                del self._digests[entry.client.id]

    def evict(self, client_id: str) -> None:
        """Drop all credentials of a client."""
        self.generation += 1
        for digest in self._digests.pop(client_id, ()):
            del self.entries[digest]


class Authentication(BasicAuthMiddleware):
    """Authenticate requests, as a middleware, and set the client in the state of the request.

    Public endpoints require no credentials. `open` and `close` start and stop listening for changes of clients; while
    nothing arrives, cached credentials are checked again about every second. While the database is unavailable, they
    are valid until they expire. `outcomes` counts the results. Raises `ApiError`: 401, 429 with `Retry-After`, and 503
    if credentials cannot be checked.
    """

    def __init__(self, store: Clients, settings: Settings) -> None:
        super().__init__(realm=REALM)
        self._store = store
        self._settings = settings
        self._keyed = blake2b(key=secrets.token_bytes(64), digest_size=16)
        self._cache = CredentialCache()
        self._entries = self._cache.entries
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self._throttle = Throttle()
        # Credentials that were verified here before are never throttled: only their owner can send them.
        self._proven: dict[bytes, None] = {}
        self._checks: dict[bytes, asyncio.Task[Client | None]] = {}
        self._notifications = Notifications({clients.CHANNEL: self._cache.evict, _LOGINS: self._throttle.receive})
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start listening for changes, unless already started."""
        if self._listening is None:
            listening = self._notifications.run(self._settings.direct_url)
            self._listening = asyncio.get_running_loop().create_task(listening)

    async def close(self) -> None:
        """Stop listening, and cancel running checks."""
        tasks = [task for task in (self._listening, *self._checks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def cached_credentials(self) -> int:
        """Return the number of cached credentials."""
        return len(self._entries)

    def __call__(  # type: ignore[override]  # no coroutine is needed for a cached credential
        self, request: web.Request, handler: Handler
    ) -> Awaitable[web.StreamResponse]:
        """Pass a request with a cached credential to the handler; check the credentials of others first."""
        state = request[STATE]
        values = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(values) == 1:
            entry = self._entries.get(self._digest(values[0]))
            if entry is not None:
                now, notifications = monotonic(), self._notifications
                current = now < notifications.until and entry.checked >= notifications.since
                if now < entry.until and (current or now < entry.checked + _RECHECK_AFTER):
                    state.client = entry.client
                    self.outcomes["remembered"] += 1
                    return handler(request)
        if state.path.access(request.method).public:
            if state.path.bulkhead is None:
                return handler(request)
            # Only if there are none: wrong or malformed credentials are rejected here, too.
            if not values:
                state.client = clients.ANONYMOUS
                return handler(request)
        return super().__call__(request, handler)

    def parse_auth_header(self, request: Any) -> Any:
        """Return the credential of a request; raise `ApiError` 401 if it is missing or malformed."""
        try:
            credential = credentials.parse(request.headers.getall(hdrs.AUTHORIZATION, ()))
        except Malformed as error:
            self.outcomes["malformed"] += 1
            log.warning("login malformed: address=%s request=%s %s", self._source(request), request[STATE].id, error)
            raise self._refusal(errors.NotAuthenticated, str(error), "Authorization") from None
        if credential is None:
            self.outcomes["missing"] += 1
            raise self._refusal(errors.NotAuthenticated)
        return credential

    async def check_credentials(self, username: str | None, password: str | None, request: Any) -> bool:
        """Return whether a credential is correct, and set the client; concurrent equal ones are checked once."""
        digest = self._digest(request.headers[hdrs.AUTHORIZATION])
        check = self._checks.get(digest)
        if check is None:
            login = Login(digest, username or "", password or "", self._source(request), request[STATE].id)
            check = asyncio.get_running_loop().create_task(self._log_in(login))
            self._checks[digest] = check
            check.add_done_callback(partial(self._checked, digest))
        client = await asyncio.shield(check)
        if client is None:
            return False
        request[STATE].client = client
        return True

    def challenge(self) -> NoReturn:
        """Raise `ApiError` 401, the same for an unknown user, a wrong password and an inactive client."""
        raise self._refusal(errors.WrongCredentials)

    def _refusal(self, kind: type[ApiError], message: str | None = None, header: str | None = None) -> ApiError:
        challenge = {"WWW-Authenticate": f'Basic realm="{self.realm}", charset="UTF-8"'}
        return kind(message, header=header, headers=challenge)

    def _digest(self, value: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(value.encode("utf-8", "surrogateescape"))
        return keyed.digest()

    def _source(self, request: web.Request) -> str:
        forwarded = request.headers.getall("X-Forwarded-For", ())
        return throttle.source(request.remote, forwarded, self._settings.trusted_proxies)

    def _checked(self, digest: bytes, check: asyncio.Task[Client | None]) -> None:
        del self._checks[digest]
        if not check.cancelled():
            check.exception()  # Retrieved here, because all requests that awaited it may have been cancelled.

    async def _log_in(self, login: Login) -> Client | None:
        """Return the client for a correct credential, or None for a wrong one."""
        entry = self._entries.get(login.digest)
        if entry is not None and monotonic() < entry.until:
            client = await self._recheck(login.digest, entry)
            if client is not None:
                self.outcomes["remembered"] += 1
                return client
        proven = login.digest in self._proven
        wait = 0.0 if proven else self._throttle.wait(login.username, login.address)
        if wait:
            self._log("throttled", login)
            raise errors.TooManyRequests(headers={"Retry-After": str(ceil(wait))})
        priority = proven or self._throttle.trusts(login.address)
        self._throttle.begin(login.username, login.address)
        try:
            client = await self._verify(login, priority)
        except BaseException as error:
            self._throttle.undo(login.username, login.address)
            if isinstance(error, errors.TooManyRequests):
                self._log("throttled", login)
            raise
        self._record(login, client)
        return client

    async def _recheck(self, digest: bytes, entry: CachedCredential) -> Client | None:
        """Return the current client of a cached credential; if that is no longer valid, drop it and return None."""
        now = monotonic()
        try:
            stored = await self._store.read(entry.client.username)
        except _DATABASE_ERRORS as error:
            translated = error if isinstance(error, ApiError) else database.translate(error)
            if not isinstance(translated, errors.DatabaseUnavailable):
                raise
            entry.checked = now
            return entry.client
        if stored is None or not stored.client.active or stored.password != entry.password:
            self._cache.drop(digest)
            return None
        entry.client, entry.checked = stored.client, now
        return stored.client

    async def _verify(self, login: Login, priority: bool) -> Client | None:
        try:
            prepared = passwords.prepare(login.password)
            clients.check_username(login.username)
        except ApiError:
            return None  # No client can have such a name or such a password.
        generation, checked = self._cache.generation, monotonic()
        stored = await self._store.read(login.username)
        correct = await self._store.passwords.verify(stored.password if stored else None, prepared, priority=priority)
        if stored is None or not correct or not stored.client.active:
            return None
        if self._cache.generation == generation:
            until = checked + self._settings.remember_seconds
            self._cache.put(login.digest, CachedCredential(stored.client, stored.password, until, checked))
        if self._store.passwords.outdated(stored.password):
            await self._rehash(stored, prepared)
        return stored.client

    async def _rehash(self, stored: Stored, password: bytes) -> None:
        try:
            await self._store.rehash(stored, password)
        except _DATABASE_ERRORS as error:
            log.info("a password could not be rehashed: %s", type(error).__name__)

    def _record(self, login: Login, client: Client | None) -> None:
        """Count a success or a failure, in this worker and in the others."""
        self._proven.pop(login.digest, None)
        if client is None:
            self._log("failed", login)
            self._notifications.send(_LOGINS, self._throttle.fail(login.username, login.address))
            return
        self.outcomes["verified"] += 1
        self._proven[login.digest] = None
        if len(self._proven) > _MAX_ENTRIES:
            del self._proven[next(iter(self._proven))]
        message = self._throttle.succeed(login.username, login.address)
        if message is not None:
            self._notifications.send(_LOGINS, message)

    def _log(self, outcome: str, login: Login) -> None:
        self.outcomes[outcome] += 1
        name = quoted_username(login.username)
        log.warning("login %s: user=%s address=%s request=%s", outcome, name, login.address, login.request_id)
