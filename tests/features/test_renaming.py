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
from tests.hosting.test_discovery import VALID, Site, site

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
