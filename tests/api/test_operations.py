"""Operations declared in addition to the standard methods, as seen by a client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from pegboard import ApiError, Context, Resource, Schema, TableResource, errors, operation, validate
from pegboard.api import declared
from pegboard.hosting.checks.declaration import problem
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin


class Paid(ApiError, number=9, status=409, message="The bill is paid already."): ...


ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


class Bill(Schema):
    title = fields.String(required=True)
    paid = fields.Boolean(load_default=False)
    by = fields.String(allow_none=True)
    parent = fields.Reference("bills", allow_none=True)


class Payment(Schema):
    """Payment details."""

    by = fields.String(required=True, validate=validate.Length(1, 20))


class Merging(Schema):
    bills = fields.List(fields.UUID(), required=True, validate=validate.Length(2, 9))


class Sum(Schema):
    """The result of a count."""

    bills = fields.Integer(required=True)
    at = fields.DateTime(allow_none=True)


class Bills(TableResource):
    """Bills to be paid."""

    schema = Bill
    verbs = ALL
    error_codes = (Paid,)

    @operation(request=Payment)
    async def pay(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Pay a bill.

        Once.
        """
        item = await self.retrieve(context, id)
        if item["paid"]:
            raise Paid
        return await self.update(context, id, {"paid": True, "by": data["by"]})

    @operation
    async def reopen(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        return await self.update(context, id, {"paid": False})

    @operation(response=None)
    async def shred(self, context: Context, id: str, data: Mapping[str, Any]) -> None:
        """Delete a bill and return nothing."""
        await self.delete(context, id)

    @operation(on="collection", request=Merging)
    async def merge(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Merge several bills into one."""
        titles = []
        for id in data["bills"]:
            titles.append((await self.retrieve(context, str(id)))["title"])
            await self.delete(context, str(id))
        return await self.create(context, {"title": " and ".join(titles)})

    @operation(on="collection", response=Sum)
    async def tally(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Count the bills."""
        assert context.in_transaction
        return {"bills": await context.connection.fetchval("SELECT count(*) FROM bills.bills"), "at": None}

    @operation(on="collection", response=Sum)
    async def forget(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Return nothing despite a declared response schema."""


class Notes(TableResource):
    """Own notes, whose changes require If-Match."""

    schema = Payment
    verbs = ALL
    owned = True
    needs_match = True

    @operation
    async def touch(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Sign a note."""
        return await self.update(context, id, {"by": "touched"})


class Bell(Schema):
    rung = fields.Integer()


class Bells(Resource):
    """Bells in memory, identified by name."""

    schema = Bell
    verbs = ("GET",)
    rung: dict[str, int] = {"big": 0}

    def parse_id(self, text: str) -> str | None:
        return text

    async def retrieve(self, context: Context, id: str) -> Any:
        if id not in self.rung:
            raise errors.NotFound
        return {"id": id, "rung": self.rung[id]}

    @operation
    async def ring(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Ring a bell."""
        self.rung[id] += 1
        return await self.retrieve(context, id)

    @operation
    async def crack(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Return an invalid item."""
        return {"rung": 5}


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    return await serve([plugin("bills", Bills), plugin("notes", Notes), plugin("bells", Bells)])


async def create_bill(api: Api, **values: Any) -> Any:
    response = await api.post("/bills", {"title": "rent", **values})
    assert response.status == 201, response.body
    return response.json


async def test_an_item_operation_returns_the_item(api: Api) -> None:
    bill = await create_bill(api)
    path = f"/bills/{bill['id']}"
    response = await api.post(f"{path}/pay", {"by": "Ada"})
    assert (response.status, response.json["paid"], response.json["by"]) == (200, True, "Ada")
    assert response.headers["Content-Location"] == path
    current = await api.get(path)
    assert (current.json, current.headers["ETag"]) == (response.json, response.headers["ETag"])
    assert current.headers["Last-Modified"] == response.headers["Last-Modified"]
    again = await api.post(f"{path}/pay", {"by": "Ada"})
    assert (again.status, again.errors) == (409, [(20009, None)])
    upper = await api.post(f"/bills/{bill['id'].upper()}/reopen")
    assert (upper.status, upper.headers["Content-Location"]) == (200, path)


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
async def test_an_operation_without_a_request_schema_needs_no_body(api: Api, body: bytes) -> None:
    path = f"/bills/{(await create_bill(api))['id']}/reopen"
    headers = {"Content-Type": "application/json"} if body else {}
    assert (await api.request("POST", path, data=body, headers=headers)).status == 200


async def test_the_body_is_validated_by_the_request_schema(api: Api) -> None:
    path = f"/bills/{(await create_bill(api))['id']}"
    cases: list[tuple[str, Any, int, list[Any]]] = [
        ("pay", {}, 422, [(11001, "/by")]),
        ("pay", {"by": "", "id": 5, "created_at": 7}, 422, [(11005, "/by"), (11002, "/id"), (11002, "/created_at")]),
        ("pay", [], 400, [(10001, "")]),
        ("reopen", {"by": "Ada"}, 422, [(11002, "/by")]),
        ("reopen", 5, 400, [(10001, "")]),
    ]
    for name, body, status, expected in cases:
        response = await api.post(f"{path}/{name}", body)
        assert (response.status, sorted(response.errors, key=str)) == (status, sorted(expected, key=str)), (name, body)
    empty = await api.request("POST", f"{path}/pay", headers={"Content-Type": "application/json"})
    assert (empty.status, empty.errors) == (400, [(10002, None)])
    text = await api.request("POST", f"{path}/reopen", data=b"x", headers={"Content-Type": "text/plain"})
    assert (text.status, text.headers["Accept"]) == (415, "application/json")


async def test_a_collection_operation_runs_in_one_transaction(api: Api) -> None:
    one, two = await create_bill(api, title="one"), await create_bill(api, title="two")
    response = await api.post("/bills/merge", {"bills": [one["id"], two["id"]]})
    assert (response.status, response.json["title"]) == (200, "one and two")
    assert response.headers["Content-Location"] == f"/bills/{response.json['id']}"
    three = await create_bill(api, title="three")
    undone = await api.post("/bills/merge", {"bills": [three["id"], one["id"]]})
    assert undone.status == 404
    assert (await api.get(f"/bills/{three['id']}")).status == 200


async def test_an_operation_can_return_another_schema_or_nothing(api: Api) -> None:
    bill = await create_bill(api)
    response = await api.post("/bills/tally")
    assert (response.status, response.headers["Cache-Control"], "ETag" in response.headers) == (200, "no-store", False)
    assert response.json["bills"] >= 1
    assert (await api.post("/bills/tally?fields=bills")).errors == [(10012, "fields")]
    shredded = await api.post(f"/bills/{bill['id']}/shred")
    assert (shredded.status, shredded.body) == (204, b"")
    assert (await api.post(f"/bills/{bill['id']}/shred")).status == 404


async def test_fields_expand_and_prefer_apply_to_operations_that_return_an_item(api: Api) -> None:
    parent = await create_bill(api, title="parent")
    bill = await create_bill(api, parent=parent["id"])
    path = f"/bills/{bill['id']}"
    response = await api.post(f"{path}/reopen?fields=title,parent&expand=parent")
    assert list(response.json) == ["id", "title", "parent"]
    assert response.json["parent"]["title"] == "parent"
    assert (await api.post(f"{path}/reopen?limit=5")).errors == [(10013, "limit")]
    minimal = {"Prefer": "return=minimal"}
    nothing = await api.post(f"{path}/reopen", headers=minimal)
    assert (nothing.status, nothing.headers["Preference-Applied"]) == (204, "return=minimal")
    assert nothing.headers["ETag"] == (await api.get(path)).headers["ETag"]
    assert (await api.post("/bills/tally", headers=minimal)).status == 204


async def test_preconditions_are_checked_against_the_item(api: Api) -> None:
    bill = await create_bill(api)
    path = f"/bills/{bill['id']}"
    tag = (await api.get(path)).headers["ETag"]
    late = await api.post(f"{path}/pay", {"by": "Eve"}, headers={"If-Match": '"0"'})
    assert (late.status, late.headers["ETag"]) == (412, tag)
    racing = [api.post(f"{path}/pay", {"by": str(n)}, headers={"If-Match": tag}) for n in range(4)]
    assert sorted(response.status for response in await asyncio.gather(*racing)) == [200, 412, 412, 412]
    assert (await api.post(f"{path}/reopen", headers={"If-None-Match": "*"})).status == 412
    assert (await api.post(f"{path}/reopen", headers={"If-Match": "x"})).status == 400


async def test_item_operations_require_if_match_if_writes_do(api: Api) -> None:
    note = await api.post("/notes", {"by": "Ada"})
    path = f"/notes/{note.json['id']}/touch"
    assert (await api.post(path)).errors == [(13006, "If-Match")]
    assert (await api.post(path, headers={"If-Match": note.headers["ETag"]})).json["by"] == "touched"


async def test_a_retry_with_the_same_key_is_replayed(api: Api) -> None:
    path = f"/bills/{(await create_bill(api))['id']}/pay"
    headers = {"Idempotency-Key": "pay once"}
    first = await api.post(path, {"by": "Ada"}, headers=headers)
    again = await api.post(path, {"by": "Ada"}, headers=headers)
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await api.post(path, {"by": "Eve"}, headers=headers)).errors == [(13007, "Idempotency-Key")]
    refused = {"Idempotency-Key": "refused"}
    assert (await api.post(path, {"by": "Ada"}, headers=refused)).status == 409
    await api.post(path.replace("/pay", "/reopen"))
    assert (await api.post(path, {"by": "Ada"}, headers=refused)).status == 200


async def test_an_operation_has_its_own_grant(api: Api) -> None:
    path = f"/bills/{(await create_bill(api))['id']}/reopen"
    for name, grants, status in (
        ("clerk", ["bills:reopen"], 200),
        ("all-bills", ["bills:*"], 200),
        ("poster", ["bills:POST", "*:POST", "bills:pay"], 403),
    ):
        await api.service.clients.add(name, "a password", grants)
        client = api.as_client(name, "a password")
        assert (await client.post(path)).status == status
        assert (await client.post(f"/bills/{uuid4()}/reopen")).status == (404 if status == 200 else status)


async def test_an_item_of_another_owner_is_not_found(api: Api) -> None:
    note = await api.post("/notes", {"by": "Ada"})
    await api.service.clients.add("other", "a password", ["notes:touch"])
    headers = {"If-Match": note.headers["ETag"]}
    response = await api.as_client("other", "a password").post(f"/notes/{note.json['id']}/touch", headers=headers)
    assert response.status == 404


async def test_errors_of_operations_have_the_standard_order(api: Api) -> None:
    item, away = f"/bills/{(await create_bill(api))['id']}", f"/bills/{uuid4()}"
    tag = {"If-Match": '"0"'}
    text = {"Content-Type": "text/plain"}
    cases: list[tuple[str, Any, dict[str, str], int]] = [
        ("/bills/x/pay?x=1", {}, text, 404),
        (f"{away}/nothing", {}, text, 404),
        (f"{away}/pay?x=1", {}, {"Accept": "text/html"}, 406),
        (f"{away}/pay?x=1", {}, text, 415),
        (f"{away}/pay?x=1", {}, tag, 400),
        (f"{away}/pay", {}, tag, 404),
        (f"{item}/pay", {}, tag, 412),
        (f"{item}/pay", {}, {}, 422),
    ]
    for path, body, headers, status in cases:
        assert (await api.post(path, body, headers=headers)).status == status, (path, headers)


async def test_other_methods_on_an_operation_path_are_405_with_allow(api: Api) -> None:
    item = f"/bills/{(await create_bill(api))['id']}"
    for path in (f"{item}/pay", "/bills/merge"):
        response = await api.get(path)
        assert (response.status, response.headers["Allow"]) == (405, "POST, OPTIONS")
        options = await api.request("OPTIONS", path)
        assert (options.status, options.headers["Allow"]) == (204, "POST, OPTIONS")
    assert (await api.post(f"{item}/pay/more", {"by": "Ada"})).status == 404
    assert (await api.post(f"{item}/pay/", {"by": "Ada"})).status == 308


async def test_a_resource_without_a_table_can_have_operations(api: Api) -> None:
    response = await api.post("/bells/big/ring", headers={"Idempotency-Key": "ding"})
    assert (response.status, response.json) == (200, {"id": "big", "rung": 1})
    assert response.headers["Content-Location"] == "/bells/big"
    assert (await api.post("/bells/big/ring", headers={"Idempotency-Key": "ding"})).json["rung"] == 1
    assert (await api.post("/bells/none/ring")).status == 404
    assert (await api.post("/bells/big/ring", headers={"If-Match": '"x"'})).status == 412


async def test_invalid_return_values_of_operations_appear_only_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for path, name in (("/bells/big/crack", "bells"), ("/bills/forget", "bills")):
        caplog.clear()
        response = await api.post(path)
        assert (response.status, response.errors) == (500, [(15000, None)])
        assert name.encode() not in response.body
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage().endswith(f"failed in {name}")


async def test_the_openapi_document_describes_operations(api: Api) -> None:
    document = (await api.get("/openapi.json")).json
    pay = document["paths"]["/bills/{id}/pay"]["post"]
    assert (pay["operationId"], pay["summary"]) == ("bills.item.pay", "Pay a bill")
    assert pay["description"] == "Pay a bill.\n\nOnce.\n\nNeeds the grant `bills:pay`."
    body = pay["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Payment2"}
    assert body["example"] == {"by": "By"}
    names = {parameter["$ref"].rpartition("/")[2] for parameter in pay["parameters"]}
    assert names == {
        "bills.fields", "bills.expand", "If-Match", "If-None-Match", "If-Unmodified-Since", "Idempotency-Key",
        "Prefer", "X-Request-Id",
    }  # fmt: skip
    assert {"200", "204", "404", "409", "412", "422"} <= set(pay["responses"])
    conflict = document["components"]["responses"][pay["responses"]["409"]["$ref"].rpartition("/")[2]]
    assert "20009" in conflict["content"]["application/json"]["examples"]
    tally = document["paths"]["/bills/tally"]["post"]
    assert "requestBody" not in tally
    assert tally["responses"]["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Sum"}
    assert document["paths"]["/notes/{id}/touch"]["post"]["summary"] == "Sign a note"
    identifiers = [one["operationId"] for path in document["paths"].values() for one in path.values() if "tags" in one]
    assert len(identifiers) == len(set(identifiers))


async def test_the_reference_pages_describe_operations(api: Api) -> None:
    page = (await api.get("/docs/bills")).body.decode()
    assert 'id="post-bills-id-pay"' in page
    assert "Needs the grant <code>bills:pay</code>" in page
    assert 'data-path="/bills/{id}/pay"' in page
    assert "curl -X POST" in page


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@operation\n    def archive(self, context, id, data): pass", "write async def archive"),
        ("@operation\n    async def archive(self, context, data): pass", "(self, context, id, data)"),
        ("@operation(on='collection')\n    async def merge(self, context, a, b): pass", "(self, context, data)"),
        ("@operation(on='items')\n    async def archive(self, context, id, data): pass", "has on='items': use"),
        ("@operation\n    async def me(self, context, id, data): pass", "the client's own item"),
        ("@operation\n    async def any(self, context, id, data): pass", "the grant for items of other owners"),
        ("@operation\n    async def options(self, context, id, data): pass", "has the same name as a verb"),
        ("@operation\n    async def delete(self, context, id): pass", "has the same name as an action"),
        ("@operation\n    async def lifespan(self, context, id, data): pass", "a member of every resource"),
        ("@operation\n    async def Archive(self, context, id, data): pass", "has an invalid name"),
        ("@operation\n    async def _a(self, context, id, data): pass", "has an invalid name"),
        ("@operation(request=int)\n    async def archive(self, context, id, data): pass", "for its request"),
        ("@operation(response='x')\n    async def archive(self, context, id, data): pass", "for its response"),
    ],
)
def test_an_invalid_operation_is_rejected_at_startup(code: str, message: str) -> None:
    namespace: dict[str, Any] = {"operation": operation, "TableResource": TableResource, "Bill": Bill}
    exec(f"class Wrong(TableResource):\n    schema = Bill\n    verbs = ('GET',)\n    {code}\n", namespace)
    error = problem(namespace["Wrong"])
    assert error is not None
    assert error.startswith("the operation ")
    assert message in error


def test_an_item_operation_requires_retrieve() -> None:
    class Blind(Resource):
        schema = Bell
        verbs = ("POST",)

        async def create(self, context: Context, data: Any) -> Any: ...

        @operation
        async def ring(self, context: Context, id: str, data: Any) -> Any: ...

    assert "write async def retrieve" in (problem(Blind) or "")
    with pytest.raises(TypeError, match="decorates a method"):
        operation(Bell)


def test_operations_are_inherited_and_can_be_removed() -> None:
    class Fewer(Bills):
        pay = None  # type: ignore[assignment]  # removes the operation

        async def reopen(self, context: Context, id: str, data: Mapping[str, Any]) -> Any: ...

    assert problem(Fewer) is None
    assert set(declared.operations(Bills)) - set(declared.operations(Fewer)) == {"pay"}
