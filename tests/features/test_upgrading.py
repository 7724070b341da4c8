"""Databases filled by earlier versions: all data is kept, and everything that clients have stored remains valid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import Api, Serve, new_database

FILLED = sorted(Path(__file__).parent.joinpath("upgrades").glob("*.sql"))
"""Database dumps, named by the version and the commit that wrote them, each with a file of recorded responses."""
LEDGER = "SELECT plugin, version, name FROM pegboard.migration ORDER BY plugin, version"


@pytest.fixture(scope="module", params=FILLED, ids=lambda path: path.stem)
async def upgraded(request: pytest.FixtureRequest, pegboard_postgres: str, serve: Serve) -> tuple[Api, Any, Any]:
    """Serve a database filled by an earlier version; return the recorded responses, and the original ledger."""
    url = await new_database(pegboard_postgres)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(request.param.read_text())
        ledger = await connection.fetch(LEDGER)
    finally:
        await connection.close()
    seen = json.loads(request.param.with_suffix(".json").read_text())
    return await serve(database_url=url), seen, ledger


async def test_items_and_etags_are_unchanged(upgraded: tuple[Api, Mapping[str, Any], Any]) -> None:
    api, seen, _ = upgraded
    for path, expected in seen["gets"].items():
        response = await api.get(path)
        assert (response.status, response.body.decode()) == (200, expected["body"]), path
        assert response.headers["ETag"] == expected["etag"], path
        assert (await api.get(path, headers={"If-None-Match": expected["etag"]})).status == 304, path


async def test_cursors_remain_valid(upgraded: tuple[Api, Mapping[str, Any], Any]) -> None:
    api, seen, _ = upgraded
    assert (await api.get(seen["next"])).json == seen["second"]


async def test_credentials_and_grants_remain_valid(upgraded: tuple[Api, Mapping[str, Any], Any]) -> None:
    api, _, _ = upgraded
    zoe = api.as_client("zoë", "pässword of zoë")
    assert (await zoe.get("/clients/me")).json["grants"] == ["contacts:GET", "files:*"]
    assert (await zoe.get("/contacts")).status == 200
    assert (await zoe.get("/companies")).status == 403
    assert (await api.as_client("zoë", "another").get("/contacts")).status == 401


async def test_a_retry_after_the_upgrade_gets_the_stored_response(upgraded: tuple[Api, Mapping[str, Any], Any]) -> None:
    api, seen, _ = upgraded
    # Stored responses expire after a day.
    await api.service.database.write.execute("UPDATE pegboard.idempotency SET created_at = now()")
    for replay in seen["replays"]:
        headers = {"Idempotency-Key": replay["key"], "Content-Type": "application/json"}
        response = await api.request("POST", replay["path"], data=replay["body"].encode(), headers=headers)
        assert (response.status, response.json) == (replay["status"], replay["answer"])
        assert response.headers["Idempotency-Replayed"] == "true"


async def test_the_ledger_keeps_its_entries(upgraded: tuple[Api, Mapping[str, Any], Any]) -> None:
    api, _, ledger = upgraded
    assert ledger
    now = await api.service.database.write.fetch(LEDGER)
    assert {tuple(row) for row in ledger} <= {tuple(row) for row in now}


async def test_existing_rows_follow_the_rules_of_new_ones(upgraded: tuple[Api, Mapping[str, Any], Any]) -> None:
    api, _, _ = upgraded
    sql = api.service.database.write
    name = await sql.fetchval("SELECT name FROM contacts.contacts WHERE email LIKE '%@example.org' ORDER BY id LIMIT 1")
    item = (await api.get("/contacts", params={"name": name})).json["items"][0]
    assert (await api.get("/contacts", params={"email": item["email"].upper()})).json["items"] == [item]
    assert (await api.post("/contacts", {"name": "x", "email": item["email"].upper()})).status == 409
    found = (await api.get("/contacts", params={"q": name.upper()[:3]})).json["items"]
    assert item["id"] in [other["id"] for other in found]
    path = f"/contacts/{item['id']}"
    tag = (await api.get(path)).headers["ETag"]
    await sql.execute(f"UPDATE contacts.contacts SET notes = notes || '!' WHERE id = '{item['id']}'")
    assert (await api.get(path, headers={"If-None-Match": tag})).status == 200
    await sql.execute("INSERT INTO contacts.contacts (name, email) VALUES ('By hand', 'hand@example.org')")
    assert len((await api.get("/contacts?q=hand")).json["items"]) == 1
    await sql.execute("DELETE FROM contacts.contacts WHERE email = 'hand@example.org'")


async def test_values_that_collide_under_the_new_rule_are_listed_and_kept(pegboard_postgres: str, serve: Serve) -> None:
    url = await new_database(pegboard_postgres)
    connection = await asyncpg.connect(url)
    await connection.execute(FILLED[-1].read_text())
    # The index before depended on the locale: with C, these are different.
    await connection.execute("DROP INDEX contacts.contacts_email_ignore_case_unique")
    await connection.execute(
        """INSERT INTO contacts.contacts (id, _version, name, email)
        VALUES ('01a22209-0000-7000-8000-000000000001', 1, 'a', 'MÜLLER@example.org'),
               ('01a22209-0000-7000-8000-000000000002', 1, 'b', 'müller@example.org')"""
    )
    await connection.execute(
        "CREATE UNIQUE INDEX contacts_email_ignore_case_unique ON contacts.contacts"
        ' ((lower(email COLLATE "C") COLLATE "C"))'
    )
    before = await connection.fetch("SELECT * FROM contacts.contacts ORDER BY id")
    api = await serve(database_url=url)
    assert (await api.get("/contacts")).status == 503
    assert (await api.get("/companies")).status == 200
    [fault] = [entry["fault"] for entry in (await api.get("/plugins")).json["items"] if entry["name"] == "contacts"]
    assert "01a22209-0000-7000-8000-000000000001" in fault
    assert "01a22209-0000-7000-8000-000000000002" in fault
    assert await connection.fetch("SELECT * FROM contacts.contacts ORDER BY id") == before
    await connection.execute("UPDATE contacts.contacts SET email = name || '@example.org' WHERE name IN ('a', 'b')")
    await connection.close()
    again = await serve(database_url=url)
    assert (await again.get("/contacts")).status == 200
    assert (await again.post("/contacts", {"name": "x", "email": "B@example.org"})).status == 409
