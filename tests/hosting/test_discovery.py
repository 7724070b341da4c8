"""Installed plugins: discovered, loaded independently, and reported if invalid."""

from __future__ import annotations

import string
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard import error_codes
from pegboard.hosting import error_blocks
from pegboard.hosting.discovery import GROUP, Plugin, State, discover, installed
from tests.conftest import Api, Serve, new_database
from tests.installed import VALID, Site, only, site

__all__ = ("site",)


def test_installed_plugins_are_discovered() -> None:
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    assert points["contacts"] == "pegboard_contacts:Contacts"
    assert {point.name for point in installed()} == set(points)


def test_a_valid_plugin_is_ready(site: Site) -> None:
    package = site.install("pegboard-things", VALID, "things")
    plugin = only(discover(site.points()))
    assert (plugin.name, plugin.distribution, plugin.version) == ("things", "pegboard-things", "1.2")
    assert (plugin.state, plugin.error, plugin.package) == (State.READY, None, package)
    assert plugin.verbs == ("GET", "POST")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def (", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("class Odd(BaseException): pass\nraise Odd('one\\ntwo')", "Odd: one two"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class Rude(Exception):\n    def __str__(self): raise ValueError\nraise Rude", "Rude"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("x = 1", "has no Things: correct the entry point"),
        ("Things = 5", "a subclass of pegboard.Resource"),
        ("class Things: pass", "a subclass of pegboard.Resource"),
        (VALID.replace("schema = Thing", ""), "set schema to a subclass of pegboard.Schema"),
        (VALID.replace("schema = Thing", "schema = Thing()"), "set schema to a subclass of pegboard.Schema"),
        (VALID.replace("(Schema)", ""), "set schema to a subclass of pegboard.Schema"),
        (VALID.replace('"GET", "POST"', '"GET"'), "set verbs to a tuple"),
        (VALID.replace('"GET", "POST"', "()"), "set verbs to a tuple"),
        (VALID.replace('"GET", "POST"', '"GET", "get"'), "verbs contains 'get'"),
        (VALID.replace('"GET", "POST"', '"GET", "GET"'), "verbs contains a verb twice"),
        (VALID.replace('"GET", "POST"', '"GET", "BREW"'), "verbs contains 'BREW'"),
        (VALID.replace("TableResource", "Resource"), "verbs contains GET, but there is no action"),
        (VALID + "    async def delete(self, context, id): pass\n", "the action delete is defined"),
        (
            VALID.replace("TableResource", "Resource").replace('"GET", "POST"', '("DELETE",)')
            + "    async def delete(self, context, id): pass\n",
            "verbs contains DELETE, whose preconditions need the current item: write async def retrieve",
        ),
        (VALID + "    def create(self, context, data): pass\n", "the action create must be a coroutine"),
        (VALID.replace("fields.String(", "fields.Field("), "the field name has no column type"),
        (VALID.replace("name =", "created_at ="), "the field created_at is a standard field"),
        (VALID + "    indexes = ('name',)\n", "an index over name needs validate.Length"),
        (VALID.replace("required=True", "nonsense=1"), "TypeError"),
        (VALID + "    error_codes = (5,)\n", "error_codes contains 5"),
        (
            VALID
            + "    from pegboard import ApiError\n    error_codes = (type('Own', (ApiError,), {}, number=100, status=409, message='x'),)\n",
            "the error Own has the number 100: use one from 0 to 99",
        ),
        (
            VALID
            + "    from pegboard import ApiError\n    error_codes = (type('Own', (ApiError,), {}, number=0, status=200, message='x'),)\n",
            "the error Own has the status 200",
        ),
        (
            VALID + "    from pegboard import ApiError\n"
            "    error_codes = type('Own', (ApiError,), {}, number=0, status=409, message='x'), type('Own', (ApiError,), {}, number=0, status=422, message='y')\n",
            "the number 0 is declared twice in error_codes",
        ),
    ],
)
def test_an_invalid_plugin_has_an_error_in_one_line(site: Site, code: str, message: str) -> None:
    site.install("pegboard-wrong", code, "wrong")
    site.install("pegboard-things", VALID, "things")
    things, wrong = discover(site.points())
    assert (wrong.state, things.state) == (State.FAILED, State.READY)
    assert message in (wrong.error or "")
    assert "\n" not in (wrong.error or "")
    assert wrong.verbs == ()


