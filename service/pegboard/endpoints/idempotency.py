"""`Idempotency-Key`: the first answer to a POST is stored with its work, and given again to a retry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b

from aiohttp import web
from asyncpg import Connection
from multidict import CIMultiDictProxy, istr

from pegboard import errors
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, raw_path
from pegboard.postgres.share import Shares

HEADER = istr("Idempotency-Key")
_LONGEST = 255

Work = Callable[[Connection], Awaitable[Response]]

# Taken without waiting: whoever finds it held is told so at once. Its end is the transaction's, so a crash frees it.
_CLAIM = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"

_RECALL = """
SELECT body_digest, status, headers, body FROM pegboard.idempotency
WHERE client_id = $1 AND path = $2 AND key = $3 AND created_at > now() - interval '24 hours'"""

_STORE = """
INSERT INTO pegboard.idempotency (client_id, path, key, body_digest, status, headers, body)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (client_id, path, key) DO UPDATE SET
    body_digest = excluded.body_digest, status = excluded.status, headers = excluded.headers, body = excluded.body,
    created_at = now()"""

# Each answer that comes sweeps away a few that have expired, so the table needs nobody to tend it.
_SWEEP = """
DELETE FROM pegboard.idempotency WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM pegboard.idempotency WHERE created_at < now() - interval '24 hours'
    ORDER BY created_at LIMIT 10 FOR UPDATE SKIP LOCKED))"""


def key_of(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the request's key, None where it has none; raises `ApiError` 400 for one that cannot be used."""
    keys = headers.getall(HEADER, ())
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 0 < len(key) <= _LONGEST or not (key.isascii() and key.isprintable()):
        message = f"{HEADER} must be sent once, with 1 to {_LONGEST} printable ASCII characters."
        raise errors.InvalidHeader(message, header=HEADER)
    return key


class Idempotency:
    """Do the work of a POST once for each client, path and key.

    `secret` keys the digest by which bodies are compared, so that a stored one tells nothing of what was sent.
    """

    def __init__(self, database: Shares, secret: bytes) -> None:
        self._database = database
        self._secret = secret

    async def once(self, request: web.Request, key: str, body: bytes, work: Work) -> Response:
        """Return the stored answer, or do `work` in a transaction and store its answer there.

        Raises `ApiError`: 422 where the key came with another body, 409 while the first request is still running.
        """
        place = (request[STATE].client.id, raw_path(request), key)
        digest = blake2b(body, key=self._secret).digest()
        async with self._database.write.transaction() as connection:
            if not await connection.fetchval(_CLAIM, "\n".join(map(str, place))):
                raise errors.IdempotencyKeyInUse(header=HEADER, headers={"Retry-After": "1"})
            known = await connection.fetchrow(_RECALL, *place)
            if known is None:
                response = await work(connection)
                headers = {str(name): value for name, value in response.headers.items()}
                await connection.execute(_STORE, *place, digest, response.status, headers, response.body)
                await connection.execute(_SWEEP)
                return response
        if known["body_digest"] != digest:
            raise errors.IdempotencyKeyReused(header=HEADER)
        return Response(known["status"], known["headers"] | {"Idempotency-Replayed": "true"}, known["body"])
