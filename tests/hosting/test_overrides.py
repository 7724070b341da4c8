"""Members of authors' classes with the name of a member of the base classes, or almost: they work, or fail the plugin."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pegboard import Resource, TableResource
from pegboard.hosting.checks.declaration import problem
from pegboard.hosting.discovery import discover, installed
from tests.conftest import Serve, new_database, plugin
from tests.hosting.test_declaration import declared
from tests.installed import Site, site

__all__ = ("site",)

PRELUDE = """
import contextlib, functools
from marshmallow import post_dump, post_load, pre_dump, pre_load
from pegboard import *

KEY = "01a20aa2-cf53-7785-ae39-9c16d1b021a9"

class Thing(Schema):
    name = fields.String(required=True)

class Table(TableResource):
    schema = Thing
    verbs = "GET", "POST"

class Memory(Resource):
    schema = Thing
    verbs = "GET", "POST"
    async def list(self, context): return []
    async def create(self, context, data): return {"id": KEY, **data}
    async def retrieve(self, context, id): return {"id": KEY, "name": "x"}
"""

ACTIONS = "list", "create", "retrieve", "replace", "update", "delete"
BASES = {"Table": TableResource, "Memory": Resource}
STRANGE = {"text": '{} = "a text"', "method": "def {}(self, *, another): return another"}


def public_names(cls: type) -> set[str]:
    """Return every public name of a class and its instances."""
    names = {name for parent in cls.__mro__ for name in (*vars(parent), *inspect.get_annotations(parent))}
    return {name for name in (*names, *ACTIONS) if not name.startswith("_")}


def broken_plugins() -> dict[str, tuple[str, str]]:
    """Return the attribute that breaks a plugin, and the code of its class, by the name of the plugin."""
    return {
        f"{base.lower()}-{name}-{kind}": (name, f"({base}):\n    {line.format(name)}\n")
        for base, resource in BASES.items()
        for name in sorted(public_names(resource))
        for kind, line in STRANGE.items()
    }


async def test_overridden_names_do_not_affect_other_plugins(site: Site, serve: Serve, postgres: str) -> None:
    broken = broken_plugins()
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
    assert len(broken) > 130
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


INVALID: list[tuple[str, str]] = [
    # Members with the name of a member of a base class.
    ("name = 'things'", "the service sets the attribute name on each resource: rename yours"),
    ("settings = Thing", "the service sets the attribute settings on each resource: write settings_schema = ..."),
    ("def __init__(self, name, services): pass", "__init__ has the wrong parameters: write def __init__(self)"),
    ("serializer = Thing", "the service sets the attribute serializer on each resource: rename yours"),
    ("_pegboard = 1", "the service sets the attribute _pegboard on each resource: rename yours"),
    ("@property\n    def database(self): return 1", "the service sets the attribute database on each"),
    ("@property\n    def parse_id(self): return 1", "the attribute parse_id hides the method"),
    ("class parse_id: pass", "the attribute parse_id hides the method"),
    ("async def parse_id(self, text): return text", "parse_id must be a plain method, not a coroutine or a generator"),
    ("def get_own_id(self, client): yield 1", "get_own_id must be a plain method"),
    ("def get_own_id(self, client, more): return ''", "write def get_own_id(self, client)"),
    ("def resource(self): return None", "write def resource(self, name)"),
    ("async def dangling_ids(self, context): pass", "write async def dangling_ids(self, context, ids)"),
    ("def dangling_ids(self, context, ids): pass", "dangling_ids must be a coroutine: write async def dangling_ids"),
    ("async def before_commit(self, change): pass", "write async def before_commit(self, context, change)"),
    ("delete = None", "delete is set to None: set verbs to those that the resource has instead"),
    ("async def transaction(self, context): yield", "transaction must be a context manager: write @contextlib"),
    ("@contextlib.contextmanager\n    def lifespan(self): yield", "lifespan must be a context manager"),
    ("content = 5", "content is 5: set it to an instance of pegboard.Content, or remove it"),
    (
        "content = Content(verbs=('GET',))\n    def read_content(self, context, id): pass",
        "read_content must be a",
    ),
    (f"filterable = {['x'] * 999}", "filterable names 'x' twice: remove one"),
    (f"filterable = {[5] * 999}", "set it to a tuple of strings"),
    (f"needs_match = {'x' * 999!r}", "set it to True or False"),
    ("search = ('name',)", "search is not an attribute of a resource: did you mean search_fields?"),
    ("conflicts = {}", "did you mean constraint_errors?"),
    ("methods = ('GET',)", "did you mean verbs?"),
]

ATTRIBUTES = """
uniqe unique, serach_fields search_fields, search_field search_fields, indexs indexes, index indexes, onwed owned, tabel table, filtrable filterable,
sorteable sortable, default_limt default_limit, max_limits max_limit, error_code error_codes, need_match needs_match,
create_by_put creates_by_put, pubilc public, check_version checks_version, contnet content, setings_schema settings_schema,
me_writeable me_writable, constraint_error constraint_errors, schem schema, verb verbs
"""
METHODS = """
before_comit before_commit, after_commmit after_commit, creat create, lsit list, retreive retrieve, updaet update,
delte delete, replcae replace, read_contant read_content, wirte_content write_content
"""
MISSPELT: list[tuple[str, str]] = [
    *(
        (
            line.format(name),
            f"{name} is not a{'n' * (kind == 'attribute')} {kind} of a resource: did you mean {meant}? If not, rename it.",
        )
        for kind, line, pairs in (
            ("attribute", "{} = ('name',)", ATTRIBUTES),
            ("method", "async def {}(self, context, *others): pass", METHODS),
            ("method", "@contextlib.asynccontextmanager\n    async def {}(self): yield", "lifspan lifespan"),
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
    "@property\n    def serach_fields(self): return 1",
    "@operation\n    async def updat(self, context, id, data): pass",
    "def __init__(self):\n        super().__init__()\n        self.summaries = [self.name]",
    "summary = 'Things.'; text = dump = plain = shown = represent = stream = rules = spec = operations = 5",
    "def summary(self, item): return 'Things.'",
    "def dump(self): return ''\n    def actions(self): return []",
    "async def create_all(self): pass",
    "@functools.cache\n    def parse_id(self, text): return super().parse_id(text)",
    "def parse_id(self, *args, **kwargs): return super().parse_id(*args, **kwargs)",
    "parse_id = functools.partialmethod(TableResource.parse_id)",
    "def get_own_id(self, who, /, more=None): return super().get_own_id(who)",
    "async def dangling_ids(self, context, ids, *, fast=False): return set()",
    "def transaction(self, context): return super().transaction(context)",
    "@contextlib.asynccontextmanager\n    async def lifespan(self): yield",
    "@staticmethod\n    def parse_id(text): return text",
    "async def read_content(self, path): pass",
    "name: str; database: object",
]


INVALID_SCHEMAS: list[tuple[str, str]] = [
    (
        "made = fields.Date(data_key='created_at')",
        "the field made has data_key='created_at', which is a standard field",
    ),
    ("nr = fields.String(data_key='id')", "the field nr has data_key='id', which is a standard field of every item"),
    (
        "when = fields.DateTime(attribute='updated_at')",
        "the field when has attribute='updated_at', which is a standard",
    ),
    ("id = fields.String()", "the field id is a standard field of every item: remove it from the schema"),
    (
        "@validates_schema\n    def check(self, data): pass",
        "Thing.check has the wrong parameters for @validates_schema: write def check(self, data, **kwargs)",
    ),
    (
        "@validates_schema(pass_original=True)\n    def check(self, data, **kwargs): pass",
        "write def check(self, data, original, **kwargs)",
    ),
    ("@validates_schema\n    def check(self, data, *, partial, many): pass", "write def check(self, data, **kwargs)"),
    ("@validates('name')\n    def check(self, value): pass", "write def check(self, value, **kwargs)"),
    ("@validates('nmae')\n    def check(self, value, **_): pass", "Thing.check validates 'nmae', which is not a field"),
    ("@pre_load\n    def clean(self, data): return data", "write def clean(self, data, **kwargs)"),
    ("@post_load\n    def make(self, data, many): return data", "write def make(self, data, **kwargs)"),
    ("@pre_dump\n    def show(self, data): return data", "Thing.show has the wrong parameters for @pre_dump"),
    (
        "@post_dump(pass_original=True)\n    def show(self, data, **_): return data",
        "def show(self, data, original, **kwa",
    ),
    ("@validates_schema\n    async def check(self, data, **_): pass", "Thing.check must be a plain method"),
    ("@post_load\n    def make(self, data, **_): yield data", "Thing.make must be a plain method"),
    ("@post_load\n    def make(self, data, **_): data['name'] = 'x'", "Thing.make returned None: it must return the"),
    ("@pre_load\n    def clean(self, data, **_): pass", "Thing.clean returned None: it must return the data"),
    ("@pre_dump\n    def show(self, data, **_): pass", "Thing.show returned None: it must return the data"),
    ("@post_dump\n    def show(self, data, **_): return 'x'", "Thing.show returned 'x': it must return a dict"),
    ("@post_load\n    def make(self, data, **_): return Content()", "Thing.make returned Content("),
    (
        "n = fields.Integer(validate=validate.Range)",
        "the field n uses the class Range as a validator; instantiate it: Range(...)",
    ),
    (
        "n = fields.Integer(validate=lambda: True)",
        "the field n has a validator with the wrong parameters: write def",
    ),
    (
        "n = fields.Integer(validate=later)",
        "the field n uses a coroutine or a generator as a validator, which is not",
    ),
    ("n = fields.Integer(validate=lambda n: n > 5, load_default=1)", "the field n rejects its own default 1: Invalid"),
    ("below = fields.Nested(Lost)", "the field below nests Lost, and there Lost.make returned None"),
]

VALID_SCHEMAS = [
    "@validates_schema\n    def check(self, data, **kwargs): pass",
    "@validates_schema(pass_original=True)\n    def check(self, data, original, *, partial, many, unknown): pass",
    "@validates('name')\n    def check(self, value, data_key): pass",
    "@pre_load\n    def clean(self, data, many, **kwargs): return {**data}",
    "@post_load\n    def make(self, data, **kwargs): return data | {'name': data['name'].title()}",
    "@post_load\n    def make(self, data, **kwargs): return 1 / 0",
    "@post_dump(pass_original=True)\n    def show(self, data, original, **kwargs): return data",
    "@staticmethod\n    @post_load\n    def make(data, **kwargs): return data",
    "created = fields.Date(data_key='createdAt')",
    "n = fields.String(validate=[str.isalpha, validate.And(validate.Length(1, 9), str.islower), bool])",
    "below = fields.Nested(Point)",
]

NESTED = """
async def later(value): pass

