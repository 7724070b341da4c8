"""The companies resource, and the contacts that reference it, as seen by a client of the API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Api

LOVELACE = {
    "name": "Lovelace & Co.",
    "website": "https://lovelace.example.com",
    "industry": "Computing",
    "vat_number": "GB123456789",
    "city": "London",
    "country": "GB",
    "employees": 7,
}
ADA = {"name": "Ada", "email": "ada@example.org"}


@pytest.fixture
async def api(running: Api) -> Api:
    """Return the running service with all companies and contacts deleted."""
    await running.service.database.write.execute("TRUNCATE companies.companies, contacts.contacts")
    return running


async def create_company(api: Api, **fields: Any) -> Any:
    response = await api.post("/companies", {**LOVELACE, **fields})
    assert response.status == 201, response.body
    return response.json


async def test_a_new_company_has_every_field(api: Api) -> None:
    item = await create_company(api)
    assert item == {
        **LOVELACE,
        "address": None,
        "tags": [],
        "notes": None,
        **{name: item[name] for name in ("id", "created_at", "updated_at")},
    }
    assert (await api.get(f"/companies/{item['id']}")).json == item


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("name", "", 11005),
        ("website", "lovelace", 11010),
        ("website", "ftp://lovelace.example.com", 11010),
        ("country", "gb", 11000),
        ("vat_number", "123456", 11000),
        ("employees", -1, 11007),
        ("employees", 1.5, 11004),
        ("turnover", 5, 11002),
    ],
)
async def test_an_invalid_field_is_rejected(api: Api, field: str, value: Any, code: int) -> None:
    response = await api.post("/companies", {**LOVELACE, field: value})
    assert (response.status, response.errors) == (422, [(code, f"/{field}")])


async def test_vat_numbers_are_unique(api: Api) -> None:
    await create_company(api)
    response = await api.post("/companies", {"name": "Other", "vat_number": "gb123456789"})
    assert (response.status, response.errors) == (409, [(13002, "/vat_number")])
    for _ in range(2):
        await create_company(api, vat_number=None)


async def test_companies_are_searched_filtered_and_sorted(api: Api) -> None:
    await create_company(api)
    await create_company(api, name="Babbage Ltd", vat_number=None, industry="Engines", city="Totnes")
    await create_company(api, name="Conti", vat_number=None, country="IT", city="Milano")

    async def names(query: str) -> list[str]:
        return [item["name"] for item in (await api.get(f"/companies?{query}")).json["items"]]

    assert await names("q=engines") == ["Babbage Ltd"]
    assert await names("country=GB&sort=name") == ["Babbage Ltd", "Lovelace & Co."]
    assert await names("sort=country,name") == ["Babbage Ltd", "Lovelace & Co.", "Conti"]
    assert await names("vat_number__isnull=true&sort=-name") == ["Conti", "Babbage Ltd"]


async def test_the_company_of_a_contact_can_be_expanded(api: Api) -> None:
    item = await create_company(api)
    contact = (await api.post("/contacts", {**ADA, "company": item["id"]})).json
    assert contact["company"] == item["id"]
    assert (await api.get(f"/contacts/{contact['id']}?expand=company")).json == {**contact, "company": item}
    assert (await api.get(f"/contacts?company={item['id']}&expand=company")).json["items"] == [
        {**contact, "company": item}
    ]
    left = (await api.patch(f"/contacts/{contact['id']}?expand=company", {"company": None})).json
    assert left["company"] is None


async def test_a_contact_cannot_reference_a_missing_company(api: Api) -> None:
    response = await api.post("/contacts", {**ADA, "company": str(uuid4())})
    assert (response.status, response.errors) == (422, [(11000, "/company")])


async def test_a_company_with_contacts_cannot_be_deleted(api: Api) -> None:
    item = await create_company(api)
    contact = (await api.post("/contacts", {**ADA, "company": item["id"]})).json
    response = await api.delete(f"/companies/{item['id']}")
    assert (response.status, response.errors) == (409, [(13003, None)])
    assert (await api.delete(f"/contacts/{contact['id']}")).status == 204
    assert (await api.delete(f"/companies/{item['id']}")).status == 204
