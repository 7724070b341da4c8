"""References between resources: enforced by the database, and expanded by `?expand=`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from pegboard import Context, Resource, Schema, TableResource, errors, validate
from pegboard.api import declared
from pegboard.api.backend import backend_of
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

    async def retrieve(self, context: Context, id: str) -> dict[str, Any]:
        item = await super().retrieve(context, id)
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
    return running


@pytest.fixture
def reads(api: Api, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record the ids of the companies that are read to be embedded."""
    backend = backend_of(api.service.resource("companies"))
    read, ids = backend.retrieve_many, []

    async def record(context: Context, wanted: Sequence[str]) -> Any:
        ids.append(list(wanted))
        return await read(context, wanted)

    monkeypatch.setattr(backend, "retrieve_many", record)
    return ids


async def create(api: Api, path: str, **values: Any) -> Any:
    response = await api.post(path, values)
    assert response.status == 201, response.body
    return response.json


# Enforcement by the database.


async def test_a_reference_is_an_id_in_requests_and_responses(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"].upper())
    assert person["company"] == company["id"]
    assert person["manager"] is None
    assert (await api.patch(f"/people/{person['id']}", {"company": None})).json["company"] is None


@pytest.mark.parametrize(("value", "code"), [("x", 11011), (7, 11004), ({"id": MISSING_ID}, 11004)])
async def test_a_reference_that_is_not_an_id_is_rejected(api: Api, value: Any, code: int) -> None:
    response = await api.post("/people", {"name": "Ada", "company": value})
    assert response.status == 422
    assert response.errors == [(code, "/company")]


async def test_a_reference_to_a_missing_item_is_an_error_of_its_field(api: Api) -> None:
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
async def test_in_an_array_the_error_pointer_begins_with_the_index(api: Api, headers: dict[str, str]) -> None:
    people: list[dict[str, Any]] = [{"name": f"{number}"} for number in range(5)]
    people[3]["company"] = MISSING_ID
    response = await api.post("/people", people, headers=headers)
    assert response.status == 422
    assert response.errors == [(11000, "/3/company")]
    assert (await api.get("/people")).json["items"] == []


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "several"}])
async def test_all_references_to_missing_items_are_reported_together(api: Api, headers: dict[str, str]) -> None:
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


async def test_a_failed_reference_does_not_abort_the_surrounding_transaction(api: Api) -> None:
    company = (await create(api, "/companies", name="Analytical"))["id"]
    path = f"/people/{(await create(api, '/people', name='Ada', company=company))['id']}"
    # Both references are set in the transaction that the precondition requires.
    headers = {"If-Unmodified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"}
    both = {"company": company, "manager": path.rpartition("/")[2]}
    assert (await api.patch(path, both, headers=headers)).status == 200
    assert {**(await api.get(path)).json, **both} == (await api.get(path)).json


