"""References between resources: enforced by the database, and expanded by `?expand=`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from pegboard import ApiError, Context, Resource, Schema, TableResource, errors, validate
from pegboard.hosting.checks.declaration import problem
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
MISSING_ID = "00000000-0000-7000-8000-000000000000"
NDJSON = {"Accept": "application/x-ndjson"}


class Company(Schema):
    name = fields.String(required=True, validate=validate.Length(1, 100))
    worth = fields.Decimal(allow_none=True)
    initial = fields.Function(lambda item: item["name"][:1])
    note = fields.String(load_only=True, allow_none=True)


class Companies(TableResource):
    """Employers."""

    schema = Company
    verbs = ALL
    reads: list[list[str]] = []

    async def retrieve_all(self, context: Context, identities: Sequence[str]) -> Sequence[dict[str, Any]]:
        self.reads.append(list(identities))
        return await super().retrieve_all(context, identities)


class Person(Schema):
    name = fields.String(required=True)
    score = fields.Float(allow_none=True)
    company = fields.Reference("companies", allow_none=True)
    manager = fields.Reference("people")
    secret = fields.Reference("companies", load_only=True)


class People(TableResource):
    """Employees and their managers."""

    schema = Person
    verbs = ALL
    creates_by_put = True


class Visit(Schema):
    guest = fields.Reference("people", required=True, data_key="who")
    host = fields.Reference("companies", required=True)
    day = fields.Date(allow_none=True)
    kind = fields.Constant("visit")


class Visits(TableResource):
    """Visits of people to companies."""

    schema = Visit
    verbs = ALL


class Hidden(TableResource):
    """Companies of which only some are visible."""

    schema = Company
    verbs = "GET", "POST"

    async def retrieve(self, context: Context, identity: str) -> dict[str, Any]:
        item = await super().retrieve(context, identity)
        if item["name"] == "hidden":
            raise errors.NotFound
        return item


class Unread(TableResource):
    """Write-only items."""

    schema = Company
    verbs = ("POST",)


class Seeing(Schema):
    hidden = fields.Reference("hidden")
    unread = fields.Reference("unread")


class Seen(TableResource):
    """Items with references to unreadable ones."""

    schema = Seeing
    verbs = "GET", "POST"


class Note(Schema):
    company = fields.Reference("companies")


class Notes(Resource):
    """Notes outside the database."""

    schema = Note
    verbs = ("GET",)
    kept: list[dict[str, Any]] = []

    async def list(self, context: Context) -> list[dict[str, Any]]:
        return self.kept


RESOURCES: dict[str, type[Resource]] = {
    "companies": Companies,
    "people": People,
    "visits": Visits,
    "hidden": Hidden,
    "unread": Unread,
    "seen": Seen,
    "notes": Notes,
}


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    running = await serve([plugin(name, resource) for name, resource in RESOURCES.items()])
    await running.service.clients.add("both", "a password", ["companies:GET", "people:*"])
    await running.service.clients.add("people-only", "a password", ["people:*"])
    return running


@pytest.fixture
async def api(running: Api) -> Api:
    await running.service.database.write.execute("TRUNCATE companies.companies, people.people, visits.visits")
    Companies.reads.clear()
    return running


async def create(api: Api, path: str, **values: Any) -> Any:
    response = await api.post(path, values)
    assert response.status == 201, response.body
    return response.json


# Enforcement by the database.


async def test_a_reference_is_an_id_in_and_out(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"].upper())
    assert person["company"] == company["id"]
    assert person["manager"] is None
    assert (await api.patch(f"/people/{person['id']}", {"company": None})).json["company"] is None


@pytest.mark.parametrize(("value", "code"), [("x", 11011), (7, 11004), ({"id": MISSING_ID}, 11004)])
async def test_what_is_no_id_is_refused(api: Api, value: Any, code: int) -> None:
    response = await api.post("/people", {"name": "Ada", "company": value})
    assert response.status == 422
    assert response.errors == [(code, "/company")]


async def test_an_id_that_leads_nowhere_is_a_fault_of_its_field(api: Api) -> None:
    person = await create(api, "/people", name="Ada")
    path = f"/people/{person['id']}"
    for response in (
        await api.post("/people", {"name": "Ada", "company": MISSING_ID}),
        await api.put(path, {"name": "Ada", "company": MISSING_ID}),
        await api.patch(path, {"company": MISSING_ID}),
    ):
        assert response.status == 422
        assert response.errors == [(errors.InvalidValue.code, "/company")]
    assert (await api.post("/people", {"name": "Ada", "manager": MISSING_ID})).errors == [(11000, "/manager")]
    visit = {"who": MISSING_ID, "host": (await create(api, "/companies", name="A"))["id"]}
    assert (await api.post("/visits", visit)).errors == [(11000, "/who")]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
async def test_in_an_array_the_pointer_begins_with_the_place(api: Api, headers: dict[str, str]) -> None:
    people: list[dict[str, Any]] = [{"name": f"{number}"} for number in range(5)]
    people[3]["company"] = MISSING_ID
    response = await api.post("/people", people, headers=headers)
    assert response.status == 422
    assert response.errors == [(11000, "/3/company")]
    assert (await api.get("/people")).json["items"] == []


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "several"}])
async def test_all_that_leads_nowhere_is_told_at_once(api: Api, headers: dict[str, str]) -> None:
    company = (await create(api, "/companies", name="Analytical"))["id"]
    person = {"name": "Ada", "company": MISSING_ID, "manager": MISSING_ID}
    expected = [(11000, "/company"), (11000, "/manager")]
    assert (await api.post("/people", person, headers=headers)).errors == expected
    assert (await api.post("/people", {**person, "company": company}, headers=headers)).errors == expected[1:]
    array = [{**person, "company": company}, {"name": "Bob"}, person]
    response = await api.post("/people", array, headers=headers)
    assert (response.status, response.errors) == (
        422,
        [(11000, f"/{at}") for at in ("0/manager", "2/company", "2/manager")],
    )
    assert (await api.get("/people")).json["items"] == []
    path = (await api.post("/people", {"name": "Ada", "company": company})).headers["Location"]
    assert (await api.put(path, person)).errors == expected
    assert (await api.patch(path, {"company": MISSING_ID, "manager": MISSING_ID})).errors == expected
    kind = {"Content-Type": "application/json-patch+json"}
    patch = [{"op": "replace", "path": f"/{name}", "value": MISSING_ID} for name in ("company", "manager")]
    assert (await api.patch(path, patch, headers=kind)).errors == expected
    assert (await api.put(f"/people/{MISSING_ID}", person)).errors == expected


async def test_a_reference_that_fails_takes_nothing_with_it_within_a_transaction(api: Api) -> None:
    company = (await create(api, "/companies", name="Analytical"))["id"]
    path = f"/people/{(await create(api, '/people', name='Ada', company=company))['id']}"
    # Both references are set in the transaction that the precondition requires.
    headers = {"If-Unmodified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"}
    both = {"company": company, "manager": path.rpartition("/")[2]}
    assert (await api.patch(path, both, headers=headers)).status == 200
    assert {**(await api.get(path)).json, **both} == (await api.get(path)).json


async def test_what_is_referred_to_cannot_be_deleted(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    boss = await create(api, "/people", name="Ada", company=company["id"])
    await create(api, "/people", name="Bob", manager=boss["id"])
    for path in (f"/companies/{company['id']}", f"/people/{boss['id']}"):
        response = await api.delete(path)
        assert response.status == 409
        assert response.errors == [(errors.StillReferenced.code, None)]
        assert (await api.get(path)).status == 200


async def test_one_may_refer_to_oneself_and_go(api: Api) -> None:
    person = await create(api, "/people", name="Ada")
    path = f"/people/{person['id']}"
    assert (await api.patch(path, {"manager": person["id"]})).json["manager"] == person["id"]
    assert (await api.get(f"{path}?expand=manager")).json["manager"]["manager"] == person["id"]
    assert (await api.delete(path)).status == 204


async def test_a_reference_is_filtered_and_sorted_by_as_an_id(api: Api) -> None:
    one, two = [(await create(api, "/companies", name=name))["id"] for name in "ab"]
    for name, company in (("x", two), ("y", one), ("z", None)):
        await create(api, "/people", name=name, company=company)

    async def names(query: str) -> str:
        response = await api.get(f"/people?{query}")
        assert response.status == 200, response.body
        return "".join(item["name"] for item in response.json["items"])

    assert await names(f"company={one.upper()}") == "y"
    assert await names(f"company__in={one},{two}") == "xy"
    assert await names(f"company__ne={one}") == "xz"
    assert await names("company__isnull=true") == "z"
    assert await names("sort=company") == "yxz"
    assert await names("sort=-company") == "zxy"
    assert (await api.get("/people?company=x")).errors == [(errors.InvalidParameter.code, "company")]


async def test_a_reference_has_an_index_and_a_foreign_key(api: Api) -> None:
    fetch = api.service.database.write.fetch
    indexes = await fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'people'")
    assert {"people_company_index", "people_manager_index"} <= {row["indexname"] for row in indexes}
    keys = await fetch("SELECT conname FROM pg_constraint WHERE conrelid = 'people.people'::regclass AND contype = 'f'")
    assert {row["conname"] for row in keys} == {
        "people_company_reference",
        "people_manager_reference",
        "people_secret_reference",
    }


# Results of `expand`.


async def test_the_item_stands_in_place_of_its_id_as_its_own_resource_shows_it(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical", worth="1.50", note="hush")
    person = await create(api, "/people", name="Ada", score=0.1, company=company["id"])
    full = (await api.get(f"/companies/{company['id']}")).json
    assert full["initial"] == "A"
    assert "note" not in full
    response = await api.get(f"/people/{person['id']}?expand=company")
    assert response.json == {**person, "company": full}
    assert list(response.json) == list(person)
    page = await api.get("/people?expand=company")
    assert page.json["items"] == [{**person, "company": full}]
    head = await api.head(f"/people/{person['id']}?expand=company")
    assert head.headers["Content-Length"] == str(len(response.body))
    assert head.headers["ETag"] == response.headers["ETag"]


async def test_null_stays_null_and_costs_nothing(api: Api) -> None:
    person = await create(api, "/people", name="Ada")
    assert (await api.get(f"/people/{person['id']}?expand=company,manager")).json == person
    assert (await api.get("/people?expand=company")).json["items"] == [person]
    assert Companies.reads == []


async def test_a_page_asks_once_for_each_relation(api: Api) -> None:
    ids = [(await create(api, "/companies", name=name))["id"] for name in "abc"]
    people = [{"name": f"{number}", "company": ids[number % 3]} for number in range(40)]
    await api.post("/people", people)
    response = await api.get("/people?expand=company&limit=30")
    assert [item["company"]["name"] for item in response.json["items"]] == list("abc" * 10)
    assert "expand=company" in response.json["next"]
    assert Companies.reads == [sorted(ids)]
    following = await api.get(response.json["next"])
    assert [item["company"]["name"] for item in following.json["items"]] == list("abcabcabca")


async def test_several_references_are_expanded_at_once_and_one_deep(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    boss = await create(api, "/people", name="Ada", company=company["id"])
    person = await create(api, "/people", name="Bob", company=company["id"], manager=boss["id"])
    item = (await api.get(f"/people/{person['id']}?expand=manager,company")).json
    assert item == {**person, "manager": boss, "company": company}
    visit = await create(api, "/visits", who=person["id"], host=company["id"], day="2026-01-02")
    assert visit["who"] == person["id"]
    assert (await api.get("/visits?expand=who&fields=day")).json["items"] == [
        {"id": visit["id"], "who": person, "day": "2026-01-02"}
    ]


async def test_fields_pick_beside_what_is_expanded(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    for path in (f"/people/{person['id']}?fields=name&expand=company", "/people?fields=name&expand=company"):
        response = (await api.get(path)).json
        item = response["items"][0] if "items" in response else response
        assert item == {"id": person["id"], "name": "Ada", "company": company}


@pytest.mark.parametrize("name", ["name", "secret", "compny", "", "company,,manager"])
async def test_only_a_reference_that_is_shown_can_be_expanded(api: Api, name: str) -> None:
    for path in ("/people", f"/people/{MISSING_ID}"):
        response = await api.get(f"{path}?expand={name}")
        assert response.status == 400
        assert response.errors == [(errors.InvalidParameter.code, "expand")]


async def test_a_resource_without_references_knows_no_expand(api: Api) -> None:
    response = await api.get("/companies?expand=name")
    assert response.status == 400
    assert response.errors == [(errors.UnknownParameter.code, "expand")]


async def test_the_answer_to_a_write_can_be_expanded(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    id = company["id"]
    created = await api.post("/people?expand=company", {"name": "Ada", "company": id})
    assert created.status == 201
    assert created.json["company"] == company
    path = created.headers["Location"]
    assert (await api.put(f"{path}?expand=company", {"name": "Bob", "company": id})).json["company"] == company
    patched = await api.patch(f"{path}?expand=company", {"name": "Cid"})
    assert patched.json["company"] == company
    assert patched.headers["ETag"] == (await api.get(f"{path}?expand=company")).headers["ETag"]
    test = [{"op": "test", "path": "/company", "value": id}]
    kind = {"Content-Type": "application/json-patch+json"}
    assert (await api.patch(f"{path}?expand=company", test, headers=kind)).json["company"] == company
    new = await api.put(f"/people/{uuid4()}?expand=company", {"name": "Eve", "company": id})
    assert (new.status, new.json["company"]) == (201, company)
    several = await api.post("/people?expand=company", [{"name": "Flo", "company": id}, {"name": "Gus"}])
    assert [item["company"] for item in several.json["items"]] == [company, None]
    assert set(several.json["items"][0]) == set(created.json)


async def test_a_stored_answer_is_not_given_to_who_asks_for_less(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    body, headers = {"name": "Ada", "company": company["id"]}, {"Idempotency-Key": "expanded"}
    first = await api.post("/people?expand=company", body, headers=headers)
    again = await api.post("/people?expand=company", body, headers=headers)
    assert first.json["company"] == company
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    assert (await api.post("/people", body, headers=headers)).status == 422


async def test_an_export_is_expanded_part_by_part(api: Api) -> None:
    ids = [(await create(api, "/companies", name=name))["id"] for name in "abc"]
    people = [{"name": f"{number}", "company": ids[number % 3]} for number in range(999)]
    await api.post("/people", [*people, {"name": "alone"}])
    response = await api.get("/people?expand=company", headers=NDJSON)
    assert response.status == 200
    lines = [replace(response, body=line).json for line in response.body.splitlines()]
    assert [line["company"] and line["company"]["name"] for line in lines] == [*("abc" * 333), None]
    assert 1 <= len(Companies.reads) <= 10
    page = await api.get("/people?expand=company&limit=2")
    assert lines[:2] == page.json["items"]


async def test_csv_has_no_place_for_it(api: Api) -> None:
    response = await api.get("/people?expand=company", headers={"Accept": "text/csv"})
    assert response.status == 400
    assert response.errors == [(errors.InvalidParameter.code, "expand")]


async def test_what_its_own_resource_hides_is_null(api: Api) -> None:
    shown = await create(api, "/hidden", name="shown")
    hidden = await create(api, "/hidden", name="hidden")
    await create(api, "/seen", hidden=shown["id"])
    await create(api, "/seen", hidden=hidden["id"])
    assert [item["hidden"] for item in (await api.get("/seen?expand=hidden")).json["items"]] == [shown, None]
    lines = (await api.get("/seen?expand=hidden", headers=NDJSON)).body.splitlines()
    assert [b'"hidden":null' in line for line in lines] == [False, True]
    assert (await api.post("/seen?expand=hidden", {"hidden": shown["id"]})).json["hidden"] == shown


async def test_a_resource_that_is_no_table_can_refer_too(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    ids = [str(uuid4()) for _ in range(3)]
    Notes.kept[:] = [{"id": ids[0], "company": company["id"]}, {"id": ids[1], "company": MISSING_ID}, {"id": ids[2]}]
    response = await api.get("/notes?expand=company")
    shown = {item["id"]: item.get("company", "absent") for item in response.json["items"]}
    assert shown == {ids[0]: company, ids[1]: None, ids[2]: "absent"}


# Authorization.


async def test_a_client_sees_only_what_it_may_get(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    path = f"/people/{person['id']}"
    both, people = (api.as_client(name, "a password") for name in ("both", "people-only"))
    assert (await both.get(f"{path}?expand=company")).json["company"] == company
    assert (await people.get(path)).json["company"] == company["id"]
    assert (await people.get(f"{path}?expand=manager")).status == 200
    for response in (
        await people.get(f"{path}?expand=company"),
        await people.get("/people?expand=manager,company"),
        await people.get("/people?expand=company", headers=NDJSON),
        await people.post("/people?expand=company", {"name": "Bob"}),
        await people.post("/people?expand=company", {"name": "Bob"}, headers={"Idempotency-Key": "may not"}),
        await people.put(f"{path}?expand=company", {"name": "Bob"}),
        await people.patch(f"{path}?expand=company", {"name": "Bob"}),
    ):
        assert response.status == 403
        assert response.errors == [(errors.Forbidden.code, "expand")]
        assert "companies" in response.json["errors"][0]["message"]
    assert [item["name"] for item in (await api.get("/people")).json["items"]] == ["Ada"]


async def test_what_has_no_get_is_shown_to_nobody(api: Api) -> None:
    response = await api.get("/seen?expand=unread")
    assert response.status == 403
    assert response.errors == [(errors.Forbidden.code, "expand")]


# Conditional requests.


async def test_the_tag_changes_with_what_is_embedded(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    path = f"/people/{person['id']}?expand=company"
    first = await api.get(path)
    tag = first.headers["ETag"]
    plain = (await api.get(f"/people/{person['id']}")).headers["ETag"]
    assert tag.startswith(plain[:-1] + ".")
    assert (await api.get(f"{path}&fields=name")).headers["ETag"] == tag
    assert (await api.get(path, headers={"If-None-Match": tag})).status == 304
    assert (await api.get(path, headers={"If-None-Match": plain})).status == 200
    assert (await api.get(f"/people/{person['id']}", headers={"If-None-Match": tag})).status == 200
    page = (await api.get("/people?expand=company")).headers["ETag"]
    await api.patch(f"/companies/{company['id']}", {"name": "Differential"})
    changed = await api.get(path, headers={"If-None-Match": tag})
    assert (changed.status, changed.json["company"]["name"]) == (200, "Differential")
    assert changed.headers["ETag"] != tag
    assert (await api.get("/people?expand=company", headers={"If-None-Match": page})).status == 200


@pytest.mark.parametrize("ending", ['"', '-gzip"'])
async def test_the_tag_still_serves_to_change_the_item(api: Api, ending: str) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    path = f"/people/{person['id']}"
    tag = (await api.get(f"{path}?expand=company")).headers["ETag"][:-1] + ending
    await api.patch(f"/companies/{company['id']}", {"name": "Differential"})
    assert (await api.get(f"{path}?expand=company", headers={"If-Match": tag})).status == 200
    assert (await api.patch(path, {"name": "Bob"}, headers={"If-Match": tag})).status == 200
    refused = await api.patch(path, {"name": "Cid"}, headers={"If-Match": tag})
    assert refused.status == 412
    current = refused.headers["ETag"]
    other = {"If-Match": current, "If-None-Match": '"x"'}
    assert (await api.delete(path, headers={**other, "If-Match": tag})).status == 412
    assert (await api.delete(path, headers=other)).status == 204


async def test_a_compressed_answer_has_its_own_tag(api: Api) -> None:
    company = await create(api, "/companies", name="x" * 100, note=None)
    person = await create(api, "/people", name="Ada" * 500, company=company["id"])
    path = f"/people/{person['id']}?expand=company"
    zipped = await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["ETag"].endswith('-gzip"')
    again = await api.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": zipped.headers["ETag"]})
    assert again.status == 304


async def test_last_modified_is_the_newest_of_what_is_shown(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    await api.service.database.write.execute(
        "UPDATE companies.companies SET updated_at = updated_at + interval '1 hour'"
    )
    path = f"/people/{person['id']}"
    plain = await api.get(path)
    expanded = await api.get(f"{path}?expand=company")
    company_alone = await api.get(f"/companies/{company['id']}")
    assert expanded.headers["Last-Modified"] == company_alone.headers["Last-Modified"]
    assert expanded.headers["Last-Modified"] != plain.headers["Last-Modified"]
    since = {"If-Modified-Since": plain.headers["Last-Modified"]}
    assert (await api.get(path, headers=since)).status == 304
    assert (await api.get(f"{path}?expand=company", headers=since)).status == 200


async def test_what_is_deleted_while_it_is_read_is_null_and_never_a_fault(api: Api) -> None:
    companies = [await create(api, "/companies", name=f"{number}") for number in range(20)]
    person = await create(api, "/people", name="Ada")
    path = f"/people/{person['id']}"
    stop = asyncio.Event()

    async def read() -> None:
        while not stop.is_set():
            response = await api.get(f"{path}?expand=company")
            assert response.status == 200
            assert response.json["company"] is None or response.json["company"]["name"]

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for company in companies:
        await api.patch(path, {"company": company["id"]})
        await api.patch(path, {"company": None})
        assert (await api.delete(f"/companies/{company['id']}")).status == 204
    stop.set()
    await asyncio.gather(*readers)


# Failed and missing plugins.


async def test_a_target_that_is_down_is_told_and_the_rest_serves(api: Api, serve: Serve) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    broken = plugin("companies", Companies)
    broken.fail("it is broken")
    without = [plugin("people", People), plugin("visits", Visits)]
    for plugins in ([broken, *without], without):
        down = await serve(plugins)
        for path in (f"/people/{person['id']}", "/people"):
            assert (await down.get(f"{path}?expand=manager")).status == 200
            response = await down.get(f"{path}?expand=company")
            assert response.status == 503
            assert response.errors == [(errors.PluginUnavailable.code, "expand")]
            assert "companies" in response.json["errors"][0]["message"]
            assert response.headers["Retry-After"] == "60"
        refused = await down.post("/people?expand=company", {"name": "Bob", "company": company["id"]})
        assert refused.status == 503
        assert (await down.as_client("people-only", "a password").get("/people?expand=company")).status == 403
    assert len((await api.get("/people")).json["items"]) == 1


class Lost(Schema):
    other = fields.Reference("nowhere")


class Losing(TableResource):
    schema = Lost
    verbs = ("GET",)


async def test_a_reference_to_what_is_not_there_fails_its_plugin_by_name(serve: Serve) -> None:
    lost = plugin("lost", Losing)
    api = await serve([lost, plugin("companies", Companies)])
    assert lost.error is not None
    assert "nowhere" in lost.error
    assert (await api.get("/lost")).status == 503
    assert (await api.get("/companies")).status == 200


def test_a_list_of_references_is_refused_by_name() -> None:
    class Listing(Schema):
        companies = fields.List(fields.Reference("companies"))

    class Listed(TableResource):
        schema = Listing
        verbs = ("GET",)

    error = problem(Listed)
    assert error is not None
    assert "companies" in error


async def test_a_resource_reaches_another_by_name(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    people = api.service.resource("people")
    client = (await api.service.clients.list())[0]
    context = Context(client, "a request", people.rules().default_query)
    found = await people.resources("companies").retrieve_all(context, [company["id"], MISSING_ID])
    assert [item["name"] for item in found] == ["Analytical"]
    with pytest.raises(ApiError, match="nowhere"):
        people.resources("nowhere")
