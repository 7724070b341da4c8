"""Errors in declarations, and the message for each: the location and the fix."""

from __future__ import annotations

from typing import Any

import pytest

from pegboard.hosting.checks.declaration import problem

PRELUDE = """
import enum
import marshmallow
from datetime import date
from pegboard import *
from pegboard import errors, fields, validate

class Address(Schema):
    city = fields.String()

class Loose(Schema):
    class Meta:
        unknown = marshmallow.EXCLUDE
    city = fields.String()

class Foreign(marshmallow.Schema):
    city = fields.String()

class Taken(ApiError, number=1, status=409, message="Taken."): ...

"""

# The fields of the schema, the lines of the resource, and the expected message.
TABLES: list[tuple[str, str, str]] = [
    # The schema and its fields.
    ("", "schema = 5", "set schema to a subclass of pegboard.Schema"),
    ("", "schema = Thing()", "set schema to a subclass of pegboard.Schema, not to an instance: schema = Thing"),
    ("", "schema = Foreign", "set schema to a subclass of pegboard.Schema"),
    ("", "schema = Loose", "Loose.Meta accepts unknown fields: remove the option unknown"),
    (
        "class Meta:\n        datetimeformat = '%d.%m.%Y'",
        "",
        "Thing.Meta sets datetimeformat, but the service defines the format of timestamps: remove it",
    ),
    (
        "class Meta:\n        index_errors = False",
        "",
        "Thing.Meta sets index_errors to False, but error pointers need it: remove it",
    ),
    (
        "a = fields.Field()",
        "",
        "the field a has no column type: use a field of pegboard.fields, or set the type in metadata",
    ),
    (
        "a = marshmallow.fields.Tuple((fields.String(),))",
        "",
        "the field a has no column type: use a field of pegboard.fields, or set the type in metadata",
    ),
    (
        "a = fields.List(fields.Reference('others'))",
        "",
        "the field a is a list of references, which a foreign key cannot enforce: use a list of fields.UUID",
    ),
    (
        "a = fields.String(metadata={'column_type': 'char(2)'})",
        "",
        "the field a has the column type bpchar, which cannot keep values of fields.String unchanged: use text or varchar",
    ),
    (
        "a = fields.Integer(metadata={'column_type': 'text'})",
        "",
        "the field a has the column type text, which cannot keep values of fields.Integer unchanged: "
        "use bigint or integer or smallint",
    ),
    (
        "a = fields.List(fields.String(), metadata={'column_type': 'bytea[]'})",
        "",
        "the field a has the column type bytea, which cannot keep values of fields.String unchanged: use text or varchar",
    ),
    (
        "a = fields.List(fields.Decimal(), metadata={'column_type': 'numeric(4,1)[]'})",
        "",
        "the field a declares the type of its elements, numeric(4,1), only for the list: "
        'write fields.List(fields.Decimal(metadata={"column_type": "numeric(4,1)"}))',
    ),
    (
        "a = fields.Decimal(places=2, metadata={'column_type': 'numeric(9,3)'})",
        "",
        "the field a has 2 places, but its column has 3: use places=3",
    ),
    ("a = fields.Decimal(places=101)", "", "the field a has 101 places: use 0 to 100"),
    (
        "a = fields.Enum(enum.Enum('Size', {'S': 1.5}), by_value=True)",
        "",
        "the field a uses Size, whose values are not all text or all integers: use the names",
    ),
    (
        "a = fields.Nested(Schema.from_dict({'b': fields.Reference('others')}))",
        "",
        "the field a nests the reference b, which a foreign key cannot enforce: "
        "use fields.UUID, or move it to the outer schema",
    ),
    ("ctid = fields.String()", "", "it: every table of PostgreSQL has a column ctid already: rename it"),
    (
        "a = fields.String(data_key='_etag')",
        "",
        "a field cannot be called '_etag': `sort` and `fields` could not name it",
    ),
    (
        "updated_at = fields.DateTime()",
        "",
        "the field updated_at is a standard field of every item: remove it from the schema",
    ),
    ("id = fields.UUID()", "", "the field id is a standard field of every item: remove it from the schema"),
    *(
        (
            f"{name} = fields.String()",
            "",
            f"a field cannot be called {name!r}: that is a query parameter of every collection",
        )
        for name in ("limit", "after", "before", "sort", "fields", "count", "q", "expand")
    ),
    (
        "a = fields.String(data_key='a,b')",
        "",
        "a field cannot be called 'a,b': `sort` and `fields` could not name it",
    ),
    (
        "name__gt = fields.String()",
        "",
        "the field name__gt has the name of a filter of the field name: rename it",
    ),
    (
        "a = fields.String(data_key='name')",
        "",
        "Thing is inconsistent: The data_key argument for one or more fields collides with another field's name or "
        "data_key argument. Check the following field names and data_key arguments: ['name']",
    ),
    (
        "a = fields.String(attribute='name')",
        "",
        "Thing is inconsistent: The attribute argument for one or more fields collides with another field's name or "
        "attribute argument. Check the following field names and attribute arguments: ['name']",
    ),
    ("_version = fields.String()", "", "it: the column _version is declared twice or is one of the standard columns"),
    (
        f"{'a' * 64} = fields.String()",
        "",
        f"{'a' * 64!r} is not a valid name in PostgreSQL: use 1 to 63 bytes",
    ),
    (
        "a = fields.String(dump_only=True, load_only=True)",
        "",
        "the field a is dump_only and load_only, so it is neither accepted nor shown: remove one of them",
    ),
    (
        "a = fields.String(dump_only=True, required=True)",
        "",
        "the field a is required and dump_only, so no client can send it: remove one of them",
    ),
    (
        "a = fields.Integer(load_default='many')",
        "",
        "the field a rejects its own default 'many': Not a valid integer.",
    ),
    (
        "a = fields.String(load_default='', validate=validate.Length(1, 9))",
        "",
        "the field a rejects its own default '': Length must be between 1 and 9.",
    ),
    (
        "a = fields.List(fields.String(), load_default=[])",
        "",
        "the field a shares one list as the default of all items: write load_default=list",
    ),
    (
        "a = fields.String(load_default=object)",
        "indexes = ('a',)",
        "an index over a needs validate.Length(max=...) on the field, at most 600",
    ),
    (
        "a = fields.Raw(load_default=object())",
        "",
        "the field a has a default of type object, which JSON cannot represent: use one that the field can load",
    ),
    (
        "a = fields.String(validate=validate.Length(min=5, max=2))",
        "",
        "the field a has <Length(min=5, max=2, equal=None, error=None)>, which no value can pass: "
        "its min is greater than its max",
    ),
    (
        "a = fields.Integer(validate=validate.Range(5, 2))",
        "",
        "the field a has <Range(min=5, max=2, min_inclusive=True, max_inclusive=True, error=None)>, "
        "which no value can pass: its min is greater than its max",
    ),
    (
        "a = fields.String(validate=validate.OneOf([]))",
        "",
        "the field a has validate.OneOf without choices, which no value can pass: add some",
    ),
    (
        "a = fields.Integer(validate=validate.Length(1, 9))",
        "",
        "the field a has validate.Length, which cannot validate a value of type int: object of type 'int' has no len()",
    ),
    (
        "a = fields.String(validate=validate.Range(1, 9))",
        "",
        "the field a has validate.Range, which cannot validate a value of type str: '<' not supported between instances of 'str' and "
        "'int'",
    ),
    (
        "a = fields.List(fields.Date(validate=validate.Range(1, 9)))",
        "",
        "the field a holds a list whose element has validate.Range, which cannot validate a value of type date: "
        "'<' not supported between instances of 'datetime.date' and 'int'",
    ),
    (
        "a = fields.Reference('Companies')",
        "",
        "the field a refers to 'Companies'; use the name in the path of the resource: fields.Reference(\"companies\")",
    ),
    (
        "a = fields.Reference('things', required=True)",
        "",
        "the field a refers to things itself, so it cannot be required: remove required",
    ),
    (
        "a = fields.Nested('Nothing')",
        "",
        "the field a nests something that is not a schema: Class with name 'Nothing' was not found. You may need to import the "
        "class.; write fields.Nested(Address)",
    ),
    (
        "a = fields.Nested(Foreign)",
        "",
        "the field a nests a schema that is not a pegboard.Schema, so its errors have no codes: derive it from that",
    ),
    (
        "a = fields.List(fields.Nested(Loose))",
        "",
        "the field a nests a schema that accepts unknown fields: remove the option unknown",
    ),
    (
        "a = fields.Nested(Schema.from_dict({'b': fields.Integer(load_default='x')}))",
        "",
        "the field a nests GeneratedSchema, and there the field b rejects its own default 'x': Not a valid integer.",
    ),
    # The verbs.
    ("", 'verbs = "GET"', 'set verbs to a tuple of strings, as in verbs = "GET", "POST", or remove it'),
    ("", 'verbs = {"GET"}', 'set verbs to a tuple of strings, as in verbs = "GET", "POST", or remove it'),
    ("", "verbs = ()", 'set verbs to a tuple of strings, as in verbs = "GET", "POST", or remove it'),
    (
        "",
        'verbs = "GET", "get"',
        "verbs contains 'get'; use only GET, HEAD, POST, PUT, PATCH, DELETE, each at most once: write 'GET'",
    ),
    (
        "",
        'verbs = "GET", 5',
        "verbs contains 5; use only GET, HEAD, POST, PUT, PATCH, DELETE, each at most once",
    ),
    ("", 'verbs = "GET", "GET"', "verbs contains a verb twice: remove one"),
    ("", 'verbs = "GET", "OPTIONS"', "verbs contains 'OPTIONS', which the service handles itself: remove it"),
    # The actions.
    (
        "",
        "def create(self, context, data): pass",
        "the action create must be a coroutine: write async def create(self, context, data)",
    ),
    (
        "",
        "async def retrieve(self, context): pass",
        "the action retrieve has the wrong parameters: write async def retrieve(self, context, id)",
    ),
    (
        "",
        "async def create(self, data): pass",
        "the action create has the wrong parameters: write async def create(self, context, data)",
    ),
    (
        "",
        "async def delete(self, context, id): pass",
        "the action delete is defined, but verbs contains no verb that uses it: add one",
    ),
    # The attributes.
    ("", "__doc__ = 5", "the docstring is not a string: write one, or remove it"),
    ("", 'needs_match = "yes"', "needs_match is 'yes': set it to True or False"),
    ("", "owned = 1", "owned is 1: set it to True or False"),
    ("", "default_limit = 0", "default_limit is 0: set it to an integer of at least 1"),
    ("", 'max_limit = "all"', "max_limit is 'all': set it to an integer of at least 1"),
    ("", "default_limit = 501", "default_limit is 501, greater than max_limit, 500: lower it"),
    (
        "",
        "creates_by_put = True",
        "creates_by_put is set, but verbs does not contain both PUT and POST: add them, or remove it",
    ),
    ("", 'filterable = "name"', "filterable is a string, not a tuple: write filterable = ('name',)"),
    ("", "filterable = ('nme',)", "filterable names 'nme', which is not a field of the schema: did you mean name?"),
    (
        "secret = fields.String(load_only=True)",
        "filterable = ('secret',)",
        "filterable names secret, which is write-only: remove it",
    ),
    (
        "place = fields.Nested(Address, required=True)",
        "filterable = ('place',)",
        "filterable names place, which cannot be filtered: remove it",
    ),
    (
        "tags = fields.List(fields.String())",
        "sortable = ('tags',)",
        "sortable names tags, which cannot be sorted: remove it",
    ),
    ("", "sortable = ('name', 'name')", "sortable names 'name' twice: remove one"),
    (
        "",
        "ignore_accents = ('nam',)",
        "ignore_accents names 'nam', which is not a field of the schema: did you mean name?",
    ),
    (
        "tags = fields.List(fields.String())",
        "ignore_accents = ('tags',)",
        "ignore_accents names tags, which cannot be filtered by a part of its text: remove it",
    ),
    ("", "ignore_accents = 'name'", "ignore_accents is a string, not a tuple: write ignore_accents = ('name',)"),
    ("", 'indexes = "name"', "indexes is a string, not a tuple: write indexes = ('name',)"),
    ("", "indexes = {'name'}", "indexes is {'name'}: set it to a tuple of strings, as in indexes = (\"name\",)"),
    ("", "indexes = ('name', 'name')", "indexes names 'name' twice: remove one"),
    ("", "indexes = ('name,-name',)", "indexes names a field twice in 'name,-name': remove one"),
    ("", "indexes = ('-nam',)", "indexes names 'nam', which is not a field of the schema: did you mean name?"),
    ("a = fields.Dict()", "indexes = ('a',)", "indexes names a, which cannot be sorted: remove it"),
    (
        "a = fields.String()",
        "indexes = ('a',)",
        "an index over a needs validate.Length(max=...) on the field, at most 600",
    ),
    ("n = fields.Integer()", "search_fields = ('n',)", "search_fields names n, which cannot be searched: remove it"),
    (
        "secret = fields.Password()",
        "search_fields = ('secret',)",
        "search_fields names secret, which is write-only: remove it",
    ),
    (
        "",
        'unique = Unique("name")',
        "unique is a single Unique, not a tuple: add a comma after it, as in unique = (Unique(...),)",
    ),
    ("", "unique = ('name',)", "unique is ('name',): set it to a tuple, as in unique = (Unique(\"email\"),)"),
    ("", "unique = (Unique(),)", "unique has a Unique without fields: name the fields that must be unique"),
    ("", 'unique = (Unique("naem"),)', "unique names 'naem', which is not a field of the schema: did you mean name?"),
    ("", 'unique = (Unique("name", "name"),)', "unique names a field twice in one Unique: name, name"),
    ("", 'unique = Unique("name"), Unique("name")', "unique has the same Unique twice: remove one"),
    (
        "n = fields.Integer()",
        'unique = (Unique("n", ignore_case=True),)',
        "unique ignores the case of n, which contains no text: remove ignore_case",
    ),
    (
        "",
        'unique = (Unique("_owner", "name"),)',
        "unique names '_owner', which is not a field of the schema: use one of name, id, created_at, updated_at, _version",
    ),
    (
        "",
        'table = "people"',
        "table is 'people': name it with its schema and without quotes, as in table = \"crm.people\"",
    ),
    (
        "",
        "table = 'crm.\"people\"'",
        'table is \'crm."people"\': name it with its schema and without quotes, as in table = "crm.people"',
    ),
    ("", 'me = ("DELETE",)', "me contains 'DELETE'; use only those of GET, HEAD, PATCH that are also in verbs"),
    ("", 'me = "GET"', "me is a string, not a tuple: write me = ('GET',)"),
    (
        "",
        'me_writable = ("name",)',
        "me_writable is set, but me does not contain PATCH: add it, or remove me_writable",
    ),
    (
        "",
        'verbs = "GET", "PATCH"; me = ("PATCH",); me_writable = ("nane",)',
        "me_writable names 'nane', which is not a field of the schema: did you mean name?",
    ),
    # The error codes.
    (
        "",
        "error_codes = Taken",
        "error_codes is <class 'pegboard_things.Taken'>: set it to a tuple, as in error_codes = (Taken,)",
    ),
    ("", "error_codes = (5,)", "error_codes contains 5; use only subclasses of pegboard.ApiError"),
    (
        "",
        'error_codes = (type("Own", (ApiError,), {}, number="1", status=409, message="x"),)',
        "the error Own has the number '1': use one from 0 to 99",
    ),
    (
        "",
        "error_codes = (errors.Conflict,)",
        "error_codes contains Conflict, an error of the service, which needs no declaration: remove it",
    ),
    (
        "",
        'error_codes = (type("Own", (ApiError,), {}, number=1, status=200, message="x"),)',
        "the error Own has the status 200, which is not from 400 to 599: use one that is",
    ),
    (
        "",
        'error_codes = (type("Own", (ApiError,), {}, number=1, status=409, message=""),)',
        "the error Own has no message: write one for people to read",
    ),
    (
        "",
        "error_codes = (Taken, Taken)",
        "the number 1 is declared twice in error_codes: use another for one of the errors",
    ),
    (
        "",
        'constraint_errors = {"no_overlap": 409}',
        "constraint_errors maps 'no_overlap' to 409; map the name of a constraint to a subclass of pegboard.ApiError",
    ),
    (
        "",
        'constraint_errors = ("no_overlap", Taken)',
        "constraint_errors is ('no_overlap', <class 'pegboard_things.Taken'>): "
        'map names of constraints to errors, as in {"no_overlap": Taken}',
    ),
    (
        "",
        'constraint_errors = {"no_overlap": Taken}',
        "constraint_errors uses Taken, which is not in error_codes: add it there",
    ),
]

