"""The recipes for changing a plugin: its versions are started, stopped and rolled back beside each other under load."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import distributions
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pegboard.app import SERVICE, create_app
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting.discovery import GROUP, Plugin, discover
from pegboard.hosting.migrations import migrations
from pegboard.migrations.drafts import Differences, differences
from pegboard.testing.client import Target
from pegboard.testing.service import settings_for
from tests.conftest import Api, Response, new_database
from tests.features.test_docs import ROOT, snippets

PAGE = ROOT / "docs" / "changing-a-plugin.md"
BEFORE, FIRST, SECOND = VERSIONS = ("1.0", "1.1", "1.2")
STAGES = (
    *(f"start {BEFORE}", f"start {FIRST}", f"stop {BEFORE}", f"start {BEFORE}", f"stop {FIRST}", f"start {FIRST}"),
    *(f"stop {BEFORE}", f"start {SECOND}", f"stop {FIRST}", f"start {FIRST}", f"stop {SECOND}", f"start {SECOND}"),
)
WRITERS = 4
ROUNDS = 24
"""The writes between two stages."""


@dataclass
class Site:
    """The versions of a package that the page shows, each installed in a folder of its own."""

    folder: Path
    package: str

    def install(self) -> None:
        for version in VERSIONS:
            # Python imports one package of a name, so each version has a name of its own.
            name = f"{self.package}_{VERSIONS.index(version)}"
            names = [self.package.removeprefix("pegboard_")]
            for former in VERSIONS[: VERSIONS.index(version) + 1]:
                for file, text in self._files(former):
                    path = self.folder / version / name / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
                    names += [file.parts[1]] if len(file.parts) == 3 else []
            about = self.folder / version / f"{name}-{version}.dist-info"
            about.mkdir()
            distribution = self.package.replace("_", "-")
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
            points = "".join(f"{one} = {name}:{one.title()}\n" for one in dict.fromkeys(names))
            (about / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")

    def _files(self, version: str) -> Iterator[tuple[Path, str]]:
        start = f"{version}/{self.package}/"
        found = [(Path(one.file.removeprefix(start)), one.text) for one in SHOWN if one.file.startswith(start)]
        assert found, f"the page does not show {start}"
        yield from found

    def plugins(self, version: str) -> list[Plugin]:
        (distribution,) = distributions(path=[str(self.folder / version)])
        return discover(distribution.entry_points.select(group=GROUP))


SHOWN = snippets(PAGE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for version in VERSIONS:
        monkeypatch.syspath_prepend(tmp_path / version)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("pegboard_"):
            del sys.modules[name]


@dataclass
class Running:
    """A version that serves, as a load balancer sees it: it gets no request once it is to stop."""

    version: str
    api: Api
    client: TestClient[Any, Any]
    plugins: list[Plugin]
    users: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def used(self) -> Iterator[Running]:
        """Keep the service from being stopped."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            self.left.set()

    async def stop(self) -> None:
        """Stop the service once nobody uses it."""
        while self.users:
            self.left.clear()
            await self.left.wait()
        await self.client.close()

    async def request(self, method: str, path: str, json: Any = None) -> Response:
        """Send a request, to which the service must not respond with a status of 500 or above."""
        response = await self.api.request(method, path, json)
        assert response.status < 500, (self.version, method, path, json, response.body)
        return response


Item = dict[str, Any]


class Recipe:
    """What the clients of each version write and read; an item is described by the fields of all versions."""

    package: str
    path: str

    def fields(self, version: str, item: Item) -> Item:
        """Return what a version shows of an item."""
        raise NotImplementedError

    def change(self, version: str, number: int) -> Item:
        """Return a body with another value of what the recipe changes."""
        raise NotImplementedError

    def after(self, item: Item, body: Item) -> Item:
        """Return an item after a write of a body to it."""
        raise NotImplementedError

    async def write(self, service: Running, number: int, id: str | None, item: Item) -> tuple[str, Item]:
        """Create, replace or change an item in one of several ways; return its id and the item."""
        body = self.change(service.version, number)
        note = {"note": f"note {number}"}
        if id is None:
            whole = body | note
            created = await service.request("POST", self.path, [whole, whole] if number % 3 == 0 else whole)
            assert created.status == 201, created.body
            if number % 3 == 0:
                first, second = created.json["items"]
                assert (await service.request("DELETE", f"{self.path}/{first['id']}")).status == 204
                return second["id"], self.after({}, whole)
            return created.json["id"], self.after({}, whole)
        method, body = (("PATCH", body), ("PATCH", note), ("PUT", body | note), ("PATCH", body | note))[number % 4]
        changed = await service.request(method, f"{self.path}/{id}", body)
        assert changed.status == 200, changed.body
        return id, self.after(item, body)

    async def read(self, service: Running, id: str, item: Item) -> None:
        """Read an item through a version, and check that it is what was written last through any."""
        response = await service.request("GET", f"{self.path}/{id}")
        assert response.status == 200, (service.version, response.body)
        expected = self.fields(service.version, item)
        assert {name: response.json[name] for name in expected} == expected, (service.version, item)


