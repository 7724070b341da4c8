"""Resources at other names: renamed by their author between versions, or mounted elsewhere by an operator."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from pegboard import Schema, TableResource, fields
from pegboard.hosting.discovery import Plugin, State, discover
from pegboard.settings import Settings, SettingsError
from tests.conftest import Serve, plugin
from tests.installed import VALID, Site, site

__all__ = ("site",)


class Contact(Schema):
    """A person."""

    name = fields.String(required=True)
    boss = fields.Reference("contacts", allow_none=True)


class Contacts(TableResource):
    """The people, in the first version."""

    schema = Contact


class People(TableResource):
    """The people, in the second version."""

    schema = Contact
    former_names = ("contacts",)


class Visit(Schema):
    """A visit, whose author does not know of the renaming."""

    who = fields.Reference("contacts", required=True)


class Visits(TableResource):
    """The visits."""

    schema = Visit


async def test_a_renamed_resource_keeps_its_table_grants_and_links(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    before = await serve([plugin("contacts", Contacts), plugin("visits", Visits)])
    ada = (await before.post("/contacts", {"name": "Ada"})).json
    visit = (await before.post("/visits", {"who": ada["id"]})).json
    tag = (await before.get(f"/contacts/{ada['id']}")).headers["ETag"]
    await before.service.clients.add("reader", "a password", ["contacts:GET", "visits:*"])

    caplog.set_level(logging.INFO, "pegboard")
    after = await serve([plugin("people", People), plugin("visits", Visits)])
    assert "plugin people: /contacts redirects to it, and grants on contacts apply to it" in caplog.messages
    response = await after.get(f"/people/{ada['id']}")
    assert (response.json, response.headers["ETag"]) == (ada, tag)
    assert [item["id"] for item in (await after.get("/visits?expand=who")).json["items"]] == [visit["id"]]
    assert (await after.get("/visits?expand=who")).json["items"][0]["who"] == ada
    assert (await after.post("/visits", {"who": ada["id"]})).status == 201
    assert (await after.delete(f"/people/{ada['id']}")).status == 409

    # Of the same item, under its former name.
    for path in (f"/contacts/{ada['id']}", f"/contacts/{ada['id']}?fields=name", "/contacts", "/contacts/"):
        moved = await after.get(path)
        expected = path.replace("/contacts", "/people").rstrip("/")
        assert (moved.status, moved.headers["Location"]) == (308, expected)
    assert (await after.post("/contacts", {"name": "Bob"})).status == 308
    page = await after.get("/docs/contacts")
    assert (page.status, page.headers["Location"]) == (308, "/docs/people")
    assert (await after.as_client("", "").get("/contacts")).status == 401

    reader = after.as_client("reader", "a password")
    assert (await reader.get(f"/people/{ada['id']}")).status == 200
    assert (await reader.post("/people", {"name": "Eve"})).status == 403
    assert (await reader.get("/visits?expand=who")).json["items"][0]["who"] == ada
    await after.service.clients.add("new", "a password", ["people:GET", "visits:GET"])
    assert (await after.as_client("new", "a password").get("/visits?expand=who")).status == 200

    # A replica of the version before runs beside it, and does afterwards.
    again = await serve([plugin("contacts", Contacts), plugin("visits", Visits)])
    assert (await again.get(f"/contacts/{ada['id']}")).json == ada
    assert (await after.get(f"/people/{ada['id']}")).json == ada


async def test_a_former_name_that_is_taken_is_a_conflict(site: Site) -> None:
    site.install("pegboard-contacts", VALID, "contacts")
    site.install("pegboard-people", VALID + "    former_names = ('contacts',)\n", "people")
    states = {plugin.name: (plugin.state, plugin.error) for plugin in discover(site.points())}
    assert states["contacts"] == (State.READY, None)
    assert states["people"] == (State.CONFLICT, "its former name contacts is also one of the plugin contacts")


def named(plugins: list[Plugin]) -> dict[str, tuple[State, str, tuple[str, ...]]]:
    return {plugin.name: (plugin.state, plugin.storage, plugin.aliases) for plugin in plugins}


def test_an_operator_mounts_a_resource_at_another_name(site: Site) -> None:
    site.install("pegboard-contacts", VALID, "contacts")
    mounts = dict(Settings.load({"PEGBOARD_MOUNTS": "contacts=people"}, ["contacts"]).mounts)
    assert named(discover(site.points(), mounts=mounts)) == {"people": (State.READY, "contacts", ("contacts",))}


def test_of_two_with_one_name_an_operator_mounts_one_elsewhere(site: Site) -> None:
    site.install("pegboard-contacts", VALID, "contacts")
    site.install("Other_Contacts", VALID, "contacts")
    conflict = discover(site.points())
    assert [plugin.state for plugin in conflict] == [State.CONFLICT] * 2
    assert "PEGBOARD_MOUNTS=Other_Contacts/contacts=OTHER_NAME" in str([plugin.error for plugin in conflict])
    mounts = dict(Settings.load({"PEGBOARD_MOUNTS": "other-contacts/contacts=people"}, ["contacts"]).mounts)
    assert named(discover(site.points(), mounts=mounts)) == {
        "contacts": (State.READY, "contacts", ()),
        "people": (State.READY, "people", ()),
    }


@pytest.mark.parametrize(
    "value",
    ["contacts", "contacts=", "=people", "a=b=c", "contacts=People", "a=b,a=c", "a=c,b=c", "a/b/c=d", "a=b,", "A=b"],
)
def test_invalid_mounts_are_rejected(value: str) -> None:
    with pytest.raises(SettingsError, match="PEGBOARD_MOUNTS must be pairs such as contacts=people"):
        Settings.load({"PEGBOARD_MOUNTS": value}, ["a", "b", "contacts"])


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ({"contacts": "docs"}, "the name 'docs' is not valid for a resource"),
        ({"contacts": "pg_x"}, "the name 'pg_x' is not valid for a resource"),
    ],
)
def test_a_mount_needs_a_valid_name(site: Site, mounts: Mapping[str, Any], message: str) -> None:
    site.install("pegboard-contacts", VALID, "contacts")
    [found] = discover(site.points(), mounts=mounts)
    assert message in (found.error or "")


async def test_limits_and_settings_go_by_the_name_at_which_a_resource_is_mounted() -> None:
    environ = {"PEGBOARD_MOUNTS": "contacts=people", "PEGBOARD_PLUGIN_REQUESTS": "5,people=2", "PEGBOARD_PEOPLE_X": "1"}
    assert Settings.load(environ, ["contacts"]).plugin_requests.of("people") == 2


def test_a_mount_of_a_plugin_that_is_not_installed_is_rejected() -> None:
    with pytest.raises(SettingsError, match="MOUNTS names the plugin contcts, which is not installed"):
        Settings.load({"PEGBOARD_MOUNTS": "contcts=people"}, ["contacts"])


@pytest.mark.parametrize("name", ["", "A", "docs", "pegboard", "pg_x", "public", "a/b", "1abc", "a" * 41])
def test_an_invalid_former_name_is_reported(site: Site, name: str) -> None:
    site.install("pegboard-people", VALID + f"    former_names = ({name!r},)\n", "people")
    [found] = discover(site.points())
    assert f"former_names: the name {name!r} is not valid for a resource" in (found.error or "")


async def test_former_names_in_the_wrong_order_are_reported(serve: Serve) -> None:
    class Renamed(Contacts):
        """Lists the newer name first."""

        former_names = ("newer", "contacts-of-old")

    await serve([plugin("contacts-of-old", Contacts)])
    found = plugin("people-of-now", Renamed)
    await serve([found])
    assert found.error == "its data is in the schema contacts-of-old: list contacts-of-old first in former_names"


async def test_a_retry_across_a_renaming_gets_the_first_response(serve: Serve) -> None:
    class Successors(Contacts):
        """The second version."""

        former_names = ("ancestors",)

    headers = {"Idempotency-Key": "before and after"}
    before = await serve([plugin("ancestors", Contacts)])
    first = await before.post("/ancestors", {"name": "Ada"}, headers=headers)
    after = await serve([plugin("successors", Successors)])
    again = await after.post("/successors", {"name": "Ada"}, headers=headers)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")


async def test_the_data_of_a_distribution_is_not_given_to_another(serve: Serve) -> None:
    before = await serve([plugin("things", Contacts, distribution="pegboard-alpha")])
    assert (await before.post("/things", {"name": "Ada"})).status == 201
    first = plugin("people", Contacts, distribution="pegboard-alpha")
    first.entry_point, first.keeps_data_apart = "things", True
    second = plugin("things", Contacts, distribution="Pegboard_Beta")
    await serve([first, second])
    assert first.error == (
        "its data is in the schema things: mount it as things=people, or mount the other distribution's at another name"
    )
    assert second.error == (
        "the data in the schema things belongs to pegboard-alpha: mount this plugin at another name, "
        "PEGBOARD_MOUNTS=pegboard-beta/NAME=OTHER_NAME"
    )
    # As the operator is told: the new one elsewhere. Or the first is uninstalled, and the second takes over.
    first, second = (plugin(name, Contacts, distribution=f"pegboard-{name}") for name in ("things", "more"))
    first.distribution, second.keeps_data_apart, second.entry_point = "pegboard-alpha", True, "things"
    both = await serve([first, second])
    assert (first.error, second.error) == (None, None)
    assert (await both.get("/things?count=exact")).json["total"] == 1
    assert (await both.get("/more?count=exact")).json["total"] == 0
    successor = plugin("things", Contacts, distribution="pegboard-beta")
    alone = await serve([successor])
    assert (await alone.get("/things?count=exact")).json["total"] == 1


def test_a_mount_of_a_distribution_that_is_not_installed_is_rejected(site: Site) -> None:
    site.install("pegboard-contacts", VALID, "contacts")
    with pytest.raises(SettingsError, match=r"names pegboard-contcts/contacts, which is not installed. Did you mean"):
        discover(site.points(), mounts={"pegboard-contcts/contacts": "people"})


def test_a_mount_does_not_change_the_prefix_of_settings(site: Site) -> None:
    code = VALID + "    class settings_schema(Schema):\n        word = fields.String(required=True)\n"
    site.install("pegboard-contacts", code, "contacts")
    environ = {"PEGBOARD_MOUNTS": "contacts=people", "PEGBOARD_CONTACTS_WORD": "x"}
    mounts = dict(Settings.load(environ, ["contacts"]).mounts)
    [found] = discover(site.points(), environ=environ, mounts=mounts)
    assert (found.error, found.settings) == (None, {"word": "x"})
    with pytest.raises(SettingsError, match="names the plugin contacts, which is not installed"):
        Settings.load({**environ, "PEGBOARD_PLUGIN_REQUESTS": "5,contacts=2"}, ["contacts"])