# The code of the object of an entry point, if not a table resource, and the expected message.
OTHERS: list[tuple[str, str]] = [
    ("Things = 5", "an entry point of pegboard.resources must name a subclass of pegboard.Resource"),
    ("class Things: pass", "an entry point of pegboard.resources must name a subclass of pegboard.Resource"),
    ("def Things(): pass", "an entry point of pegboard.resources must name a subclass of pegboard.Resource"),
    (
        "class One(Resource):\n    def __init__(self): pass\nThings = One()",
        "an entry point of pegboard.resources must name a subclass of pegboard.Resource, "
        "not an instance: name the class",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("GET",)',
        "verbs contains GET, but there is no action list or retrieve: write it, or remove GET from verbs",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("GET",)\n    async def get(self, context, id): pass',
        "verbs contains GET, but there is no action list or retrieve: did you mean retrieve by get?",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("DELETE",)\n    async def delete(self): pass',
        "the action delete has the wrong parameters: write async def delete(self, context, id)",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("GET",)\n    async def list(self, context): yield',
        "the action list must be a coroutine: write async def list(self, context)",
    ),
]


def declared(code: str) -> Any:
    names: dict[str, Any] = {"__name__": "pegboard_things"}
    exec(PRELUDE + code, names)
    return names["Things"]


