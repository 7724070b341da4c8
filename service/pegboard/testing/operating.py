"""Rules for operations: grants, error responses and idempotency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pegboard.api import declared
from pegboard.api.operation import Operation
from pegboard.http.request import VERBS
from pegboard.testing.refusing import allowed
from pegboard.testing.strategies import ANYTHING, StrategyBuilder
from pegboard.testing.subject import Body, Draw, Subject

_REFUSED = (403, 404, 409, 412, 422)
"""The statuses with which an operation may refuse a request."""


def operations_require_their_own_grants(subject: Subject, draw: Draw) -> None:
    """Check that an operation is a 401 without credentials, a 403 without its grant, and allowed with it alone."""
    anonymous = subject.running.client.as_client("", "")
    without_grant = subject.running.client_with(f"{subject.name}:POST")
    with subject.item(draw) as item:
        for operation, path in _operations(subject, item):
            for client, status in ((anonymous, 401), (without_grant, 403)):
                response = subject.send("POST", path, {"no such field": 1}, client)
                who = "without credentials" if status == 401 else "without its grant"
                subject.expect_status(response, status, request=f"{operation.name} {who}")
            with_grant = subject.running.client_with(f"{subject.name}:{operation.name}")
            response = subject.send("POST", path, {"no such field": 1}, with_grant, headers=subject.match_headers(item))
            is_granted = response.status not in (401, 403)
            request = f"{operation.name} with the grant {subject.name}:{operation.name}"
            subject.expect(is_granted, f"{request}: expected it to be allowed, got the status {response.status}")


def operations_allow_only_post(subject: Subject, draw: Draw) -> None:
    """Check that any method but POST is a 405 for an operation, with POST in `Allow`."""
    with subject.item(draw) as item:
        for operation, path in _operations(subject, item):
            subject.expect_equal(
                allowed(subject.send("OPTIONS", path)), {"POST", "OPTIONS"}, f"Allow in OPTIONS of {operation.name}"
            )
            for verb in set(VERBS) - {"POST"}:
                response = subject.send(verb, path, {} if verb in ("PUT", "PATCH") else None)
                subject.expect_status(response, 405, request=f"{verb} at {operation.name}")
                rule = f"Allow in the 405 for {verb} at {operation.name}"
                subject.expect_equal(allowed(response), {"POST", "OPTIONS"}, rule)


def operations_refuse_invalid_requests(subject: Subject, draw: Draw) -> None:
    """Check that an operation is a 404 for an unknown item, and a 400, 415 or 422 for an invalid body."""
    with subject.item(draw) as item:
        for operation, path in _operations(subject, item):
            if operation.on == "item":
                body = draw(_bodies(subject, operation))
                for id in (str(uuid4()), "%00"):
                    missing_path = f"{subject.path}/{id}/{operation.name}"
                    subject.expect_status(
                        subject.send("POST", missing_path, body, headers=subject.match_headers(item)), 404
                    )
            headers = {"Content-Type": "application/json", **subject.match_headers(item)}
            for broken in (b"{", b'{"a": NaN}', b"\xff", b"[[]]", b"5"):
                response = subject.send("POST", path, data=broken, headers=headers)
                subject.expect_status(response, 400, request=f"{operation.name} with {broken!r}")
            kind = {**headers, "Content-Type": "text/plain"}
            subject.expect_status(subject.send("POST", path, data=b"{}", headers=kind), 415)
            unknown = {**draw(_bodies(subject, operation)), "no such field": 1}
            response = subject.send("POST", path, unknown, headers=headers)
            subject.expect_error_at(response, "/no such field")


def operations_handle_any_input(subject: Subject, draw: Draw) -> None:
    """Check that an operation succeeds or refuses the request for any values of its fields, without a 5xx."""
    for operation in declared.operations(subject.resource).values():
        with subject.item(draw) as item:
            body = draw(_bodies(subject, operation))
            if body and draw(st.booleans()):
                body[draw(st.sampled_from(sorted(body)))] = draw(ANYTHING)
            response = subject.send("POST", _path(subject, item, operation), body, headers=subject.match_headers(item))
            subject.expect_status(response, 200, 204, 400, *_REFUSED)


def operations_run_once_per_key(subject: Subject, draw: Draw) -> None:
    """Check that an operation repeated with the same Idempotency-Key returns the first response."""
    for operation in declared.operations(subject.resource).values():
        with subject.item(draw) as item:
            body, path = draw(_bodies(subject, operation)), _path(subject, item, operation)
            headers = {"Idempotency-Key": str(uuid4()), **subject.match_headers(item)}
            first = subject.send("POST", path, body, headers=headers)
            if first.status in _REFUSED:
                continue
            subject.expect_status(first, 200, 204)
            again = subject.send("POST", path, body, headers=headers)
            subject.expect_equal(
                (again.status, again.body),
                (first.status, first.body),
                f"{operation.name} repeated returns the first response, as (status, body)",
            )
            replayed = again.headers.get("Idempotency-Replayed")
            subject.expect_equal(replayed, "true", f"Idempotency-Replayed of {operation.name} repeated")


def _operations(subject: Subject, item: Body) -> Iterator[tuple[Operation, str]]:
    for operation in declared.operations(subject.resource).values():
        yield operation, _path(subject, item, operation)


def _path(subject: Subject, item: Body, operation: Operation) -> str:
    return f"{subject.path_of(item) if operation.on == 'item' else subject.path}/{operation.name}"


def _bodies(subject: Subject, operation: Operation) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for the body of an operation, made from the document."""
    if operation.request is None:
        return st.just({})
    template_path = f"{subject.path}{'/{id}' if operation.on == 'item' else ''}/{operation.name}"
    body = subject.document["paths"][template_path]["post"]["requestBody"]
    strategy = StrategyBuilder(subject.document["components"]["schemas"]).of(
        body["content"]["application/json"]["schema"]
    )
    return strategy.map(dict)