@pytest.mark.parametrize(
    "name",
    [
        *("docs", "errors", "health", "metrics", "openapi.json", "plugins", "ready"),
        *("pegboard", "public", "information_schema", "pg_catalog", "Things", "1st", "a" * 41, "a.b", "_x", "é"),
    ],
)
def test_some_names_are_not_allowed(site: Site, name: str) -> None:
    site.install("pegboard-things", VALID, name)
    plugin = only(discover(site.points()))
    assert plugin.state is State.FAILED
    assert f"the name {name!r} is not valid for a resource" in (plugin.error or "")
    assert plugin.resource is None


def test_plugins_with_the_same_name_are_both_in_conflict(site: Site) -> None:
    code = VALID + "print('imported')"
    site.install("pegboard-one", code, "things")
    site.install("pegboard-two", code, "things", "others")
    plugins = discover(site.points())
    states = [(plugin.name, plugin.distribution, plugin.state) for plugin in plugins]
    assert sorted(states) == [
        ("others", "pegboard-two", State.READY),
        ("things", "pegboard-one", State.CONFLICT),
        ("things", "pegboard-two", State.CONFLICT),
    ]
    assert all("2 distributions claim" in (p.error or "") for p in plugins if p.name == "things")


OWN_ERROR = (
    VALID + "    from pegboard import ApiError\n"
    "    error_codes = (type('Own', (ApiError,), {}, number=7, status=409, message='x'),)\n"
)


def code_of(plugin: Plugin) -> int:
    assert plugin.resource is not None
    return plugin.resource.error_codes[0].code


def test_error_codes_are_derived_from_the_normalized_name_of_the_distribution(site: Site) -> None:
    site.install("pegboard-one", OWN_ERROR, "ones")
    site.install("Pegboard_Two", OWN_ERROR, "twos")
    plugins = {plugin.name: code_of(plugin) for plugin in discover(site.points())}
    assert plugins == {"ones": 145428707, "twos": error_blocks.first_code("pegboard-two") + 7}


def test_a_distribution_declares_its_block_of_error_codes(site: Site) -> None:
    site.install("pegboard-one", OWN_ERROR, "ones", block="20100")
    assert code_of(only(discover(site.points()))) == 20107


@pytest.mark.parametrize("block", ["20150", "19900", "100000", "many", "20100 = pegboard\n20200"])
def test_an_invalid_block_of_error_codes_is_an_error(site: Site, block: str) -> None:
    site.install("pegboard-one", OWN_ERROR, "ones", block=block)
    assert "declare one, a multiple of 100 from 20000 to 99900" in (only(discover(site.points())).error or "")


def test_of_two_distributions_with_one_block_the_first_by_name_keeps_it(site: Site) -> None:
    site.install("pegboard-two", OWN_ERROR, "alphas", "twos", block="20100")
    site.install("pegboard-one", OWN_ERROR, "ones", block="20100")
    site.install("pegboard-three", VALID, "threes", block="20100")
    plugins = {plugin.name: plugin for plugin in discover(site.points())}
    assert {name: plugin.state for name, plugin in plugins.items()} == {
        "alphas": State.CONFLICT,
        "ones": State.READY,
        "threes": State.READY,
        "twos": State.CONFLICT,
    }
    error = plugins["twos"].error
    assert error is not None
    assert error.startswith("its error codes from 20100 are those of pegboard-one: declare another in the entry points")


@given(st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=60))
def test_a_derived_block_is_one_of_its_own_range(name: str) -> None:
    first = error_blocks.first_code(name)
    assert 100_000 <= first <= 2**31 - error_codes.BLOCK_SIZE
    assert first % error_codes.BLOCK_SIZE == 0
    assert first == error_blocks.first_code(name.upper().replace("-", "_"))


def test_disabled_plugins_are_not_imported(site: Site) -> None:
    site.install("pegboard-broken", "raise SystemExit", "broken")
    site.install("pegboard-things", VALID, "things")
    broken, things = discover(site.points(), enabled=("things",))
    assert (broken.state, broken.error, things.state) == (State.DISABLED, None, State.READY)


# Serving -----------------------------------------------------------------------------------------------------


MAKING = """
CREATE TABLE things (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    "_version" bigint NOT NULL
);
"""
FILLING = "INSERT INTO things SELECT gen_random_uuid(), 'made by a file', now(), now(), 1;"


