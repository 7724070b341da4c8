"""Basic authentication of every request: credentials verified once, remembered for a while, forgotten on a change."""

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
from pegboard.auth.clients import Client, Clients, Stored, shown
from pegboard.auth.credentials import Malformed
from pegboard.auth.notifications import Notices
from pegboard.auth.throttle import Throttle
from pegboard.errors import ApiError
from pegboard.http.request import STATE
from pegboard.postgres import database
from pegboard.settings import Settings

REALM = "pegboard"
OUTCOMES = ("remembered", "verified", "failed", "throttled", "malformed", "missing")
"""What may become of the credentials of a request."""

_LOGINS = "pegboard_login"
_UNHEARD = 0.8  # seconds that a remembered credential is good for while nothing is heard of changes
_MOST = 10_000
_DATABASE_ERRORS = (ApiError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)

log = logging.getLogger("pegboard.auth")


@dataclass(slots=True)
class Remembered:
    """Hold a credential that was verified: whose it is, against which hash, until when, and when that was last read."""

    client: Client
    password: str
    until: float
    checked: float


@dataclass(frozen=True, slots=True)
class Login:
    """Hold what one attempt to log in is about; `digest` stands for the header as it was sent."""

    digest: bytes
    username: str
    password: str
    address: str
    request_id: str