class Renamed(Recipe):
    package = "pegboard_guests"
    path = "/guests"

    def fields(self, version: str, item: Item) -> Item:
        return {("name" if version == BEFORE else "full_name"): item["name"], "note": item["note"]}

    def change(self, version: str, number: int) -> Item:
        return {("name" if version == BEFORE else "full_name"): f"Ada {number}"}

    def after(self, item: Item, body: Item) -> Item:
        return item | {("name" if name == "full_name" else name): value for name, value in body.items()}


class Moved(Recipe):
    package = "pegboard_authors"
    path = "/authors"

    def fields(self, version: str, item: Item) -> Item:
        names = ("name",) if version == BEFORE else ("first_name", "last_name")
        return {name: item[name] for name in (*names, "note")}

    def change(self, version: str, number: int) -> Item:
        if version == BEFORE:
            return {"name": (f"Ada  King {number}", f"Plato{number}", f"Ada {number} ")[number % 3]}
        return {"first_name": f"Ludwig{number}", "last_name": (None, "van Beethoven")[number % 2]}

    def after(self, item: Item, body: Item) -> Item:
        item = item | body
        if body.get("name") is not None:
            first, *rest = body["name"].rsplit(" ", 1)
            return item | {"first_name": first, "last_name": rest[0] if rest else None}
        names = [item[name] for name in ("first_name", "last_name") if item[name] is not None]
        return item | {"name": " ".join(names)} if "first_name" in body else item


class Retyped(Recipe):
    package = "pegboard_products"
    path = "/products"

    def fields(self, version: str, item: Item) -> Item:
        price = float(item["price"]) if version == BEFORE else item["price"]
        return {"price": price, "note": item["note"]}

    def change(self, version: str, number: int) -> Item:
        if version == BEFORE:
            return {"price": (number + 0.1 + 0.2, number / 7, float(number))[number % 3]}
        return {"price": (f"{number}.12345678901234567891", f"{number}.10")[number % 2]}

    def after(self, item: Item, body: Item) -> Item:
        price = {"price": number(body["price"])} if "price" in body else {}
        return item | body | price


def number(price: float | str) -> str:
    return f"{Decimal(repr(price)).normalize():f}" if isinstance(price, float) else price


class Split(Recipe):
    """An item has the entry "address": whether it has an item in /addresses."""

    package = "pegboard_customers"
    path = "/customers"

    def fields(self, version: str, item: Item) -> Item:
        return {name: item[name] for name in (("name", "street", "city") if version == BEFORE else ("name",))}

    async def write(self, service: Running, number: int, id: str | None, item: Item) -> tuple[str, Item]:
        name: Item = {"name": f"Ada {number}"}
        address: Item = {
            "street": (f"{number} High Street", None)[number % 7 == 0],
            "city": ("Bath", None)[number % 3 == 0],
        }
        bodies = [name] if service.version != BEFORE else [name | address, address, name]
        if id is None:
            created = await service.request("POST", self.path, bodies[0])
            assert created.status == 201, created.body
            return created.json["id"], self.after({"street": None, "city": None, "address": False}, bodies[0])
        if service.version != BEFORE and number % 5:
            return id, item | await self._write_address(service, number, id, address)
        body = bodies[number % len(bodies)]
        changed = await service.request("PUT" if body == bodies[0] else "PATCH", f"{self.path}/{id}", body)
        assert changed.status == 200, changed.body
        return id, self.after(item, body)

    def after(self, item: Item, body: Item) -> Item:
        exists = item["address"] or any(body.get(name) is not None for name in ("street", "city"))
        return item | body | {"address": exists}

    async def _write_address(self, service: Running, number: int, id: str, address: Item) -> Item:
        found = await self._addresses(service, id)
        if not found:
            created = await service.request("POST", "/addresses", {"customer": id, **address})
            assert created.status == 201, created.body
            return address | {"address": True}
        path = f"/addresses/{found[0]['id']}"
        if number % 4 == 0:
            assert (await service.request("DELETE", path)).status == 204
            return {"street": None, "city": None, "address": False}
        method, body = (("PUT", {"customer": id, **address}), ("PATCH", address))[number % 2]
        assert (await service.request(method, path, body)).status == 200
        return address

    async def _addresses(self, service: Running, id: str) -> list[Item]:
        found = (await service.request("GET", f"/addresses?customer={id}")).json["items"]
        return [{name: one[name] for name in ("id", "street", "city")} for one in found]

    async def read(self, service: Running, id: str, item: Item) -> None:
        await super().read(service, id, item)
        if service.version == BEFORE:
            return
        expected = [{"street": item["street"], "city": item["city"]}] if item["address"] else []
        found = await self._addresses(service, id)
        assert [{"street": one["street"], "city": one["city"]} for one in found] == expected, (service.version, item)


