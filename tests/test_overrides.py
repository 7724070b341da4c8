"""What authors write under our names, or nearly under them: it works, or keeps the plugin out and says why."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard import Resource, TableResource
from pegboard.discovery import discover, installed, mistake
from tests.conftest import Serve, new_database
from tests.test_discovery import Site
from tests.test_mistakes import declared

PRELUDE = """
import contextlib, functools
from pegboard import Content, Resource, Schema, TableResource, fields, operation

class Thing(Schema):
    name = fields.String(required=True)

class Table(TableResource):
    schema = Thing
    verbs = "GET", "POST"

class Memory(Resource):
    schema = Thing
    verbs = "GET", "POST"
    async def list(self, context): return []
    async def create(self, context, data): return {"id": "1", **data}
    async def retrieve(self, context, identity): return {"id": "1", "name": "x"}
"""

ACTIONS = "list", "create", "retrieve", "replace", "update", "delete", "create_all"
BASES = {"Table": TableResource, "Memory": Resource}
STRANGE = {"text": '{} = "a text"', "method": "def {}(self, *, another): return another"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give an empty folder on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    yield site
    for package in site.packages:
        sys.modules.pop(package, None)


def public_names(cls: type) -> set[str]:
    """Return every public name that a class and its instances have from us."""
    names = {name for parent in cls.__mro__ for name in (*vars(parent), *inspect.get_annotations(parent))}
    return {name for name in (*names, *ACTIONS) if not name.startswith("_")}


def strangers() -> dict[str, tuple[str, str]]:
    """Return for each broken plugin the attribute that breaks it and the code of its class, by its name."""
    return {
        f"{base.lower()}-{name}-{kind}": (name, f"({base}):\n    {line.format(name)}\n")
        for base, ours in BASES.items()
        for name in sorted(public_names(ours))
        for kind, line in STRANGE.items()
    }


async def test_whatever_stands_under_our_names_breaks_no_other(site: Site, serve: Serve, postgres: str) -> None:
    broken = strangers()
    classes = [f"class C{number}{code}" for number, (_, code) in enumerate(broken.values())]
    package = site.install("pegboard-strangers", PRELUDE + "\n".join(classes))
    points = "".join(f"{name} = {package}:C{number}\n" for number, name in enumerate(broken))
    (site.folder / f"{package}-1.2.dist-info" / "entry_points.txt").write_text(f"[pegboard.resources]\n{points}")

    api = await serve(discover(installed()), database_url=await new_database(postgres))
    for path in ("/", "/openapi.json", "/plugins", "/metrics", "/errors", "/contacts"):
        assert (await api.get(path)).status == 200, path
    assert (await api.get("/docs", headers={"Accept": "text/html"})).status == 200
    rows = {row["name"]: row for row in (await api.get("/plugins")).json["items"]}
    assert rows.keys() >= broken.keys()
    assert len(broken) > 150
    for name, (attribute, _) in broken.items():
        row = rows[name]
        if row["state"] == "ready":
            assert (await api.get(f"/{name}")).status == 200, name
            continue
        assert attribute in row["fault"], row
        assert len(row["fault"]) < 300, row
        assert "\n" not in row["fault"], row
        assert (await api.get(f"/{name}")).status == 503
    assert {name for name in broken if rows[name]["state"] == "ready"} == set()


WRONG: list[tuple[str, str]] = [
    # What stands under a name of ours.
    ('summary = "Things."', "the attribute summary takes the place of the classmethod that the service calls"),
    ("name = 'things'", "the attribute name is one that the service sets on each resource: give yours another name"),
    ("@property\n    def database(self): return 1", "the attribute database is one that the service sets on each"),
    ("@property\n    def dump(self): return 1", "the attribute dump takes the place of the method"),
    ("class dump: pass", "the attribute dump takes the place of the method"),
    ("def text(self): return 'x'", "text has to be a classmethod: write @classmethod above def text"),
    ("@classmethod\n    async def text(cls): return 'x'", "text has to be a classmethod"),
    ("@classmethod\n    def text(cls, item): return 'x'", "write @classmethod def text(cls)"),
    ("@classmethod\n    def spec(cls): return None", "write @classmethod def spec(cls, name)"),
    ("async def dump(self, item): return {}", "dump has to be a plain method, no coroutine and no generator"),
    ("def plain(self, items, query): yield {}", "plain has to be a plain method"),
    ("def shown(self, query, more): return ()", "write def shown(self, query)"),
    ("async def missing(self, context): pass", "write async def missing(self, context, identities)"),
    ("def missing(self, context, identities): pass", "missing has to be a coroutine: write async def missing"),
    ("async def before_commit(self, change): pass", "write async def before_commit(self, context, change)"),
    ("async def create_all(self, data): pass", "write async def create_all(self, context, data)"),
    ("delete = None", "the attribute delete takes the place of the coroutine"),
    ("async def stream(self, context): pass", "stream has to be an async generator: write async def stream"),
    ("def stream(self, context): yield 1", "stream has to be an async generator: write async def stream"),
    ("async def transaction(self, context): yield", "transaction has to be a context manager: write @contextlib"),
    ("@contextlib.contextmanager\n    def lifespan(self): yield", "lifespan has to be a context manager"),
    ("content = 5", "content is 5: set it to a pegboard.Content, or leave it out"),
    (
        "content = Content(verbs=('GET',))\n    def read_content(self, context, identity): pass",
        "read_content has to be a",
    ),
    ("@classmethod\n    def summary(cls): return None", "the classmethod summary returned None: let it return str"),
    ("@classmethod\n    def actions(cls): return []", "actions returned []: let it return frozenset[str]"),
    ("@classmethod\n    def existing(cls): return 5", "existing returned 5: let it return Existing | None"),
    ("@classmethod\n    def spec(cls, name): return name", "spec returned 'it': let it return TableSpec"),
    ("@classmethod\n    def rules(cls): return None", "rules returned None: let it return Rules"),
    ("@classmethod\n    def mistake(cls): return 5", "mistake returned 5: let it return str | None"),
    (f"filterable = {['x'] * 999}", "set it to a tuple of texts"),
    (f"needs_match = {'x' * 999!r}", "set it to True or False"),
]

ATTRIBUTES = """
uniqe unique, serach search, indexs indexes, index indexes, onwed owned, tabel table, filtrable filterable,
sorteable sortable, default_limt default_limit, max_limits max_limit, error_code error_codes, need_match needs_match,
create_by_put creates_by_put, pubilc public, check_version checks_version, contnet content, setings settings,
me_writeable me_writable, conflict conflicts, schem schema, verb verbs
"""
METHODS = """
before_comit before_commit, after_commmit after_commit, creat create, lsit list, retreive retrieve, updaet update,
delte delete, replcae replace, create_al create_all, read_contant read_content, wirte_content write_content
"""
MISSPELT: list[tuple[str, str]] = [
    *(
        (line.format(name), f"{name} is no {kind} of a resource: is {meant} meant? If not, give it another name.")
        for kind, line, pairs in (
            ("attribute", "{} = ('name',)", ATTRIBUTES),
            ("method", "async def {}(self, context, *others): pass", METHODS),
            ("method", "@contextlib.asynccontextmanager\n    async def {}(self): yield", "lifspan lifespan"),
            ("method", "async def {}(self, context): yield", "steam stream"),
        )
        for name, meant in map(str.split, pairs.split(","))
    )
]

ALLOWED = [
    "names = uniques_seen = None",
    "LIMIT = 5; owner = 'x'; stable = True; scheme = 'https'; _uniqe = 1; labels = (); limit = sort = 5",
    *(
        f"async def {name}(self, *args): pass"
        for name in (
            "updated",
            "deleted_at",
            "names",
            "lists",
            "created",
            "lost",
            "last",
            "replaces",
            "listed",
            "_creat",
        )
    ),
    "def creat(self): pass",
    "class Setting(Schema): pass",
    "class Indexs: pass",
    "@property\n    def serach(self): return 1",
    "@operation\n    async def updat(self, context, identity, data): pass",
    "def __init__(self, name, services):\n        super().__init__(name, services)\n        self.summaries = []",
    "@classmethod\n    def summary(cls, language='en'): return 'Things.'",
    "@staticmethod\n    def text(): return 'Things.'",
    "@functools.cache\n    def shown(self, query): return super().shown(query)",
    "def dump(self, *args, **kwargs): return super().dump(*args, **kwargs)",
    "dump = functools.partialmethod(TableResource.dump)",
    "def represent(self, thing, asked, /, more=None): return super().represent(thing, asked)",
    "async def missing(self, context, ids, *, fast=False): return set()",
    "async def stream(self, context):\n        yield 1",
    "def stream(self, context): return super().stream(context)",
    "def transaction(self, context): return super().transaction(context)",
    "@contextlib.asynccontextmanager\n    async def lifespan(self): yield",
    "@staticmethod\n    def parse_id(text): return text",
    "async def read_content(self, path): pass",
    "name: str; database: object",
]


def of_table(line: str) -> Any:
    return declared(f"{PRELUDE}\nclass Things(Table):\n    {line}\n")


@pytest.mark.parametrize(("line", "told"), [*WRONG, *MISSPELT])
def test_what_cannot_work_is_told_in_one_line(line: str, told: str) -> None:
    fault = mistake(of_table(line), "things")
    assert told in (fault or "")
    assert len(fault or "") < 300
    assert "\n" not in (fault or "")


@pytest.mark.parametrize("line", ALLOWED)
def test_what_works_stays_allowed(line: str) -> None:
    assert mistake(of_table(line), "things") is None


def test_the_plugins_that_are_installed_are_sound() -> None:
    assert {plugin.name: plugin.fault for plugin in discover(installed())} == dict.fromkeys(
        ("clients", "companies", "contacts", "files")
    )


@pytest.mark.parametrize(
    ("mixin", "bases", "told"),
    [
        ("uniqe = ()", "Table, Mixin", "uniqe is no attribute of a resource"),
        ("def summary(self): pass", "Mixin, Table", "summary has to be a classmethod"),
        ("def summary(self): pass", "Table, Mixin", "None"),
    ],
)
def test_what_an_author_inherits_is_held_against_our_names_too(mixin: str, bases: str, told: str) -> None:
    code = f"{PRELUDE}\nclass Mixin:\n    {mixin}\n\nclass Things({bases}): pass"
    assert str(mistake(declared(code), "things")).startswith(told)