@pytest.fixture
async def serve_all(serve: Serve, postgres: str, site: Site) -> Callable[..., object]:
    """Return a function that serves all plugins installed in the folder, with a separate database."""

    async def start(**changes: object) -> Api:
        url = changes.pop("database_url", None) or await new_database(postgres)
        return await serve(discover(site.points()), database_url=url, **changes)

    return start


async def test_a_plugin_creates_its_table_by_numbered_migrations(site: Site, serve_all: Callable[..., object]) -> None:
    site.install("pegboard-things", VALID, "things", _0001_make=MAKING, _0002_fill=FILLING)
    api: Api = await serve_all()  # type: ignore[misc]  # returns a coroutine
    page = (await api.get("/things")).json
    assert [item["name"] for item in page["items"]] == ["made by a file"]
    assert (await api.post("/things", {"name": "made by a client"})).status == 201
    (row,) = (await api.get("/plugins")).json["items"]
    assert (row["state"], row["migrations"]) == ("ready", ["0001_make.sql", "0002_fill.sql"])
    # Another start with the same database applies nothing.
    again: Api = await serve_all(database_url=api.service.settings.database_url)  # type: ignore[misc]  # as above
    assert len((await again.get("/things")).json["items"]) == 2


@pytest.mark.parametrize("sql", ["CREATE TABLE things (", "SELECT 1 / 0", "DROP TABLE nothing_there"])
async def test_a_failing_migration_does_not_affect_other_plugins(
    site: Site, serve_all: Callable[..., object], sql: str
) -> None:
    site.install("pegboard-broken", VALID, "broken", _0001_make=MAKING, _0002_break=f"{FILLING} {sql};")
    site.install("pegboard-things", VALID, "things")
    site.install("pegboard-fallen", "1 / 0", "fallen")
    api: Api = await serve_all(plugins_required=("things",))  # type: ignore[misc]  # returns a coroutine
    for path in ("/broken", "/fallen"):
        response = await api.get(path)
        assert (response.status, response.errors) == (503, [(15002, None)])
    assert (await api.post("/things", {"name": "x"})).status == 201
    assert (await api.get("/ready")).status == 200
    rows = {row["name"]: row for row in (await api.get("/plugins")).json["items"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "broken": "failed",
        "things": "ready",
        "fallen": "failed",
    }
    assert rows["broken"]["fault"].startswith("0002_break")
    assert rows["broken"]["migrations"] == ["0001_make.sql"]
    assert [entry["name"] for entry in (await api.get("/")).json["resources"]] == ["things"]
    # The failed migration left nothing behind.
    assert await api.service.database.write.fetchval("SELECT count(*) FROM broken.things") == 0


@pytest.mark.parametrize(
    "code",
    [
        VALID + "    def __init__(self): raise LookupError('no luck')\n",
        VALID.replace("name =", "sort ="),
        VALID + "    default_limit = 0\n",
        VALID + "    indexes = ('nothing',)\n",
    ],
)
async def test_a_plugin_that_cannot_be_mounted_does_not_affect_others(
    site: Site, serve_all: Callable[..., object], code: str
) -> None:
    site.install("pegboard-broken", code, "broken")
    site.install("pegboard-things", VALID, "things")
    api: Api = await serve_all()  # type: ignore[misc]  # returns a coroutine
    assert (await api.get("/broken")).status == 503
    assert (await api.get("/things")).status == 200
    rows = {row["name"]: row for row in (await api.get("/plugins")).json["items"]}
    assert (rows["broken"]["state"], bool(rows["broken"]["fault"])) == ("failed", True)


async def test_conflicting_names_are_503(site: Site, serve_all: Callable[..., object]) -> None:
    site.install("pegboard-one", VALID, "things")
    site.install("pegboard-two", VALID, "things")
    site.install("pegboard-health", VALID, "health")
    api: Api = await serve_all(plugins_required=("things",))  # type: ignore[misc]  # returns a coroutine
    assert (await api.get("/things")).status == 503
    assert (await api.get("/ready")).status == 503
    assert (await api.get("/health")).json == {"status": "ok"}
    rows = (await api.get("/plugins")).json["items"]
    assert sorted((row["name"], row["state"]) for row in rows) == [
        ("health", "failed"),
        ("things", "conflict"),
        ("things", "conflict"),
    ]