class Lost(Schema):
    x = fields.Integer()
    @post_load
    def make(self, data, **_): pass

class Point(Schema):
    id = fields.Integer()
    @post_load
    def make(self, data, **_): return complex(data["id"], 0)
"""


def of_schema(line: str) -> Any:
    thing = f"class Thing(Schema):\n    name = fields.String(required=True)\n    {line}\n"
    return declared(f"{PRELUDE}{NESTED}{thing}\nclass Things(Memory):\n    schema = Thing\n")


@pytest.mark.parametrize(("line", "message"), INVALID_SCHEMAS)
def test_invalid_schema_overrides_are_reported_in_one_line(line: str, message: str) -> None:
    error = problem(of_schema(line), "things")
    assert message in (error or "")
    assert len(error or "") < 300


@pytest.mark.parametrize("line", VALID_SCHEMAS)
def test_valid_schema_overrides_are_allowed(line: str) -> None:
    assert problem(of_schema(line), "things") is None


@pytest.mark.parametrize(
    "line",
    [
        "settings_schema = Lost",
        "@operation(request=Lost)\n    async def burn(self, context, id, data): pass",
        "@operation(response=Lost)\n    async def burn(self, context, id, data): pass",
    ],
)
def test_schemas_of_operations_and_settings_are_checked_likewise(line: str) -> None:
    found = declared(f"{PRELUDE}{NESTED}\nclass Things(Memory):\n    {line}\n")
    assert problem(found, "things") == "Lost.make returned None: it must return the data"


CHANGEABLE = """
    @pre_load
    def clean(self, data, **kwargs): return data if data["name"] != "lost" else None
    @post_load
    def make(self, data, **kwargs): return data if data["name"] != "odd" else Content()
    @validates_schema
    def check(self, data, **kwargs): return data["name"] != "whole"
    @validates("name")
    def check_name(self, value, **kwargs): return value != "part"
