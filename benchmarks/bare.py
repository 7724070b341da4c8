"""The baseline: the contacts service as a good engineer would write it by hand, without a framework above aiohttp."""

from __future__ import annotations

import asyncio
import binascii
import hmac
import os
import re
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import orjson
import uvloop
from aiohttp import web

DDL = """
CREATE TABLE companies (id uuid PRIMARY KEY DEFAULT uuidv7(), name text COLLATE "C" NOT NULL);
CREATE TABLE contacts (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    created_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    updated_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    version bigint NOT NULL DEFAULT 1,
    name text COLLATE "C" NOT NULL,
    email text COLLATE "C" NOT NULL,
    phone text COLLATE "C",
    company uuid REFERENCES companies (id),
    notes text COLLATE "C",
    birthday date,
    tags text[] COLLATE "C" NOT NULL DEFAULT '{}',
    last_contacted_at timestamptz,
    search tsvector GENERATED ALWAYS AS (
        to_tsvector('simple', name || ' ' || email || ' ' || coalesce(notes, ''))
    ) STORED
);
CREATE UNIQUE INDEX contacts_email ON contacts (lower(email));
CREATE INDEX contacts_company ON contacts (company, id);
CREATE INDEX contacts_name ON contacts (name, id);
CREATE INDEX contacts_created_at ON contacts (created_at, id);
CREATE INDEX contacts_tags ON contacts USING gin (tags);
CREATE INDEX contacts_search ON contacts USING gin (search)
"""
# The id as text, which orjson writes directly; it would serialize asyncpg's UUID type through Python.
COLUMNS = (
    "id::text, created_at, updated_at, name, email, phone, company::text, notes, birthday, tags, last_contacted_at"
)
GET = f"SELECT {COLUMNS} FROM contacts WHERE id = $1"
# Qualified, since a plain `id` would be the text of the select list, which has no index.
PAGE = f"SELECT {COLUMNS} FROM contacts WHERE contacts.id > $1 ORDER BY contacts.id LIMIT $2"
NAMED = f"""
SELECT {COLUMNS} FROM contacts WHERE name >= $3 AND name < $4 AND contacts.id > $1 ORDER BY contacts.id LIMIT $2
"""
BY_NAME = f"SELECT {COLUMNS} FROM contacts WHERE (name, contacts.id) > ($3, $1) ORDER BY name, contacts.id LIMIT $2"
ALL = f"SELECT {COLUMNS} FROM contacts ORDER BY contacts.id"
VERSIONED = f"SELECT version, {COLUMNS} FROM contacts WHERE id = $1"

POOL = web.AppKey("POOL", asyncpg.Pool)
USERS = web.AppKey("USERS", dict[str, bytes])

