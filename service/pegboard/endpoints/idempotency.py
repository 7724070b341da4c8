"""`Idempotency-Key`: the first response to a POST is stored in its transaction, and replayed to a retry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b

from aiohttp import web
from asyncpg import Connection
from multidict import CIMultiDictProxy, istr

from pegboard import errors
from pegboard.http.headers import IDEMPOTENCY_HOURS, MAX_IDEMPOTENCY_KEY_LENGTH
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, raw_path
from pegboard.postgres.share import Shares

HEADER = istr("Idempotency-Key")

Work = Callable[[Connection], Awaitable[Response]]

# Acquired without waiting: a concurrent retry fails at once. It is released with the transaction, also by a crash.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"

_SELECT = f"""
SELECT body_digest, status, headers, body FROM pegboard.idempotency
WHERE client_id = $1 AND path = $2 AND key = $3 AND created_at > now() - interval '{IDEMPOTENCY_HOURS} hours'"""

_STORE = """
INSERT INTO pegboard.idempotency (client_id, path, key, body_digest, status, headers, body)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (client_id, path, key) DO UPDATE SET
    body_digest = excluded.body_digest, status = excluded.status, headers = excluded.headers, body = excluded.body,
    created_at = now()"""

# Each stored response deletes a few expired ones, so the table needs no maintenance.
_SWEEP = f"""
DELETE FROM pegboard.idempotency WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM pegboard.idempotency WHERE created_at < now() - interval '{IDEMPOTENCY_HOURS} hours'
    ORDER BY created_at LIMIT 10 FOR UPDATE SKIP LOCKED))"""


def key_of(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the request's key, or None if it has none; raises `ApiError` 400 for an invalid key."""
    keys = headers.getall(HEADER, ())
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        message = f"{HEADER} must be sent once, with 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable ASCII characters."
        raise errors.InvalidHeader(message, header=HEADER)
    return key


class Idempotency:
    """Run the work of a POST once for each client, path and key.

    Bodies are compared by a digest that is keyed by `secret`, so that a stored digest reveals nothing of a body.
    """

    def __init__(self, database: Shares, secret: bytes, name: str, storage: str) -> None:
        self._database = database
        self._secret = secret
        self._name, self._storage = f"/{name}", f"/{storage}"

    async def run_once(self, request: web.Request, key: str, body: bytes, work: Work) -> Response:
        """Return the stored response, or run `work` in a transaction and store its response there.

        Raises `ApiError`: 422 if the key was used with another body, 409 while the first request is still running.
        """
        # By the name that never changes, so that a retry after the resource was renamed finds it.
        path = raw_path(request).replace(self._name, self._storage, 1)
        stored_key = (request[STATE].client.id, path, key)
        digest = blake2b(body, key=self._secret).digest()
        async with self._database.write.transaction() as connection:
            if not await connection.fetchval(_LOCK, "\n".join(map(str, stored_key))):
                raise errors.IdempotencyKeyInUse(header=HEADER, headers={"Retry-After": "1"})
            stored = await connection.fetchrow(_SELECT, *stored_key)
            if stored is None:
                response = await work(connection)
                headers = {str(name): value for name, value in response.headers.items()}
                await connection.execute(_STORE, *stored_key, digest, response.status, headers, response.body)
                await connection.execute(_SWEEP)
                return response
        if stored["body_digest"] != digest:
            raise errors.IdempotencyKeyReused(header=HEADER)
        return Response(stored["status"], stored["headers"] | {"Idempotency-Replayed": "true"}, stored["body"])
