"""Clients: their grants, and how they are stored."""

from __future__ import annotations

import logging
import random
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import asyncpg

from pegboard import errors
from pegboard.auth import passwords
from pegboard.auth.passwords import Passwords
from pegboard.uuid7 import uuid7

if TYPE_CHECKING:
    from pegboard.postgres.connections import Connections

EVERYTHING = "*:*"
ADMINISTRATOR = "admin"
MAX_NAME_LENGTH = 200
CHANNEL = "pegboard_client"
"""The channel on which the database sends the id of each changed or deleted client."""

_VERB = "GET|POST|PUT|PATCH|DELETE"
_NAME = r"[a-z][a-z0-9_-]{0,39}"
_GRANT = re.compile(rf"\*:(\*|{_VERB})|{_NAME}:(\*|{_VERB}|{_NAME})", re.ASCII)
_GRANT_FORM = "A grant looks like contacts:GET, contacts:archive, contacts:*, *:GET or *:*; GET includes HEAD."

_COLUMNS = "id::text AS id, username, grants, active"
_LIST = f"SELECT {_COLUMNS} FROM pegboard.client ORDER BY username"
_READ = f"SELECT {_COLUMNS}, password FROM pegboard.client WHERE username = $1"
_ADD = f"""
INSERT INTO pegboard.client (id, username, password, grants, "_version") VALUES ($1, $2, $3, $4, $5)
RETURNING {_COLUMNS}"""
_REMOVE = f"DELETE FROM pegboard.client WHERE username = $1 RETURNING {_COLUMNS}"
_REHASH = "UPDATE pegboard.client SET password = $2 WHERE id = $1 AND password = $3 RETURNING id"
_ANY = "SELECT EXISTS (SELECT FROM pegboard.client)"
# Of concurrent processes, one inserts the row; the others wait for it and then have a conflict.
_FIRST = f"""
INSERT INTO pegboard.client (id, username, password, grants, "_version")
SELECT $1::uuid, '{ADMINISTRATOR}', $2, ARRAY['{EVERYTHING}'], $3::bigint
WHERE NOT EXISTS (SELECT FROM pegboard.client)
ON CONFLICT (username) DO NOTHING RETURNING id"""

log = logging.getLogger("pegboard.auth")


@dataclass(frozen=True, slots=True)
class Client:
    """Represent a client of the service; `sufficient_grants` returns the grants that allow an action."""

    id: str
    username: str
    grants: frozenset[str]
    active: bool = True

    def holds(self, grant: str) -> bool:
        """Return whether the client holds `grant`, directly or through a wildcard."""
        return not self.grants.isdisjoint(sufficient_grants(*grant.split(":", 1)))


ANONYMOUS = Client("00000000-0000-0000-0000-000000000000", "", frozenset())
"""The client of public requests without credentials; no other client can have this name, and it holds no grants."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold a client and the hash of its password."""

    client: Client
    password: str


def sufficient_grants(resource: str, action: str) -> frozenset[str]:
    """Return the grants of which any one allows a verb or an operation of `resource`; GET includes HEAD."""
    action = "GET" if action == "HEAD" else action
    grants = {f"{resource}:{action}", f"{resource}:*", EVERYTHING}
    return frozenset(grants | {f"*:{action}"} if action.isupper() else grants)


def parse_grants(grants: Sequence[object]) -> tuple[str, ...]:
    """Return `grants` sorted and without duplicates; raise `ApiError` 422 with a pointer to every malformed one.

    The resource or operation need not exist. There is no grant for HEAD, which GET includes, nor for OPTIONS, which
    requires none.
    """
    errors.gather(*(partial(check_grant, grant, f"/grants/{index}") for index, grant in enumerate(grants)))
    return tuple(sorted({str(grant) for grant in grants}))


def check_grant(grant: object, pointer: str | None = None) -> None:
    """Raise `ApiError` 422 for a malformed grant; this can be used as a field validator."""
    if not isinstance(grant, str) or not _GRANT.fullmatch(grant):
        raise errors.InvalidValue(_GRANT_FORM, pointer)


def check_username(username: str, pointer: str = "/username") -> None:
    """Raise `ApiError` 422 for an invalid user name; this can be used as a field validator."""
    if not username:
        raise errors.TooShort("A user name must have at least 1 character.", pointer)
    if len(username) > MAX_NAME_LENGTH:
        raise errors.TooLong(f"A user name can have at most {MAX_NAME_LENGTH} characters.", pointer)
    if ":" in username or not {"Cc", "Cs"}.isdisjoint(map(unicodedata.category, username)):
        raise errors.InvalidCharacters("A user name cannot contain a colon or control characters.", pointer)


def quoted_username(username: str) -> str:
    """Return a user name escaped and shortened for the log."""
    return repr(username[:MAX_NAME_LENGTH])