async def test_a_referenced_item_cannot_be_deleted(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    boss = await create(api, "/people", name="Ada", company=company["id"])
    await create(api, "/people", name="Bob", manager=boss["id"])
    for path in (f"/companies/{company['id']}", f"/people/{boss['id']}"):
        response = await api.delete(path)
        assert response.status == 409
        assert response.errors == [(errors.StillReferenced.code, None)]
        assert (await api.get(path)).status == 200


async def test_an_item_that_references_itself_can_be_deleted(api: Api) -> None:
    person = await create(api, "/people", name="Ada")
    path = f"/people/{person['id']}"
    assert (await api.patch(path, {"manager": person["id"]})).json["manager"] == person["id"]
    assert (await api.get(f"{path}?expand=manager")).json["manager"]["manager"] == person["id"]
    assert (await api.delete(path)).status == 204


async def test_references_are_filtered_and_sorted_as_ids(api: Api) -> None:
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


async def test_expand_replaces_an_id_by_the_item_as_its_resource_represents_it(api: Api) -> None:
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


async def test_a_null_reference_is_not_queried(api: Api, reads: list[list[str]]) -> None:
    person = await create(api, "/people", name="Ada")
    assert (await api.get(f"/people/{person['id']}?expand=company,manager")).json == person
    assert (await api.get("/people?expand=company")).json["items"] == [person]
    assert reads == []


async def test_a_page_runs_one_query_for_each_relation(api: Api, reads: list[list[str]]) -> None:
    ids = [(await create(api, "/companies", name=name))["id"] for name in "abc"]
    people = [{"name": f"{number}", "company": ids[number % 3]} for number in range(40)]
    await api.post("/people", people)
    response = await api.get("/people?expand=company&limit=30")
    assert [item["company"]["name"] for item in response.json["items"]] == list("abc" * 10)
    assert "expand=company" in response.json["next"]
    assert reads == [sorted(ids)]
    following = await api.get(response.json["next"])
    assert [item["company"]["name"] for item in following.json["items"]] == list("abcabcabca")


async def test_several_references_are_expanded_to_one_level(api: Api) -> None:
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


async def test_fields_and_expand_can_be_combined(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    person = await create(api, "/people", name="Ada", company=company["id"])
    for path in (f"/people/{person['id']}?fields=name&expand=company", "/people?fields=name&expand=company"):
        response = (await api.get(path)).json
        item = response["items"][0] if "items" in response else response
        assert item == {"id": person["id"], "name": "Ada", "company": company}


@pytest.mark.parametrize("name", ["name", "secret", "compny", "", "company,,manager"])
async def test_only_readable_references_can_be_expanded(api: Api, name: str) -> None:
    for path in ("/people", f"/people/{MISSING_ID}"):
        response = await api.get(f"{path}?expand={name}")
        assert response.status == 400
        assert response.errors == [(errors.InvalidParameter.code, "expand")]


async def test_a_resource_without_references_does_not_support_expand(api: Api) -> None:
    response = await api.get("/companies?expand=name")
    assert response.status == 400
    assert response.errors == [(errors.UnknownParameter.code, "expand")]


async def test_the_response_to_a_write_can_be_expanded(api: Api) -> None:
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


async def test_a_replay_depends_on_the_expand_parameter(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    body, headers = {"name": "Ada", "company": company["id"]}, {"Idempotency-Key": "expanded"}
    first = await api.post("/people?expand=company", body, headers=headers)
    again = await api.post("/people?expand=company", body, headers=headers)
    assert first.json["company"] == company
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    assert (await api.post("/people", body, headers=headers)).status == 422


async def test_an_export_is_expanded_in_batches(api: Api, reads: list[list[str]]) -> None:
    ids = [(await create(api, "/companies", name=name))["id"] for name in "abc"]
    people = [{"name": f"{number}", "company": ids[number % 3]} for number in range(999)]
    await api.post("/people", [*people, {"name": "alone"}])
    response = await api.get("/people?expand=company", headers=NDJSON)
    assert response.status == 200
    lines = [replace(response, body=line).json for line in response.body.splitlines()]
    assert [line["company"] and line["company"]["name"] for line in lines] == [*("abc" * 333), None]
    assert 1 <= len(reads) <= 10
    page = await api.get("/people?expand=company&limit=2")
    assert lines[:2] == page.json["items"]


async def test_csv_does_not_support_expand(api: Api) -> None:
    response = await api.get("/people?expand=company", headers={"Accept": "text/csv"})
    assert response.status == 400
    assert response.errors == [(errors.InvalidParameter.code, "expand")]


async def test_an_item_hidden_by_its_resource_is_expanded_to_null(api: Api) -> None:
    shown = await create(api, "/hidden", name="shown")
    hidden = await create(api, "/hidden", name="hidden")
    await create(api, "/seen", hidden=shown["id"])
    await create(api, "/seen", hidden=hidden["id"])
    assert [item["hidden"] for item in (await api.get("/seen?expand=hidden")).json["items"]] == [shown, None]
    lines = (await api.get("/seen?expand=hidden", headers=NDJSON)).body.splitlines()
    assert [b'"hidden":null' in line for line in lines] == [False, True]
    assert (await api.post("/seen?expand=hidden", {"hidden": shown["id"]})).json["hidden"] == shown


async def test_a_resource_without_a_table_can_have_references(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    ids = [str(uuid4()) for _ in range(3)]
    Notes.kept[:] = [{"id": ids[0], "company": company["id"]}, {"id": ids[1], "company": MISSING_ID}, {"id": ids[2]}]
    response = await api.get("/notes?expand=company")
    shown = {item["id"]: item.get("company", "absent") for item in response.json["items"]}
    assert shown == {ids[0]: company, ids[1]: None, ids[2]: "absent"}


# Authorization.


async def test_expand_requires_the_grant_to_get_the_target(api: Api) -> None:
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


async def test_a_target_without_get_cannot_be_expanded(api: Api) -> None:
    response = await api.get("/seen?expand=unread")
    assert response.status == 403
    assert response.errors == [(errors.Forbidden.code, "expand")]


# Conditional requests.


async def test_the_etag_changes_with_expanded_items(api: Api) -> None:
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
async def test_the_etag_of_an_expanded_item_is_valid_in_if_match(api: Api, ending: str) -> None:
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


async def test_a_compressed_response_has_its_own_etag(api: Api) -> None:
    company = await create(api, "/companies", name="x" * 100, note=None)
    person = await create(api, "/people", name="Ada" * 500, company=company["id"])
    path = f"/people/{person['id']}?expand=company"
    zipped = await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["ETag"].endswith('-gzip"')
    again = await api.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": zipped.headers["ETag"]})
    assert again.status == 304


async def test_last_modified_is_the_latest_of_the_item_and_expanded_items(api: Api) -> None:
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


async def test_an_item_deleted_while_being_expanded_is_null(api: Api) -> None:
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


async def test_a_failed_target_plugin_is_an_error_only_for_expand(api: Api, serve: Serve) -> None:
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


async def test_a_reference_to_an_unknown_resource_fails_its_plugin(serve: Serve) -> None:
    lost = plugin("lost", Losing)
    api = await serve([lost, plugin("companies", Companies)])
    assert lost.error is not None
    assert "nowhere" in lost.error
    assert (await api.get("/lost")).status == 503
    assert (await api.get("/companies")).status == 200


def test_a_list_of_references_is_rejected() -> None:
    class Listing(Schema):
        companies = fields.List(fields.Reference("companies"))

    class Listed(TableResource):
        schema = Listing
        verbs = ("GET",)

    error = problem(Listed)
    assert error is not None
    assert "companies" in error


async def test_a_resource_can_access_another_by_name(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    people = api.service.resource("people")
    client = (await api.service.clients.list())[0]
    context = Context(client, "a request", declared.rules(type(people)).default_query)
    companies = people.resource("companies")
    assert (await companies.retrieve(context, company["id"]))["name"] == "Analytical"
    assert companies.parse_id(MISSING_ID.upper()) == MISSING_ID
    with pytest.raises(errors.NotFound):
        await companies.retrieve(context, MISSING_ID)
    with pytest.raises(errors.PluginUnavailable, match="nowhere"):
        people.resource("nowhere")


async def test_dangling_ids_takes_uuids_and_text(api: Api) -> None:
    company = await create(api, "/companies", name="Analytical")
    companies = api.service.resource("companies")
    client = (await api.service.clients.list())[0]
    context = Context(client, "a request", declared.rules(type(companies)).default_query)
    ids: set[Any] = {UUID(company["id"]), company["id"], MISSING_ID, UUID(MISSING_ID)}
    assert await companies.dangling_ids(context, ids) == {MISSING_ID, UUID(MISSING_ID)}
