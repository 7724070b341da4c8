"""Clients in the database: names, grants, and the last administrator, which cannot be removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from pegboard import errors
from pegboard.auth.clients import Clients, parse_grants, sufficient_grants
from pegboard.auth.passwords import Cost, Passwords
from pegboard.errors import ApiError
from pegboard.migrations import runner
from pegboard.postgres.pool import Pool

SECRET = "correct horse"


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await runner.migrate(database_url, [])
    pool = Pool(database_url)
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
async def clients(pool: Pool) -> Clients:
    """Return a store that contains only the administrator."""
    await pool.execute("TRUNCATE pegboard.client")
    clients = Clients(pool, Passwords(Cost(memory=8, passes=1)))
    await clients.ensure_administrator(SECRET)
    return clients


async def client_error(action: Coroutine[Any, Any, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await action
    return caught.value


@pytest.mark.parametrize(
    ("resource", "what", "expected"),
    [
        ("contacts", "GET", {"contacts:GET", "contacts:*", "*:GET", "*:*"}),
        ("contacts", "HEAD", {"contacts:GET", "contacts:*", "*:GET", "*:*"}),
        ("contacts", "DELETE", {"contacts:DELETE", "contacts:*", "*:DELETE", "*:*"}),
        ("contacts", "archive", {"contacts:archive", "contacts:*", "*:*"}),
        ("contacts", "any", {"contacts:any", "contacts:*", "*:*"}),
    ],
)
def test_one_sufficient_grant_is_enough(resource: str, what: str, expected: set[str]) -> None:
    assert sufficient_grants(resource, what) == expected


def test_grants_are_sorted_and_deduplicated() -> None:
    grants = ["contacts:*", "*:GET", "address-book_2:archive", "not_there:any", "contacts:*", "*:*", "a:PATCH"]
    assert parse_grants(grants) == (
        "*:*", "*:GET", "a:PATCH", "address-book_2:archive", "contacts:*", "not_there:any",
    )  # fmt: skip


@pytest.mark.parametrize(
    "grant",
    [
        "", "contacts", "contacts:", ":GET", "*", "*:", "contacts:get:x", "contacts:GET ", " contacts:GET",
        "contacts:GET\n", "contacts :GET", "Contacts:GET", "contacts:Get", "contacts:HEAD", "contacts:OPTIONS", "*:HEAD",
        "*:archive", "contacts:**", "con*:GET", "contacts;GET", "kontäkte:GET", "contacts:\0", "x" * 300 + ":GET",
        None, 7, ["contacts:GET"],
    ],
)  # fmt: skip
def test_a_malformed_grant_is_reported_with_a_pointer(grant: object) -> None:
    with pytest.raises(ApiError) as caught:
        parse_grants(["*:*", grant, "contacts:*", grant])
    assert caught.value.status == 422
    assert [detail.pointer for detail in caught.value.details] == ["/grants/1", "/grants/3"]


async def test_a_client_is_stored_without_its_password(clients: Clients, pool: Pool) -> None:
    added = await clients.add("zoë 🦊", SECRET, ["contacts:GET", "*:POST"])
    stored = await clients.read("zoë 🦊")
    assert stored is not None
    assert stored.client == added
    assert added.grants == {"contacts:GET", "*:POST"}
    assert stored.password.startswith("$argon2id$")
    row = await pool.fetchrow("SELECT to_jsonb(c) AS row FROM pegboard.client c WHERE id = $1", added.id)
    assert row is not None
    assert SECRET not in str(row["row"])
    assert row["row"]["created_at"] == row["row"]["updated_at"]
    assert "." not in row["row"]["created_at"]
    assert [client.username for client in await clients.list()] == ["admin", "zoë 🦊"]
    assert await clients.read("zoe") is None


async def test_all_errors_of_a_new_client_are_reported_together(clients: Clients) -> None:
    error = await client_error(clients.add("a:b", "short", ["x"]))
    assert [detail.pointer for detail in error.details] == ["/username", "/password", "/grants/0"]


@pytest.mark.parametrize(
    ("username", "kind"),
    [
        ("", errors.TooShort),
        ("x" * 201, errors.TooLong),
        ("a:b", errors.InvalidCharacters),
        ("a\0b", errors.InvalidCharacters),
        ("a\nb", errors.InvalidCharacters),
        ("a\x85b", errors.InvalidCharacters),
        ("a\ud800b", errors.InvalidCharacters),
    ],
)
async def test_an_invalid_user_name_is_rejected(clients: Clients, username: str, kind: type[ApiError]) -> None:
    assert type(await client_error(clients.add(username, SECRET))) is kind


@pytest.mark.parametrize("username", ["x" * 201, "", "a:b", "a\tb", "a\x7fb", "a\x9fb"])
async def test_the_database_rejects_an_invalid_user_name(clients: Clients, pool: Pool, username: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("UPDATE pegboard.client SET username = $1", username)


async def test_user_names_of_200_characters_are_accepted(clients: Clients) -> None:
    assert (await clients.add("é" * 200, SECRET)).username == "é" * 200


async def test_user_names_are_unique(clients: Clients) -> None:
    await clients.add("ada", SECRET)
    error = await client_error(clients.add("ada", SECRET))
    assert (type(error), error.details[0].pointer) == (errors.Conflict, "/username")
    assert (await clients.add("Ada", SECRET)).username == "Ada"


async def test_updates_are_stored(clients: Clients) -> None:
    before = await clients.add("ada", SECRET)
    await clients.set_grants("ada", ["contacts:*"])
    await clients.set_password("ada", "another horse")
    stored = await clients.read("ada")
    assert stored is not None
    assert (stored.client.id, stored.client.grants) == (before.id, frozenset({"contacts:*"}))
    assert await clients.passwords.verify(stored.password, b"another horse")
    await clients.remove("ada")
    assert await clients.read("ada") is None


async def test_a_change_sets_a_new_version(clients: Clients, pool: Pool) -> None:
    before = await pool.fetchval('SELECT "_version" FROM pegboard.client')
    await clients.set_password("admin", "another horse")
    assert await pool.fetchval('SELECT "_version" FROM pegboard.client') != before


CHANGES: dict[str, Callable[[Clients, str], Coroutine[Any, Any, Any]]] = {
    "remove": lambda clients, name: clients.remove(name),
    "rob": lambda clients, name: clients.set_grants(name, ["*:GET", "contacts:*"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_an_unknown_client_is_404(clients: Clients, change: Callable[..., Any]) -> None:
    assert type(await client_error(change(clients, "nobody"))) is errors.NotFound


async def test_setting_the_password_of_an_unknown_client_is_404(clients: Clients) -> None:
    assert type(await client_error(clients.set_password("nobody", SECRET))) is errors.NotFound


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_the_last_administrator_cannot_be_removed(
    clients: Clients, pool: Pool, change: Callable[..., Any]
) -> None:
    await clients.add("sleeper", SECRET, ["*:*"])
    await pool.execute("UPDATE pegboard.client SET active = false WHERE username = 'sleeper'")
    await clients.add("ada", SECRET, ["*:GET", "*:POST", "contacts:*"])
    assert type(await client_error(change(clients, "admin"))) is errors.Conflict
    stored = await clients.read("admin")
    assert stored is not None
    assert (stored.client.active, stored.client.grants) == (True, frozenset({"*:*"}))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_an_administrator_can_be_removed_if_there_is_another(
    clients: Clients, change: Callable[..., Any]
) -> None:
    await clients.add("ada", SECRET, ["*:*"])
    await change(clients, "admin")
    assert type(await client_error(change(clients, "ada"))) is errors.Conflict


async def test_the_last_administrator_can_change_its_password_and_add_grants(clients: Clients) -> None:
    await clients.set_password("admin", "another horse")
    assert (await clients.set_grants("admin", ["*:*", "contacts:any"])).grants == {"*:*", "contacts:any"}


async def test_concurrent_removals_keep_one_administrator(clients: Clients) -> None:
    for number in range(7):
        await clients.add(f"admin {number}", SECRET, ["*:*"])
    actions = [change(clients, f"admin {n}") for n, change in zip(range(7), [*CHANGES.values()] * 4, strict=False)]
    outcomes = await asyncio.gather(*actions, clients.remove("admin"), return_exceptions=True)
    left = [client for client in await clients.list() if client.active and "*:*" in client.grants]
    assert len(left) == 1
    assert [type(outcome) for outcome in outcomes].count(errors.Conflict) == 1


async def test_the_database_enforces_the_last_administrator(clients: Clients, pool: Pool) -> None:
    await clients.add("ada", SECRET, ["*:*"])
    with pytest.raises(asyncpg.RestrictViolationError):
        await pool.execute("DELETE FROM pegboard.client")
    for change in ("grants = '{}'", "active = false"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await pool.execute(f"UPDATE pegboard.client SET {change}")


async def test_the_first_administrator_is_created_once(pool: Pool) -> None:
    await pool.execute("TRUNCATE pegboard.client")
    replicas = [Clients(pool, Passwords(Cost(memory=8, passes=1))) for _ in range(8)]
    passwords = [
        password for password in await asyncio.gather(*(r.ensure_administrator() for r in replicas)) if password
    ]
    assert len(passwords) == 1
    stored = await replicas[0].read("admin")
    assert stored is not None
    assert stored.client.grants == {"*:*"}
    assert len(passwords[0]) >= 20
    assert await replicas[0].passwords.verify(stored.password, passwords[0].encode())
    assert await replicas[0].ensure_administrator() is None
    assert len(await replicas[0].list()) == 1


async def test_the_first_administrator_gets_the_configured_password(clients: Clients) -> None:
    stored = await clients.read("admin")
    assert stored is not None
    assert await clients.passwords.verify(stored.password, SECRET.encode())
    assert await clients.ensure_administrator("yet another horse") is None
    assert await clients.read("admin") == stored


async def test_another_password_of_the_administrator_than_the_configured_one_is_logged(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    await clients.warn_of_other_password(SECRET)
    await clients.add("ada", SECRET, ["*:*"])
    await clients.remove("admin")
    await clients.warn_of_other_password("yet another horse")
    assert caplog.messages == []
    await clients.add("admin", "a third horse")
    await clients.warn_of_other_password(SECRET)
    [message] = caplog.messages
    assert message.endswith("run pegboard client passwd admin")
    assert "horse" not in caplog.text
    assert SECRET not in caplog.text


async def test_no_administrator_is_created_if_there_are_clients(clients: Clients) -> None:
    await clients.add("ada", SECRET, ["*:*"])
    await clients.remove("admin")
    assert await clients.ensure_administrator() is None
    assert [client.username for client in await clients.list()] == ["ada"]


async def test_reading_a_client_before_the_migrations_is_a_database_error(postgres: str) -> None:
    pool = Pool(postgres)
    await pool.open()
    try:
        assert type(await client_error(Clients(pool).read("admin"))) is errors.DatabaseUnavailable
    finally:
        await pool.close()


async def test_each_change_is_logged_without_secrets(clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pegboard.auth")
    await clients.add("ada\u202e", SECRET)
    await clients.set_password("ada\u202e", "another horse")
    await clients.set_grants("ada\u202e", [])
    await clients.remove("ada\u202e")
    rest = "user='ada\\u202e' by='-' address=- request=-"
    done = ("added", "password set", "grants set", "removed")
    assert caplog.messages == [f"client {change}: {rest}" for change in done]
    assert "horse" not in caplog.text
    assert "argon2" not in caplog.text
