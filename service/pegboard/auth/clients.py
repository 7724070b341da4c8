"""Who may use the service: clients, the grants they hold, and where they are stored."""

from __future__ import annotations

import logging
import random
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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
LONGEST_NAME = 200
CHANNEL = "pegboard_client"
"""Where the database tells the id of each client that has changed or is gone."""

_VERB = "GET|POST|PUT|PATCH|DELETE"
_NAME = r"[a-z][a-z0-9_-]{0,39}"
_GRANT = re.compile(rf"\*:(\*|{_VERB})|{_NAME}:(\*|{_VERB}|{_NAME})", re.ASCII)
_GRANT_FORM = "A grant looks like contacts:GET, contacts:archive, contacts:*, *:GET or *:*; GET includes HEAD."

_COLUMNS = "id::text AS id, username, grants, active"
_LIST = f"SELECT {_COLUMNS} FROM pegboard.client ORDER BY username"
_READ = f"SELECT {_COLUMNS}, password FROM pegboard.client WHERE username = $1"
_ADD = f"""
INSERT INTO pegboard.client (id, username, password, grants, active, "_version") VALUES ($1, $2, $3, $4, $5, $6)
RETURNING {_COLUMNS}"""
_REMOVE = f"DELETE FROM pegboard.client WHERE username = $1 RETURNING {_COLUMNS}"
_RENEW = "UPDATE pegboard.client SET password = $2 WHERE id = $1 AND password = $3 RETURNING id"
_ANY = "SELECT EXISTS (SELECT FROM pegboard.client)"
# Of those that race one inserts the row; the others wait for it and then have a conflict.
_FIRST = f"""
INSERT INTO pegboard.client (id, username, password, grants, "_version")
SELECT $1::uuid, '{ADMINISTRATOR}', $2, ARRAY['{EVERYTHING}'], $3::bigint
WHERE NOT EXISTS (SELECT FROM pegboard.client)
ON CONFLICT (username) DO NOTHING RETURNING id"""

log = logging.getLogger("pegboard.auth")


@dataclass(frozen=True, slots=True)
class Client:
    """Be somebody who may use the service; `sufficing` says which grants are enough for what."""

    id: str
    username: str
    grants: frozenset[str]
    active: bool = True

    def holds(self, grant: str) -> bool:
        """Tell whether a grant is held, be it as a part of a wider one."""
        return not self.grants.isdisjoint(sufficing(*grant.split(":", 1)))


