"""The checks of the test client: responses that the OpenAPI document does not describe fail."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from pegboard.testing.openapi import ResponseChecker, Undescribed, checker_of
from tests.conftest import Api, Response

ADA = {"name": "Ada", "email": "ada@example.org"}


@pytest.fixture
def checker(api: Api) -> ResponseChecker:
    return checker_of(api.service)


@pytest.fixture
async def contact(api: Api) -> Response:
    return await api.post("/contacts", ADA)


def _with(response: Response, name: str, value: str) -> CIMultiDict[str]:
    headers = CIMultiDict(response.headers)
    headers[name] = value
    return headers


async def test_a_described_response_passes(checker: ResponseChecker, contact: Response) -> None:
    checker.check("POST", "/contacts", contact.status, contact.headers, contact.body)
    headers = CIMultiDict(contact.headers)
    del headers["Location"]
    fewer = orjson.dumps({"id": contact.json["id"]})
    checker.check("GET", f"/contacts/{contact.json['id']}?fields=id", 200, headers, fewer)


@pytest.mark.parametrize(
    "changes",
    [{"colour": "red"}, {"id": "5"}, {"updated_at": "2015-02-15 05:21:07"}, {"name": None}, {"tags": "x"}],
)
async def test_an_undescribed_body_fails(checker: ResponseChecker, contact: Response, changes: Any) -> None:
    with pytest.raises(Undescribed):
        checker.check("POST", "/contacts", 201, contact.headers, orjson.dumps({**contact.json, **changes}))


async def test_an_undescribed_status_header_or_media_type_fails(checker: ResponseChecker, contact: Response) -> None:
    without_request_id = CIMultiDict(contact.headers)
    del without_request_id["X-Request-Id"]
    for status, headers, reason in (
        (202, contact.headers, "the status is none of"),
        (201, _with(contact, "X-Powered-By", "us"), "X-Powered-By is not described"),
        (201, without_request_id, "X-Request-Id is missing"),
        (201, _with(contact, "Content-Type", "text/plain"), "the media type is none of"),
    ):
        with pytest.raises(Undescribed, match=reason):
            checker.check("POST", "/contacts", status, headers, contact.body)


async def test_an_undescribed_operation_may_only_be_rejected(checker: ResponseChecker, contact: Response) -> None:
    for method, path in (("POST", "/contacts/5/archive"), ("TRACE", "/contacts"), ("GET", "/nothing")):
        with pytest.raises(Undescribed, match="there is no such operation"):
            checker.check(method, path, 200, contact.headers, contact.body)
        with pytest.raises(Undescribed):
            checker.check(method, path, 404, contact.headers, b'{"error": "not found"}')