RECIPES = (Renamed(), Moved(), Split(), Retyped())


class Load:
    """Writers that use every running version in turn, each with items of its own."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.running: list[Running] = []
        self.items: dict[str, Item] = {}
        self.done = asyncio.Condition()
        self.writes = 0
        self.stopped = False
        self._numbers = count(1)

    async def write(self, seed: int) -> None:
        """Write and read until the load stops."""
        choices = random.Random(seed)
        own: list[str] = []
        while not self.stopped:
            number = next(self._numbers)
            id = choices.choice(own) if len(own) > 3 or (own and number % 3) else None
            with choices.choice(self.running).used() as service:
                if id is not None and number % 17 == 0:
                    own.remove(id)
                    del self.items[id]
                    assert (await service.request("DELETE", f"{self.recipe.path}/{id}")).status == 204
                    continue
                id, item = await self.recipe.write(service, number, id, self.items.get(id or "", {}))
            self.items[id] = item
            own += [id] if id not in own else []
            await self.read(id)
            async with self.done:
                self.writes += 1
                self.done.notify_all()

    async def read(self, id: str) -> None:
        """Read an item through every version that still runs."""
        for service in list(self.running):
            if service in self.running:
                with service.used():
                    await self.recipe.read(service, id, self.items[id])

    async def go_on(self) -> None:
        """Wait for more writes."""
        target = self.writes + ROUNDS
        async with self.done:
            await self.done.wait_for(lambda: self.writes >= target)

    async def check(self) -> None:
        """Read every item through every running version, and count them."""
        for id in self.items:
            await self.read(id)
        for service in self.running:
            page = await service.request("GET", f"{self.recipe.path}?count=exact&limit=1")
            assert page.json["total"] == len(self.items) > 0


@pytest.fixture
async def url(pegboard_postgres: str) -> str:
    return await new_database(pegboard_postgres)


Start = Callable[[str], Awaitable[Running]]


@asynccontextmanager
async def services(url: str, folder: Path, package: str) -> AsyncIterator[Start]:
    """Yield a function that starts a version; those that still run at the end are stopped."""
    site = Site(folder, package)
    site.install()
    started: list[Running] = []

    async def start(version: str) -> Running:
        plugins = site.plugins(version)
        app = create_app(settings_for(url, {}), plugins, Passwords(Cost(memory=8, passes=1)))
        client = TestClient(TestServer(app), auto_decompress=False)
        await client.start_server()
        target = Target(app[SERVICE], client.session, asyncio.get_running_loop())
        started.append(Running(version, Api(target, str(client.make_url("")).rstrip("/")), client, plugins))
        return started[-1]

    try:
        yield start
    finally:
        for service in started:
            await service.client.close()


async def states(service: Running) -> list[tuple[str, str | None]]:
    return [(plugin["state"], plugin["fault"]) for plugin in (await service.api.get("/plugins")).json["items"]]


async def change_versions(load: Load, start: Start, kept: Collection[str]) -> None:
    """Go through all stages, each under load; nobody writes to the items `kept`."""
    for stage in STAGES[1:]:
        what, version = stage.split()
        if what == "start":
            service = await start(version)
            assert {state for state, _ in await states(service)} == {"ready"}, await states(service)
            load.running.append(service)
            for id in kept:
                await load.read(id)
        else:
            (service,) = (one for one in load.running if one.version == version)
            load.running.remove(service)
            await service.stop()
        await load.go_on()
    load.stopped = True


@pytest.mark.long
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__.lower())
async def test_versions_side_by_side_lose_no_write_and_fail_no_request(folder: Path, url: str, recipe: Recipe) -> None:
    load = Load(recipe)
    async with asyncio.timeout(120), services(url, folder, recipe.package) as start:
        load.running.append(await start(BEFORE))
        # What is there before the first release is copied by its files.
        for number in range(1, 20):
            id, item = await recipe.write(load.running[0], number, None, {})
            load.items[id] = item
        async with asyncio.TaskGroup() as group:
            for seed in range(WRITERS):
                group.create_task(load.write(seed))
            group.create_task(change_versions(load, start, list(load.items)))
        await load.check()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__.lower())
async def test_the_version_before_is_not_served_after_the_second_release(
    folder: Path, url: str, recipe: Recipe
) -> None:
    async with services(url, folder, recipe.package) as start:
        second = await start(SECOND)
        id, item = await recipe.write(second, 1, None, {})
        before = await start(BEFORE)
        ((state, error),) = await states(before)
        assert state == "failed"
        assert re.search(f"was changed by version {SECOND} of the plugin, and the column \\w+ is missing", error or "")
        assert (await before.api.get(recipe.path)).status == 503
        await recipe.read(second, id, item)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__.lower())
async def test_a_service_that_is_stopped_may_skip_the_first_release(folder: Path, url: str, recipe: Recipe) -> None:
    async with services(url, folder, recipe.package) as start:
        before = await start(BEFORE)
        written = [await recipe.write(before, number, None, {}) for number in range(1, 5)]
        await before.stop()
        second = await start(SECOND)
        for id, item in written:
            await recipe.read(second, id, item)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__.lower())
async def test_only_the_new_column_differs_from_the_schema_until_the_second_release(
    folder: Path, url: str, recipe: Recipe
) -> None:
    async with services(url, folder, recipe.package) as start:
        found = await differences(url, migrations((await start(FIRST)).plugins))
        reported = "\n".join(one.partition(":")[0] for known in found.values() for one in known.advice)
        expected = "" if isinstance(recipe, Split) else r"the column \w+ is declared without null, but allows null"
        assert re.fullmatch(expected, reported), found
        assert not any(known.problems for known in found.values())
        second = await start(SECOND)
        assert {*(await differences(url, migrations(second.plugins))).values()} == {Differences()}


@pytest.mark.parametrize("recipe", [Renamed(), Moved(), Retyped()], ids=lambda recipe: type(recipe).__name__.lower())
async def test_versions_that_write_to_one_item_at_the_same_time_agree_on_it(
    folder: Path, url: str, recipe: Recipe
) -> None:
    async with services(url, folder, recipe.package) as start:
        running = [await start(version) for version in (BEFORE, FIRST)]
        id, item = await recipe.write(running[0], 1, None, {})

        async def write(number: int) -> Item:
            service = running[number % 2]
            body = recipe.change(service.version, number)
            assert (await service.request("PATCH", f"{recipe.path}/{id}", body)).status == 200
            return recipe.after(item, body)

        for first in range(2, 42, 8):
            written = await asyncio.gather(*map(write, range(first, first + 8)))
            shown = {one.version: (await one.request("GET", f"{recipe.path}/{id}")).json for one in running}
            agreed = [
                one for one in written if all(recipe.fields(name, one).items() <= shown[name].items() for name in shown)
            ]
            assert agreed, (shown, written)


async def test_writes_to_one_address_at_the_same_time_through_both_resources_agree(folder: Path, url: str) -> None:
    async with services(url, folder, Split.package) as start:
        before, first = [await start(version) for version in (BEFORE, FIRST)]
        created = await before.request("POST", "/customers", {"name": "Ada", "street": "1", "city": "Bath"})
        customer = f"/customers/{created.json['id']}"
        (address,) = (await first.request("GET", "/addresses")).json["items"]
        path = f"/addresses/{address['id']}"
        for first_number in (10, 20, 30):
            numbers = range(first_number, first_number + 6)
            responses = await asyncio.gather(
                *(
                    api.patch(item, {"street": f"{number}"})
                    for number, (api, item) in zip(
                        numbers, [(before.api, customer), (first.api, path)] * 3, strict=True
                    )
                )
            )
            # Two that wait for each other are a deadlock: one of them is rolled back, and repeated.
            written = {f"{number}": one.status for number, one in zip(numbers, responses, strict=True)}
            assert {*written.values()} == {200}
            shown = (await before.request("GET", customer)).json["street"]
            assert written[shown] == 200
            assert (await first.request("GET", path)).json["street"] == shown


async def test_a_write_through_one_resource_changes_the_entity_tag_of_the_other(folder: Path, url: str) -> None:
    async with services(url, folder, Split.package) as start:
        before, first = [await start(version) for version in (BEFORE, FIRST)]
        created = await before.request("POST", "/customers", {"name": "Ada", "street": "1", "city": "Bath"})
        customer = f"/customers/{created.json['id']}"
        (item,) = (await first.request("GET", "/addresses")).json["items"]
        address = f"/addresses/{item['id']}"
        tags = [(await before.request("GET", customer)).headers["ETag"]]
        assert (await first.request("PATCH", address, {"street": "2"})).status == 200
        tags.append((await before.request("GET", customer)).headers["ETag"])
        assert len({*tags}) == 2
        tags = [(await first.request("GET", address)).headers["ETag"]]
        assert (await before.request("PATCH", customer, {"street": "3"})).status == 200
        tags.append((await first.request("GET", address)).headers["ETag"])
        assert len({*tags}) == 2