class Clients:
    """Store the clients, in the database that `pool` writes to.

    Every change is one statement, notifies all workers (`CHANNEL`) and is logged. The database itself rejects a change
    that would leave no active client with `*:*`, which raises a 409.
    """

    def __init__(
        self,
        pool: Connections,
        passwords: Passwords | None = None,
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.passwords = passwords or Passwords()
        self._pool = pool
        self._names: dict[str, set[str]] = {}
        for former, name in renamed.items():
            self._names.setdefault(former, set()).add(name)
            self._names.setdefault(name, set()).add(former)

    def _client(self, row: Any) -> Client:
        """Return a client; its grants on a renamed resource apply to each of the resource's names."""
        grants = {*row["grants"]}
        if self._names:
            for resource, _, action in [grant.partition(":") for grant in row["grants"]]:
                grants |= {f"{name}:{action}" for name in self._names.get(resource, ())}
        return Client(row["id"], row["username"], frozenset(grants), row["active"])

    async def list(self) -> Sequence[Client]:
        """Return all clients, sorted by name."""
        return [self._client(row) for row in await self._pool.fetch(_LIST)]

    async def read(self, username: str) -> Stored | None:
        """Return the current client of that name from the primary, or None if there is none."""
        try:
            row = await self._pool.fetchrow(_READ, username)
        except asyncpg.UndefinedTableError:
            # The migrations have not run yet.
            raise errors.DatabaseUnavailable(headers={"Retry-After": "1"}) from None
        return None if row is None else Stored(self._client(row), row["password"])

    async def add(self, username: str, password: str, grants: Sequence[str] = ()) -> Client:
        """Add a client; raises `ApiError` 422 with all errors, and 409 if the name is taken."""
        _, prepared, parsed = errors.gather(
            partial(check_username, username),
            partial(passwords.prepare, password, "/password"),
            partial(parse_grants, grants),
        )
        hashed = await self.passwords.hash(prepared)
        try:
            row = await self._pool.fetchrow(_ADD, uuid7(), username, hashed, parsed, _version())
        except asyncpg.UniqueViolationError:
            message = "Another client already has this user name."
            raise errors.Conflict(message, pointer="/username") from None
        return _changed("added", row)

    async def set_password(self, username: str, password: str) -> Client:
        """Change a client's password; raises `ApiError` 422 and 404."""
        hashed = await self.passwords.hash(passwords.prepare(password, "/password"))
        return await self._set(username, "password", hashed)

    async def set_grants(self, username: str, grants: Sequence[str]) -> Client:
        """Replace a client's grants; raises `ApiError` 422, 404 and 409."""
        return await self._set(username, "grants", parse_grants(grants))

    async def remove(self, username: str) -> Client:
        """Remove a client and return it; raises `ApiError` 404 and 409."""
        return _changed("removed", await self._change(_REMOVE, username))

    async def rehash(self, stored: Stored, password: bytes) -> None:
        """Hash a verified password again with the current cost parameters, unless it has changed meanwhile."""
        hashed = await self.passwords.hash(password)
        await self._pool.fetchrow(_REHASH, stored.client.id, hashed, stored.password)

    async def ensure_administrator(self, password: str | None = None) -> str | None:
        """Create the first client, `admin` with all grants, if there are no clients.

        Returns the generated password, to be shown once, or None if `password` was passed or another process has
        created the client.
        """
        if await self._pool.fetchval(_ANY):
            return None
        generated = secrets.token_urlsafe(18)
        hashed = await self.passwords.hash(passwords.prepare(password or generated))
        if await self._pool.fetchrow(_FIRST, uuid7(), hashed, _version()) is None:
            return None
        _log("added", ADMINISTRATOR)
        return None if password else generated

    async def warn_of_other_password(self, password: str) -> None:
        """Log that `password` is not that of the administrator, if it was changed later; nothing if there is none."""
        stored = await self.read(ADMINISTRATOR)
        if stored is None or await self.passwords.verify(stored.password, passwords.prepare(password), priority=True):
            return
        log.warning(
            "the client %s has another password than PEGBOARD_ADMIN_PASSWORD, which applies only to a new database: "
            "to change it, run pegboard client passwd %s",
            *(ADMINISTRATOR, ADMINISTRATOR),
        )

    async def _set(self, username: str, column: str, value: object) -> Client:
        statement = f"""
            UPDATE pegboard.client SET {column} = $2, "_version" = $3,
                updated_at = greatest(updated_at, date_trunc('second', now()))
            WHERE username = $1 RETURNING {_COLUMNS}"""
        return _changed(f"{column} set", await self._change(statement, username, value, _version()))

    async def _change(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        try:
            return await self._pool.fetchrow(statement, *arguments)
        except asyncpg.RestrictViolationError:
            raise errors.Conflict("The last active client that holds *:* must keep it and stay active.") from None


def _changed(change: str, row: asyncpg.Record | None) -> Client:
    if row is None:
        raise errors.NotFound("The client does not exist.")
    client = Client(row["id"], row["username"], frozenset(row["grants"]), row["active"])
    _log(change, client.username)
    return client


def _log(change: str, username: str) -> None:
    """Log a change by a user of the command line or by the service itself; the plugin logs those by clients."""
    log.info("client %s: user=%s by='-' address=- request=-", change, quoted_username(username))


def _version() -> int:
    return random.getrandbits(63)