@pytest.mark.parametrize(("schema", "resource", "message"), TABLES)
def test_an_invalid_table_is_reported_with_location_and_fix(schema: str, resource: str, message: str) -> None:
    code = f"""
class Thing(Schema):
    name = fields.String(validate=validate.Length(1, 100))
    {schema}

class Things(TableResource):
    schema = Thing
    verbs = "GET", "POST"
    {resource}
"""
    assert problem(declared(code), "things") == message


@pytest.mark.parametrize(("code", "message"), OTHERS)
def test_other_invalid_declarations_are_reported(code: str, message: str) -> None:
    assert problem(declared(code), "things") == message


def test_valid_declarations_are_accepted() -> None:
    code = """
class Tree(Schema):
    name = fields.String()
    below = fields.Nested(lambda: Tree())

class Thing(Schema):
    name = fields.String(validate=validate.Length(1, 100))
    age = fields.Integer(load_default=0, validate=validate.Range(0, 150))
    born = fields.Date(load_default=date(2000, 1, 1))
    tags = fields.List(fields.String(), validate=validate.Length(max=9), load_default=list)
    tree = fields.Nested(Tree)
    parent = fields.Reference("things", allow_none=True)
    kind = fields.String(load_default="a", validate=validate.OneOf(["a", "b"]))

class Things(TableResource):
    schema = Thing
    verbs = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
    filterable = "name", "age", "tags"
    sortable = ("created_at",)
    ignore_accents = ["name"]
    indexes = "name,-age", "tags", "-created_at"
    search_fields = ("name",)
    unique = Unique("_owner", "name", ignore_case=True), Unique("age")
    owned = creates_by_put = needs_match = True
    me = "GET", "PATCH"
    me_writable = ("name",)
    error_codes = (Taken,)
    constraint_errors = {"no_overlap": Taken, "other": errors.Conflict}
"""
    assert problem(declared(code), "things") is None


def test_the_number_of_cases_is_as_documented() -> None:
    assert len({message for *_, message in TABLES}) >= 40
