"""The operations that are measured: the requests of each, and how their responses are checked first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

import orjson

from benchmarks.client import Client, Request, Response
from benchmarks.data import identity, person
from benchmarks.load import UNIQUE

_KEYS = set(person(1))
_PAGE = 50
_FILTERED = 20
_LARGE_PAGE = 500
_DISTINCT = 5_000


class WrongResponse(Exception):
    """Report a response that does not match the data."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Describe the requests of an operation and the expected responses.

    `prepare` returns the requests to choose from, and may request cursors or entity tags from the service first.
    `check` raises `WrongResponse`, and may send further requests. `connections` is the maximum number of connections.
    """

    name: str
    status: int
    prepare: Callable[[Client, Random, int], list[Request]]
    check: Callable[[Client, Request, Response], None]
    connections: int | None = None


def ready(operation: Operation, client: Client, rows: int, samples: int = 25) -> list[bytes]:
    """Return the encoded requests of an operation, after checking the responses to some of them.

    Raises `WrongResponse` with the request and the response.
    """
    # The same requests for every service, except for values from the service itself.
    requests = operation.prepare(client, Random(operation.name), rows)
    for number, template in enumerate(requests[:samples]):
        request = replace(template, body=template.body.replace(UNIQUE, b"%016x" % number))
        response = client.send(request)
        try:
            _expect("status", response.status, operation.status)
            operation.check(client, request, response)
        except WrongResponse as error:
            raise WrongResponse(
                f"{operation.name}: {request.method} {request.target}: {error}\n{response.body[:2000]!r}"
            ) from None
    return [client.encode(request) for request in requests]


def _gets(client: Client, random: Random, rows: int) -> list[Request]:
    return [Request("GET", f"/contacts/{identity(random.randint(1, rows))}") for _ in range(_DISTINCT)]


def _check_get(client: Client, request: Request, response: Response) -> None:
    _expect("item", response.json(), person(_number(request.target.rpartition("/")[2])))


def _pages(client: Client, random: Random, rows: int) -> list[Request]:
    """Follow some pages, and check that their items are complete and in order."""
    targets: list[str] = []
    seen = 0
    for target, page in islice(_walk(client, f"/contacts?limit={_PAGE}"), 200):
        targets.append(target)
        numbers = [_number(item["id"]) for item in page["items"]]
        _expect("ids", numbers, list(range(seen + 1, seen + 1 + len(numbers))))
        seen += len(numbers)
    random.shuffle(targets)
    return [Request("GET", target) for target in targets]


def _walk(client: Client, target: str) -> Iterator[tuple[str, Any]]:
    """Yield pages with their targets, each from the `next` of the previous one."""
    while target:
        page = client.send(Request("GET", target)).json()
        yield target, page
        target = page["next"]


def _filtered(client: Client, random: Random, rows: int) -> list[Request]:
    """Follow the pages for some prefixes of names, and check their items."""
    targets: list[str] = []
    by_prefix: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(1, rows + 1):
        by_prefix[int(str(number)[:3])].append(number)
    for prefix in random.sample(range(100, 1000), 200):
        found: list[int] = []
        for target, page in _walk(client, f"/contacts?name__prefix=Person%20{prefix}&limit={_FILTERED}"):
            targets.append(target)
            found += [_number(item["id"]) for item in page["items"]]
        _expect("ids", found, by_prefix[prefix])
    random.shuffle(targets)
    return [Request("GET", target) for target in targets]


def _sorted(client: Client, random: Random, rows: int) -> list[Request]:
    """Follow large pages through all rows by name; return small pages that start at those of the second half."""
    names = sorted(person(number)["name"] for number in range(1, rows + 1))
    steps: list[str] = []
    found: list[str] = []
    for target, page in _walk(client, f"/contacts?sort=name&limit={_LARGE_PAGE}"):
        steps.append(target.replace(f"limit={_LARGE_PAGE}", f"limit={_PAGE}"))
        found += [item["name"] for item in page["items"]]
    _expect("names", found, names)
    targets = steps[len(steps) // 2 :]
    random.shuffle(targets)
    return [Request("GET", target) for target in targets]


def _check_sorted(client: Client, request: Request, response: Response) -> None:
    _check_page(client, request, response)
    names = [item["name"] for item in response.json()["items"]]
    _expect("order", names, sorted(names))


def _unchanged(client: Client, random: Random, rows: int) -> list[Request]:
    """Request items with `If-None-Match` and their current entity tags."""
    requests = []
    for _ in range(_DISTINCT // 5):
        # Only even rows, since the patches change the odd ones.
        target = f"/contacts/{identity(random.randrange(2, rows + 1, 2))}"
        request = Request("GET", target, headers=(("If-None-Match", '"-"'),))
        response = client.send(request)
        _check_get(client, request, response)
        requests.append(replace(request, headers=(("If-None-Match", response.headers.get("etag", "")),)))
    return requests


def _check_unchanged(client: Client, request: Request, response: Response) -> None:
    _expect("body", response.body, b"")
    _expect("entity tag", response.headers.get("etag"), dict(request.headers)["If-None-Match"])


def _exports(client: Client, random: Random, rows: int) -> list[Request]:
    return [Request("GET", "/contacts", headers=(("Accept", "application/x-ndjson"),))]


def _check_export(client: Client, request: Request, response: Response) -> None:
    for number, line in enumerate(response.body.splitlines(), 1):
        _expect("line", orjson.loads(line), person(number))


def _check_page(client: Client, request: Request, response: Response) -> None:
    page = response.json()
    _expect("keys", set(page), {"items", "next", "prev"})
    _expect("items", page["items"], [person(_number(item["id"])) for item in page["items"]])


def _creates(client: Client, random: Random, rows: int) -> list[Request]:
    return [Request("POST", "/contacts", body=orjson.dumps(_newcomer(random))) for _ in range(_DISTINCT)]


def _newcomer(random: Random) -> dict[str, Any]:
    """Return a new contact, whose address differs each time it is sent."""
    return _writable(person(random.randint(1, 1_000_000))) | {
        "email": f"{UNIQUE.decode()}@example.com",
        "last_contacted_at": "2025-06-07T08:09:10+02:00",
    }


def _writable(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("id", "created_at", "updated_at")}


def _check_create(client: Client, request: Request, response: Response) -> None:
    expected = orjson.loads(request.body)
    expected["last_contacted_at"] = "2025-06-07T06:09:10Z"
    _check_written(client, response.headers.get("location", ""), expected, response.json())


def _patches(client: Client, random: Random, rows: int) -> list[Request]:
    body = orjson.dumps({"notes": f"Called on Monday, {UNIQUE.decode()}", "phone": "+15550000000"})
    return [
        Request("PATCH", f"/contacts/{identity(random.randrange(1, rows + 1, 2))}", body=body) for _ in range(_DISTINCT)
    ]


def _check_patch(client: Client, request: Request, response: Response) -> None:
    expected = person(_number(request.target.rpartition("/")[2])) | orjson.loads(request.body)
    _check_written(client, request.target, _writable(expected), response.json())


def _check_written(client: Client, target: str, expected: Mapping[str, Any], item: dict[str, Any]) -> None:
    """Check that the item has the expected fields and can be read again."""
    _expect("keys", set(item), _KEYS)
    _expect("fields", _writable(item), dict(expected))
    _expect("location", target, f"/contacts/{item['id']}")
    _expect("the item read again", client.send(Request("GET", target)).json(), item)


def _number(key: str) -> int:
    return int(key[-12:], 16)


def _expect(subject: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongResponse(f"{subject}: found {found!r}, not {expected!r}")


# Reads come before the operations that change the same rows.
OPERATIONS = (
    Operation("get", 200, _gets, _check_get),
    Operation("page", 200, _pages, _check_page),
    Operation("filtered", 200, _filtered, _check_page),
    Operation("sorted", 200, _sorted, _check_sorted),
    Operation("unchanged", 304, _unchanged, _check_unchanged),
    # One connection: an export takes as long as thousands of other requests.
    Operation("export", 200, _exports, _check_export, connections=1),
    Operation("create", 201, _creates, _check_create),
    Operation("patch", 200, _patches, _check_patch),
)