TAKEN = ("Another contact has it.", "/email")
NO_COMPANY = ("No such item.", "/company")
ZERO_ID = UUID(int=0)
LAST = "\U0010ffff"
ROWS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
LINES = ROWS | orjson.OPT_APPEND_NEWLINE
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)+")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def text(least: int, most: int) -> Callable[[Any], Any]:
    """Return a check for a text of `least` to `most` characters."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) or not least <= len(value) <= most or "\0" in value:
            raise ValueError(f"Must be text of {least} to {most} characters.")
        return value

    return check


def email(value: Any) -> Any:
    """Return a valid email address."""
    if not isinstance(value, str) or len(value) > 254 or not EMAIL.fullmatch(value):
        raise ValueError("Not a valid email address.")
    return value


def day(value: Any) -> Any:
    """Return a calendar date."""
    if not isinstance(value, str) or len(value) != 10:
        raise ValueError("Not a valid date.")
    return date.fromisoformat(value)


def instant(value: Any) -> Any:
    """Return an instant in UTC, in seconds."""
    if not isinstance(value, str) or len(value) < 19:
        raise ValueError("Not a valid instant.")
    moment = datetime.fromisoformat(value).replace(microsecond=0)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def reference(value: Any) -> Any:
    """Return the id of an item."""
    if not isinstance(value, str):
        raise ValueError("Not a valid UUID.")
    return UUID(value)


def labels(value: Any) -> Any:
    """Return a list of short texts."""
    if not isinstance(value, list) or len(value) > 20:
        raise ValueError("Must be a list of up to 20 texts.")
    return [label(item) for item in value]


label = text(0, 50)

# The check of each field, and whether it may be null.
FIELDS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "name": (text(1, 200), False),
    "email": (email, False),
    "phone": (text(0, 40), True),
    "company": (reference, True),
    "notes": (text(0, 10_000), True),
    "birthday": (day, True),
    "tags": (labels, False),
    "last_contacted_at": (instant, True),
}
READ_ONLY = {"id", "created_at", "updated_at"}
REQUIRED = ("name", "email")


def errors(status: int, *details: tuple[str, str]) -> web.Response:
    """Return an error response with messages and pointers into the body."""
    entries = [{"message": message, "pointer": pointer} for message, pointer in details]
    return response({"errors": entries}, status)


def response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return `value` as JSON."""
    body = orjson.dumps(value, option=ROWS)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def load(body: bytes) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the valid fields of a body, and its errors."""
    fields = orjson.loads(body)
    if not isinstance(fields, dict):
        raise ValueError("Must be an object.")
    loaded: dict[str, Any] = {}
    details: list[tuple[str, str]] = []
    for name, value in fields.items():
        if name in READ_ONLY:
            continue
        if name not in FIELDS:
            details.append(("Unknown field.", f"/{name}"))
            continue
        check, nullable = FIELDS[name]
        if value is None and nullable:
            loaded[name] = None
            continue
        try:
            loaded[name] = check(value)
        except ValueError as error:
            details.append((str(error), f"/{name}"))
    return loaded, details


def insertion(names: Iterable[str]) -> str:
    """Return the statement that creates a row of these fields."""
    fields = list(names)
    values = ", ".join(f"${number}" for number in range(1, len(fields) + 1))
    return f"INSERT INTO contacts ({', '.join(fields)}) VALUES ({values}) RETURNING {COLUMNS}"


def change(names: Iterable[str]) -> str:
    """Return the statement that changes these fields of the row `$1`."""
    sets = "".join(f"{name} = ${number}, " for number, name in enumerate(names, 2))
    return (
        f"UPDATE contacts SET {sets}version = version + 1, updated_at = date_trunc('second', now()) "
        f"WHERE id = $1 RETURNING {COLUMNS}"
    )


def identity(request: web.Request) -> UUID | None:
    """Return the id in the path; None if it is not valid."""
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        return None


async def get(request: web.Request) -> web.Response:
    """Return one contact."""
    key = identity(request)
    if "If-None-Match" in request.headers:
        return await get_changed(request, key)
    row = key and await request.app[POOL].fetchrow(GET, key)
    return response(dict(row)) if row else errors(404, ("Not found.", ""))


async def get_changed(request: web.Request, key: UUID | None) -> web.Response:
    """Return one contact with its entity tag, or 304 if the client has it already."""
    row = key and await request.app[POOL].fetchrow(VERSIONED, key)
    if not row:
        return errors(404, ("Not found.", ""))
    item = dict(row)
    headers = {"ETag": f'"{item.pop("version")}"'}
    if headers["ETag"] in request.headers["If-None-Match"]:
        return web.Response(status=304, headers=headers)
    return response(item, headers=headers)


async def listing(request: web.Request) -> web.StreamResponse:
    """Return a page of contacts, by id or by name, or all of them as NDJSON."""
    if request.headers.get("Accept") == "application/x-ndjson":
        return await export(request)
    query = request.query
    try:
        limit = int(query.get("limit", "50"))
        after = UUID(query["after"]) if "after" in query else ZERO_ID
    except ValueError:
        return errors(400, ("Not a valid page.", ""))
    if not 1 <= limit <= 500:
        return errors(400, ("The limit is 1 to 500.", ""))
    prefix = query.get("name__prefix")
    if prefix is not None:
        parameters = f"&name__prefix={quote(prefix)}"
        rows = await request.app[POOL].fetch(NAMED, after, limit + 1, prefix, prefix + LAST)
    elif query.get("sort") == "name":
        parameters = "&sort=name"
        rows = await request.app[POOL].fetch(BY_NAME, after, limit + 1, query.get("after_name", ""))
    else:
        parameters = ""
        rows = await request.app[POOL].fetch(PAGE, after, limit + 1)
    items = [dict(row) for row in rows[:limit]]
    following = None
    if len(rows) > limit:
        following = f"/contacts?limit={limit}{parameters}&after={items[-1]['id']}"
        if "sort" in query:
            following += f"&after_name={quote(items[-1]['name'])}"
    return response({"items": items, "next": following, "prev": None})


async def export(request: web.Request) -> web.StreamResponse:
    """Return all contacts as NDJSON from one snapshot."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with request.app[POOL].acquire() as connection, connection.transaction(readonly=True):
        await response.prepare(request)
        cursor = await connection.cursor(ALL)
        while rows := await cursor.fetch(500):
            await response.write(b"".join([orjson.dumps(dict(row), option=LINES) for row in rows]))
    await response.write_eof()
    return response


