"""The operations that are measured: the requests of each, and how their answers are checked first."""

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
_MOST = 500
_VARIETY = 5_000


class WrongAnswer(Exception):
    """A service answered a request otherwise than the data demands."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Say what is sent and what must come back.

    `prepare` gives the requests to choose from, and may ask the service for what they need (cursors, entity tags).
    `check` raises `WrongAnswer`; it may ask for more, too. `connections` is the most that are used at once.
    """

    name: str
    status: int
    prepare: Callable[[Client, Random, int], list[Request]]
    check: Callable[[Client, Request, Response], None]
    connections: int | None = None


def ready(operation: Operation, client: Client, rows: int, samples: int = 25) -> list[bytes]:
    """Return the requests of an operation as they go over the wire, once some were answered as they must be.

    Raises `WrongAnswer`, with the request and the answer.
    """
    # The same requests for every service, but for what a service itself gave.
    requests = operation.prepare(client, Random(operation.name), rows)
    for number, template in enumerate(requests[:samples]):
        request = replace(template, body=template.body.replace(UNIQUE, b"%016x" % number))
        response = client.send(request)
        try:
            _expect("status", response.status, operation.status)
            operation.check(client, request, response)
        except WrongAnswer as wrong:
            raise WrongAnswer(
                f"{operation.name}: {request.method} {request.target}: {wrong}\n{response.body[:2000]!r}"
            ) from None
    return [client.encode(request) for request in requests]


def _gets(client: Client, random: Random, rows: int) -> list[Request]:
    return [Request("GET", f"/contacts/{identity(random.randint(1, rows))}") for _ in range(_VARIETY)]


def _check_get(client: Client, request: Request, response: Response) -> None:
    _expect("item", response.json(), person(_number(request.target.rpartition("/")[2])))


def _pages(client: Client, random: Random, rows: int) -> list[Request]:
    """Walk some pages and check the walk itself."""
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
    """Yield pages with their targets as a client would find them, each by the `next` of the one before."""
    while target:
        page = client.send(Request("GET", target)).json()
        yield target, page
        target = page["next"]


def _filtered(client: Client, random: Random, rows: int) -> list[Request]:
    """Walk the pages of what some prefixes of names find, and check the walk itself."""
    targets: list[str] = []
    having: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(1, rows + 1):
        having[int(str(number)[:3])].append(number)
    for prefix in random.sample(range(100, 1000), 200):
        found: list[int] = []
        for target, page in _walk(client, f"/contacts?name__prefix=Person%20{prefix}&limit={_FILTERED}"):
            targets.append(target)
            found += [_number(item["id"]) for item in page["items"]]
        _expect("ids", found, having[prefix])
    random.shuffle(targets)
    return [Request("GET", target) for target in targets]


def _sorted(client: Client, random: Random, rows: int) -> list[Request]:
    """Walk through all rows by name, in large steps, and go on in small ones from each step of the second half."""
    names = sorted(person(number)["name"] for number in range(1, rows + 1))
    steps: list[str] = []
    found: list[str] = []
    for target, page in _walk(client, f"/contacts?sort=name&limit={_MOST}"):
        steps.append(target.replace(f"limit={_MOST}", f"limit={_PAGE}"))
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
    """Ask for items on the condition that they are not what the client has read before."""
    requests = []
    for _ in range(_VARIETY // 5):
        # The even ones: the odd ones are changed by others.
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
    return [Request("POST", "/contacts", body=orjson.dumps(_newcomer(random))) for _ in range(_VARIETY)]


def _newcomer(random: Random) -> dict[str, Any]:
    """Return a contact that was never there: its address differs each time it is sent."""
    return _writable(person(random.randint(1, 1_000_000))) | {
        "email": f"{UNIQUE.decode()}@example.com",
        "last_contacted_at": "2025-06-07T08:09:10+02:00",
    }


def _writable(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("id", "created_at", "updated_at")}


def _check_create(client: Client, request: Request, response: Response) -> None:
    given = orjson.loads(request.body)
    given["last_contacted_at"] = "2025-06-07T06:09:10Z"
    _check_written(client, response.headers.get("location", ""), given, response.json())


def _patches(client: Client, random: Random, rows: int) -> list[Request]:
    body = orjson.dumps({"notes": f"Called on Monday, {UNIQUE.decode()}", "phone": "+15550000000"})
    return [
        Request("PATCH", f"/contacts/{identity(random.randrange(1, rows + 1, 2))}", body=body) for _ in range(_VARIETY)
    ]


def _check_patch(client: Client, request: Request, response: Response) -> None:
    given = person(_number(request.target.rpartition("/")[2])) | orjson.loads(request.body)
    _check_written(client, request.target, _writable(given), response.json())


def _check_written(client: Client, target: str, given: Mapping[str, Any], item: dict[str, Any]) -> None:
    """Check that what was written is what was given, and is there to be read."""
    _expect("keys", set(item), _KEYS)
    _expect("fields", _writable(item), dict(given))
    _expect("location", target, f"/contacts/{item['id']}")
    _expect("the item read again", client.send(Request("GET", target)).json(), item)


def _number(key: str) -> int:
    return int(key[-12:], 16)


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongAnswer(f"{what}: found {found!r}, not {expected!r}")


# In this order: what reads comes before what changes the rows that it reads.
OPERATIONS = (
    Operation("get", 200, _gets, _check_get),
    Operation("page", 200, _pages, _check_page),
    Operation("filtered", 200, _filtered, _check_page),
    Operation("sorted", 200, _sorted, _check_sorted),
    Operation("unchanged", 304, _unchanged, _check_unchanged),
    # One at a time: each takes as long as thousands of the others.
    Operation("export", 200, _exports, _check_export, connections=1),
    Operation("create", 201, _creates, _check_create),
    Operation("patch", 200, _patches, _check_patch),
)