class Memory:
    """Remember credentials by a keyed digest, at most so many, those of a client that has changed no longer.

    `generation` grows with everything forgotten, so that a check which began before that is not remembered after it.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.generation = 0
        self.entries: dict[bytes, Remembered] = {}
        self._digests: dict[str, set[bytes]] = {}
        self._most = most

    def put(self, digest: bytes, entry: Remembered) -> None:
        """Remember `entry`, and drop those that are over."""
        self.drop(digest)
        self.entries[digest] = entry
        self._digests.setdefault(entry.client.id, set()).add(digest)
        # The oldest come first, and all live equally long.
        oldest = next(iter(self.entries))
        while len(self.entries) > self._most or self.entries[oldest].until < entry.checked:
            self.drop(oldest)
            oldest = next(iter(self.entries))

    def drop(self, digest: bytes) -> None:
        """Forget one credential."""
        entry = self.entries.pop(digest, None)
        if entry is not None:
            digests = self._digests[entry.client.id]
            digests.discard(digest)
            if not digests:
                del self._digests[entry.client.id]

    def forget(self, client_id: str) -> None:
        """Forget all credentials of a client."""
        self.generation += 1
        for digest in self._digests.pop(client_id, ()):
            del self.entries[digest]


class Authentication(BasicAuthMiddleware):
    """Let in those whose credentials are right, as a middleware, and note whose they are in the state of the request.

    What the path that the request goes to says is public needs none. `open` and `close` begin and end the hearing of
    changes, without which a remembered credential is looked up again about every second. While the database is away,
    what is remembered is good to its end. `outcomes` counts what became of credentials. Raises `ApiError`: 401, 429
    with `Retry-After`, and 503 when it cannot be told who somebody is.
    """

    def __init__(self, store: Clients, settings: Settings) -> None:
        super().__init__(realm=REALM)
        self._store = store
        self._settings = settings
        self._keyed = blake2b(key=secrets.token_bytes(64), digest_size=16)
        self._memory = Memory()
        self._entries = self._memory.entries
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self._throttle = Throttle()
        # Credentials that were right here once wait for no failures, whoever's: nobody else can send them.
        self._proven: dict[bytes, None] = {}
        self._checks: dict[bytes, asyncio.Task[Client | None]] = {}
        self._notices = Notices({clients.CHANNEL: self._memory.forget, _LOGINS: self._throttle.hear})
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to listen, unless that is done already."""
        if self._listening is None:
            listening = self._notices.run(self._settings.direct_url)
            self._listening = asyncio.get_running_loop().create_task(listening)

    async def close(self) -> None:
        """Stop listening, and break off what is being checked."""
        tasks = [task for task in (self._listening, *self._checks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def remembered(self) -> int:
        """Return how many credentials are remembered."""
        return len(self._entries)

    def __call__(  # type: ignore[override]  # no coroutine is needed where the credential is remembered
        self, request: web.Request, handler: Handler
    ) -> Awaitable[web.StreamResponse]:
        """Pass a request with a remembered credential on at once; check that of any other."""
        state = request[STATE]
        values = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(values) == 1:
            entry = self._entries.get(self._digest(values[0]))
            if entry is not None:
                now, notices = monotonic(), self._notices
                heard = now < notices.until and entry.checked >= notices.since
                if now < entry.until and (heard or now < entry.checked + _UNHEARD):
                    state.client = entry.client
                    self.outcomes["remembered"] += 1
                    return handler(request)
        if state.path.access(request.method).public:
            if state.path.bulkhead is None:
                return handler(request)
            # Nothing but their absence: credentials that are wrong or malformed are refused here, too.
            if not values:
                state.client = clients.ANONYMOUS
                return handler(request)
        return super().__call__(request, handler)

    def parse_auth_header(self, request: Any) -> Any:
        """Return the credential that a request carries; raise `ApiError` 401 where it has none, or a malformed one."""
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
        """Tell whether a credential is right, and set the client; equal ones that come together are checked once."""
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
        """Raise `ApiError` 401: the same for an unknown user, a wrong password and a client that is not active."""
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
            check.exception()  # Looked at here, since all who waited for it may be gone.

    async def _log_in(self, login: Login) -> Client | None:
        """Return the client of a right credential, None for a wrong one."""
        entry = self._entries.get(login.digest)
        if entry is not None and monotonic() < entry.until:
            client = await self._look_up(login.digest, entry)
            if client is not None:
                self.outcomes["remembered"] += 1
                return client
        proven = login.digest in self._proven
        wait = 0.0 if proven else self._throttle.wait(login.username, login.address)
        if wait:
            self._log("throttled", login)
            raise errors.TooManyRequests(headers={"Retry-After": str(ceil(wait))})
        first = proven or self._throttle.trusts(login.address)
        self._throttle.begin(login.username, login.address)
        try:
            client = await self._verify(login, first)
        except BaseException as error:
            self._throttle.undo(login.username, login.address)
            if isinstance(error, errors.TooManyRequests):
                self._log("throttled", login)
            raise
        self._take_note(login, client)
        return client

    async def _look_up(self, digest: bytes, entry: Remembered) -> Client | None:
        """Return the client of a remembered credential as it is now; None, and forget it, if that has changed."""
        now = monotonic()
        try:
            stored = await self._store.read(entry.client.username)
        except _DATABASE_ERRORS as error:
            known = error if isinstance(error, ApiError) else database.translate(error)
            if not isinstance(known, errors.DatabaseUnavailable):
                raise
            entry.checked = now
            return entry.client
        if stored is None or not stored.client.active or stored.password != entry.password:
            self._memory.drop(digest)
            return None
        entry.client, entry.checked = stored.client, now
        return stored.client

    async def _verify(self, login: Login, first: bool) -> Client | None:
        try:
            prepared = passwords.prepare(login.password)
            clients.check_username(login.username)
        except ApiError:
            return None  # Nobody can have such a name or such a password.
        generation, checked = self._memory.generation, monotonic()
        stored = await self._store.read(login.username)
        right = await self._store.passwords.verify(stored.password if stored else None, prepared, first=first)
        if stored is None or not right or not stored.client.active:
            return None
        if self._memory.generation == generation:
            until = checked + self._settings.remember_seconds
            self._memory.put(login.digest, Remembered(stored.client, stored.password, until, checked))
        if self._store.passwords.outdated(stored.password):
            await self._renew(stored, prepared)
        return stored.client

    async def _renew(self, stored: Stored, password: bytes) -> None:
        try:
            await self._store.renew(stored, password)
        except _DATABASE_ERRORS as error:
            log.info("a password could not be rehashed: %s", type(error).__name__)

    def _take_note(self, login: Login, client: Client | None) -> None:
        """Count a success or a failure, here and in the other workers."""
        self._proven.pop(login.digest, None)
        if client is None:
            self._log("failed", login)
            self._notices.say(_LOGINS, self._throttle.fail(login.username, login.address))
            return
        self.outcomes["verified"] += 1
        self._proven[login.digest] = None
        if len(self._proven) > _MOST:
            del self._proven[next(iter(self._proven))]
        news = self._throttle.succeed(login.username, login.address)
        if news is not None:
            self._notices.say(_LOGINS, news)

    def _log(self, what: str, login: Login) -> None:
        self.outcomes[what] += 1
        name = shown(login.username)
        log.warning("login %s: user=%s address=%s request=%s", what, name, login.address, login.request_id)