async def create(request: web.Request) -> web.Response:
    """Create a contact."""
    try:
        fields, details = load(await request.read())
    except ValueError:
        return errors(400, ("JSON parsing error.", ""))
    reported = {pointer for _, pointer in details}
    for name in REQUIRED:
        if name not in fields and f"/{name}" not in reported:
            details.append(("Missing data for required field.", f"/{name}"))
    if details:
        return errors(422, *details)
    try:
        [row] = await request.app[POOL].fetch(insertion(fields), *fields.values())
    except asyncpg.UniqueViolationError:
        return errors(409, TAKEN)
    except asyncpg.ForeignKeyViolationError:
        return errors(422, NO_COMPANY)
    return response(dict(row), 201, {"Location": f"/contacts/{row['id']}"})


async def patch(request: web.Request) -> web.Response:
    """Change the fields in the body."""
    key = identity(request)
    try:
        fields, details = load(await request.read())
    except ValueError:
        return errors(400, ("JSON parsing error.", ""))
    if details:
        return errors(422, *details)
    try:
        row = key and await request.app[POOL].fetchrow(change(fields), key, *fields.values())
    except asyncpg.UniqueViolationError:
        return errors(409, TAKEN)
    except asyncpg.ForeignKeyViolationError:
        return errors(422, NO_COMPANY)
    return response(dict(row)) if row else errors(404, ("Not found.", ""))


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Require a valid user name and password (RFC 7617)."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        user, _, password = b64decode(encoded, validate=True).partition(b":")
        expected = request.app[USERS].get(user.decode(), b"")
    except (binascii.Error, ValueError):
        expected = password = b""
    if scheme.lower() != "basic" or not hmac.compare_digest(password, expected) or not expected:
        refusal = errors(401, ("Not authenticated.", ""))
        refusal.headers["WWW-Authenticate"] = 'Basic realm="bare", charset="UTF-8"'
        return refusal
    return await handler(request)


async def no_reset(connection: Any) -> None:
    """Skip asyncpg's reset of a connection, a round trip for each request: no handler changes the session."""


async def pool(app: web.Application) -> AsyncIterator[None]:
    """Keep ten connections open while the service runs."""
    async with asyncpg.create_pool(os.environ["BARE_DATABASE_URL"], min_size=10, max_size=10, reset=no_reset) as opened:
        app[POOL] = opened
        yield


def application() -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[authenticated])
    app[USERS] = {"admin": os.environ["BARE_ADMIN_PASSWORD"].encode()}
    app.cleanup_ctx.append(pool)
    app.router.add_get("/contacts", listing, allow_head=False)
    app.router.add_post("/contacts", create)
    app.router.add_get("/contacts/{id}", get, allow_head=False)
    app.router.add_patch("/contacts/{id}", patch)
    return app


def main() -> None:
    """Serve on the port from the command line."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