ANONYMOUS = Client("00000000-0000-0000-0000-000000000000", "", frozenset())
"""Whoever sends no credentials where none are needed: nobody can be called so, and it holds no grants."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold a client and the hash of its password."""

    client: Client
    password: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Say on whose behalf a client is changed, for the log."""

    username: str
    address: str
    request_id: str


OPERATOR = Actor("-", "-", "-")
"""Whoever has the command line, or the service itself."""


def sufficing(resource: str, what: str) -> frozenset[str]:
    """Return the grants of which any one suffices for a verb or an operation of `resource`; HEAD follows GET."""
    what = "GET" if what == "HEAD" else what
    grants = {f"{resource}:{what}", f"{resource}:*", EVERYTHING}
    return frozenset(grants | {f"*:{what}"} if what.isupper() else grants)


def parse_grants(grants: Sequence[object], pointer: str = "/grants") -> tuple[str, ...]:
    """Return `grants` in order, each once; raise `ApiError` 422 that points at every one that is malformed.

    A resource or an operation need not be there. There is no grant for HEAD, which follows GET, nor for OPTIONS,
    which needs none.
    """
    errors.gather(*(partial(check_grant, grant, f"{pointer}/{place}") for place, grant in enumerate(grants)))
    return tuple(sorted({str(grant) for grant in grants}))


def check_grant(grant: object, pointer: str | None = None) -> None:
    """Raise `ApiError` 422 for a malformed grant; it serves as a validator of a field, too."""
    if not isinstance(grant, str) or not _GRANT.fullmatch(grant):
        raise errors.InvalidValue(_GRANT_FORM, pointer)


def check_username(username: str, pointer: str = "/username") -> None:
    """Raise `ApiError` 422 for a user name that is not taken; it serves as a validator of a field, too."""
    if not username:
        raise errors.TooShort("A user name must have at least 1 character.", pointer)
    if len(username) > LONGEST_NAME:
        raise errors.TooLong(f"A user name can have at most {LONGEST_NAME} characters.", pointer)
    if ":" in username or not {"Cc", "Cs"}.isdisjoint(map(unicodedata.category, username)):
        raise errors.InvalidCharacters("A user name cannot contain a colon or control characters.", pointer)


def shown(username: str) -> str:
    """Return what was given as a user name as it can stand in a line of the log."""
    return repr(username[:LONGEST_NAME])


class Clients:
    """Store the clients, in the database that `pool` writes to.

    Every change is one statement, tells all workers (`CHANNEL`) and leaves a line in the log. The database itself
    refuses one that would leave no active client with `*:*`; that is a 409.
    """

    def __init__(self, pool: Connections, passwords: Passwords | None = None) -> None:
        self.passwords = passwords or Passwords()
        self._pool = pool

    async def list(self) -> Sequence[Client]:
        """Return all clients in the order of their names."""
        return [_client(row) for row in await self._pool.fetch(_LIST)]

    async def read(self, username: str) -> Stored | None:
        """Return the client of that name as it is now, which a replica may not know yet; None where there is none."""
        try:
            row = await self._pool.fetchrow(_READ, username)
        except asyncpg.UndefinedTableError:
            # The migrations have not run yet.
            raise errors.DatabaseUnavailable(headers={"Retry-After": "1"}) from None
        return None if row is None else Stored(_client(row), row["password"])

    async def add(
        self,
        username: str,
        password: str,
        grants: Sequence[str] = (),
        *,
        active: bool = True,
        actor: Actor = OPERATOR,
    ) -> Client:
        """Add a client; raises `ApiError` 422 with all that is wrong, and 409 when the name is taken."""
        _, prepared, parsed = errors.gather(
            partial(check_username, username),
            partial(passwords.prepare, password, "/password"),
            partial(parse_grants, grants),
        )
        hashed = await self.passwords.hash(prepared)
        try:
            row = await self._pool.fetchrow(_ADD, uuid7(), username, hashed, parsed, active, _version())
        except asyncpg.UniqueViolationError:
            message = "Another client already has this user name."
            raise errors.Conflict(message, pointer="/username") from None
        return _changed("added", row, actor)

    async def set_password(self, username: str, password: str, *, actor: Actor = OPERATOR) -> Client:
        """Give a client another password; raises `ApiError` 422 and 404."""
        hashed = await self.passwords.hash(passwords.prepare(password, "/password"))
        return await self._set(username, "password", hashed, actor)

    async def set_grants(self, username: str, grants: Sequence[str], *, actor: Actor = OPERATOR) -> Client:
        """Give a client these grants instead of those it holds; raises `ApiError` 422, 404 and 409."""
        return await self._set(username, "grants", parse_grants(grants), actor)

    async def set_active(self, username: str, active: bool, *, actor: Actor = OPERATOR) -> Client:
        """Let a client in, or keep it out without removing it; raises `ApiError` 404 and 409."""
        return await self._set(username, "active", active, actor)

    async def remove(self, username: str, *, actor: Actor = OPERATOR) -> Client:
        """Remove a client and return what it was; raises `ApiError` 404 and 409."""
        return _changed("removed", await self._change(_REMOVE, username), actor)

    async def renew(self, stored: Stored, password: bytes) -> None:
        """Hash a password that was just verified again, at today's cost, unless it has changed meanwhile."""
        hashed = await self.passwords.hash(password)
        await self._pool.fetchrow(_RENEW, stored.client.id, hashed, stored.password)

    async def ensure_administrator(self, password: str | None = None) -> str | None:
        """Make the first client, `admin` with all grants, where there is none.

        Returns the password that was made up for it, to be shown once; None where `password` was given, or another
        process came first.
        """
        if await self._pool.fetchval(_ANY):
            return None
        made_up = secrets.token_urlsafe(18)
        hashed = await self.passwords.hash(passwords.prepare(password or made_up))
        if await self._pool.fetchrow(_FIRST, uuid7(), hashed, _version()) is None:
            return None
        _log("added", ADMINISTRATOR, OPERATOR)
        return None if password else made_up

    async def _set(self, username: str, column: str, value: object, actor: Actor) -> Client:
        statement = f"""
            UPDATE pegboard.client SET {column} = $2, "_version" = $3,
                updated_at = greatest(updated_at, date_trunc('second', now()))
            WHERE username = $1 RETURNING {_COLUMNS}"""
        return _changed(f"{column} set", await self._change(statement, username, value, _version()), actor)

    async def _change(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        try:
            return await self._pool.fetchrow(statement, *arguments)
        except asyncpg.RestrictViolationError:
            raise errors.Conflict("The last active client that holds *:* must keep it and stay active.") from None


def _changed(what: str, row: asyncpg.Record | None, actor: Actor) -> Client:
    if row is None:
        raise errors.NotFound("The client does not exist.")
    client = _client(row)
    _log(what, client.username, actor)
    return client


def _log(what: str, username: str, actor: Actor) -> None:
    log.info(
        "client %s: user=%s by=%s address=%s request=%s",
        *(what, shown(username), shown(actor.username), actor.address, actor.request_id),
    )


def _client(row: Any) -> Client:
    return Client(row["id"], row["username"], frozenset(row["grants"]), row["active"])


def _version() -> int:
    return random.getrandbits(63)
