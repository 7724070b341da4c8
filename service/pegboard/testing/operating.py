"""What a resource owes those who ask for its operations: a grant for each, refusals in form, one deed for a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pegboard.api.operation import Operation
from pegboard.api.resource import VERBS
from pegboard.testing.refusing import allowed
from pegboard.testing.strategies import ANYTHING, Making
from pegboard.testing.subject import Body, Draw, Subject

_REFUSED = (403, 404, 409, 412, 422)
"""What an operation may answer where it does not do what was asked."""


def operations_ask_for_grants_of_their_own(subject: Subject, draw: Draw) -> None:
    """Check that an operation is a 401 for nobody, and a 403 without its own grant, which is enough for it."""
    nobody, none = subject.running.client.as_client("", ""), subject.running.client_with(f"{subject.name}:POST")
    with subject.item(draw) as item:
        for operation, path in _places(subject, item):
            for client, status in ((nobody, 401), (none, 403)):
                response = subject.send("POST", path, {"no such field": 1}, client)
                subject.expect(response.status == status, f"{operation.name} without its grant is a {status}")
            one = subject.running.client_with(f"{subject.name}:{operation.name}")
            response = subject.send("POST", path, {"no such field": 1}, one, headers=subject.match(item))
            granted = response.status not in (401, 403)
            subject.expect(granted, f"{subject.name}:{operation.name} is enough for it")


def operations_are_posts(subject: Subject, draw: Draw) -> None:
    """Check that any other verb than POST is a 405 at an operation, whose `Allow` names POST."""
    with subject.item(draw) as item:
        for operation, path in _places(subject, item):
            subject.expect(allowed(subject.send("OPTIONS", path)) == {"POST", "OPTIONS"}, "OPTIONS names POST in Allow")
            for verb in set(VERBS) - {"POST"}:
                response = subject.send(verb, path, {} if verb in ("PUT", "PATCH") else None)
                subject.expect(response.status == 405, f"{verb} at {operation.name} is a 405, not {response.status}")
                subject.expect(allowed(response) == {"POST", "OPTIONS"}, "a 405 names POST in Allow")


def operations_refuse_what_they_cannot_read(subject: Subject, draw: Draw) -> None:
    """Check that an operation on no item is a 404, and that a body of another form or kind is a 400, a 415 or a 422."""
    with subject.item(draw) as item:
        for operation, path in _places(subject, item):
            if operation.on == "item":
                body = draw(_bodies(subject, operation))
                for identity in (str(uuid4()), "%00"):
                    lost = f"{subject.path}/{identity}/{operation.name}"
                    subject.expect_status(subject.send("POST", lost, body, headers=subject.match(item)), 404)
            headers = {"Content-Type": "application/json", **subject.match(item)}
            for broken in (b"{", b'{"a": NaN}', b"\xff", b"[[]]", b"5"):
                response = subject.send("POST", path, data=broken, headers=headers)
                subject.expect(
                    response.status == 400, f"{operation.name} with {broken!r} is a 400, not {response.status}"
                )
            kind = {**headers, "Content-Type": "text/plain"}
            subject.expect_status(subject.send("POST", path, data=b"{}", headers=kind), 415)
            unknown = {**draw(_bodies(subject, operation)), "no such field": 1}
            response = subject.send("POST", path, unknown, headers=headers)
            subject.expect_status(response, 422)
            places = [place for _, place in response.errors]
            subject.expect("/no such field" in places, "an error points at a field that is not known", places)


def operations_answer_whatever_comes(subject: Subject, draw: Draw) -> None:
    """Check that an operation does what it promises or refuses it, whatever is in the fields, and never fails."""
    for operation in subject.resource.operations().values():
        with subject.item(draw) as item:
            body = draw(_bodies(subject, operation))
            if body and draw(st.booleans()):
                body[draw(st.sampled_from(sorted(body)))] = draw(ANYTHING)
            response = subject.send("POST", _path(subject, item, operation), body, headers=subject.match(item))
            subject.expect_status(response, 200, 204, 400, *_REFUSED)


def operations_are_done_once(subject: Subject, draw: Draw) -> None:
    """Check that an operation which is asked for again, with the same Idempotency-Key, is answered as before."""
    for operation in subject.resource.operations().values():
        with subject.item(draw) as item:
            body, path = draw(_bodies(subject, operation)), _path(subject, item, operation)
            headers = {"Idempotency-Key": str(uuid4()), **subject.match(item)}
            first = subject.send("POST", path, body, headers=headers)
            if first.status in _REFUSED:
                continue
            subject.expect_status(first, 200, 204)
            again = subject.send("POST", path, body, headers=headers)
            same = (again.status, again.body) == (first.status, first.body)
            subject.expect(same, f"{operation.name} asked for again gets the first response", first.body, again.body)
            told = again.headers.get("Idempotency-Replayed")
            subject.expect(told == "true", f"{operation.name} asked for again is marked as a retry")


def _places(subject: Subject, item: Body) -> Iterator[tuple[Operation, str]]:
    for operation in subject.resource.operations().values():
        yield operation, _path(subject, item, operation)


def _path(subject: Subject, item: Body, operation: Operation) -> str:
    return f"{subject.at(item) if operation.on == 'item' else subject.path}/{operation.name}"


def _bodies(subject: Subject, operation: Operation) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for what an operation takes, as the document tells it."""
    if operation.request is None:
        return st.just({})
    place = f"{subject.path}{'/{id}' if operation.on == 'item' else ''}/{operation.name}"
    body = subject.document["paths"][place]["post"]["requestBody"]
    made = Making(subject.document["components"]["schemas"]).of(body["content"]["application/json"]["schema"])
    return made.map(dict)