"""


async def test_an_occasionally_invalid_return_value_of_a_hook_is_logged(
    serve: Serve, postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    api = await serve([plugin("things", of_schema(CHANGEABLE))], database_url=await new_database(postgres))
    assert (await api.post("/things", {"name": "x"})).status == 201
    for name, message in (
        ("lost", "Thing.clean returned None: it must return the data"),
        ("odd", "Thing.make returned Content(max_size="),
    ):
        caplog.clear()
        assert (await api.post("/things", {"name": name})).status == 500
        assert message in caplog.text
    assert (await api.post("/things", {"name": "whole"})).errors == [(11000, "")]
    assert (await api.post("/things", {"name": "part"})).errors == [(11000, "/name")]


def of_table(line: str) -> Any:
    return declared(f"{PRELUDE}\nclass Things(Table):\n    {line}\n")


@pytest.mark.parametrize(("line", "message"), [*INVALID, *MISSPELT])
def test_invalid_overrides_are_reported_in_one_line(line: str, message: str) -> None:
    error = problem(of_table(line), "things")
    assert message in (error or "")
    assert len(error or "") < 300
    assert "\n" not in (error or "")


@pytest.mark.parametrize("line", ALLOWED)
def test_valid_overrides_are_allowed(line: str) -> None:
    assert problem(of_table(line), "things") is None


def test_installed_plugins_are_valid() -> None:
    assert {plugin.name: plugin.error for plugin in discover(installed())} == dict.fromkeys(
        ("clients", "companies", "contacts", "files")
    )


@pytest.mark.parametrize(
    ("mixin", "bases", "message"),
    [
        ("uniqe = ()", "Table, Mixin", "uniqe is not an attribute of a resource"),
        ("async def parse_id(self, text): pass", "Mixin, Table", "parse_id must be a plain method"),
        ("async def parse_id(self, text): pass", "Table, Mixin", "None"),
    ],
)
def test_inherited_attributes_are_checked(mixin: str, bases: str, message: str) -> None:
    code = f"{PRELUDE}\nclass Mixin:\n    {mixin}\n\nclass Things({bases}): pass"
    assert str(problem(declared(code), "things")).startswith(message)


UNSENDABLE = {
    "code": "    error_codes = (type('Own', (ApiError,), {}, number=9, status=409, message='\\ud800'),)",
    "operation": "    @operation()\n    async def shelve(self, context, id, data):\n        '\\ud800'",
}


async def test_unencodable_text_disables_only_its_plugin(site: Site, serve: Serve) -> None:
    """Python represents a lone surrogate as a character, but UTF-8 cannot encode it."""
    code = "\n".join(f"class C{number}(Table):\n{line}" for number, line in enumerate(UNSENDABLE.values()))
    package = site.install("pegboard-unsendable", PRELUDE + code)
    points = "\n".join(f"{name} = {package}:C{number}" for number, name in enumerate(UNSENDABLE))
    (site.folder / f"{package}-1.2.dist-info" / "entry_points.txt").write_text(f"[pegboard.resources]\n{points}\n")
    neighbour = plugin("neighbour", declared(f"{PRELUDE}\nclass Things(Table): pass"))
    unsendable = [plugin for plugin in discover(installed()) if plugin.name in UNSENDABLE]
    api = await serve([*unsendable, neighbour])
    rows = {row["name"]: row["fault"] for row in (await api.get("/plugins")).json["items"]}
    for name in UNSENDABLE:
        assert "its endpoints cannot be described: TypeError: str is not valid UTF-8" in (rows[name] or ""), name
    for path in ("/", "/docs", "/docs/neighbour", "/openapi.json", "/plugins", "/errors", "/neighbour"):
        assert (await api.get(path)).status == 200, path


async def test_an_error_while_parsing_an_id_only_fails_the_request(serve: Serve) -> None:
    raised = "{'k': KeyboardInterrupt, 's': SystemExit, 'g': GeneratorExit, 'c': asyncio.CancelledError}"
    code = f"class Things(Memory):\n    def parse_id(self, text): raise {raised}[text]\n"
    resource = declared(f"{PRELUDE}\nimport asyncio\n{code}")
    api = await serve([plugin("things", resource)])
    for text in "ksgc":
        assert (await api.get(f"/things/{text}")).status == 500
    assert (await api.get("/things")).status == 200
