"""What an author can get wrong in a declaration, and the one message that is told of it: the place, and the mend."""

from __future__ import annotations

from typing import Any

import pytest

from pegboard.hosting.discovery import mistake

PRELUDE = """
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

TAKEN = ErrorCode(20001, 409, "Taken.")
"""

# The schema's fields, the lines of a table's resource, and what is told.
TABLES: list[tuple[str, str, str]] = [
    # The schema and its fields.
    ("", "schema = 5", "set schema to a subclass of pegboard.Schema"),
    ("", "schema = Thing()", "set schema to a subclass of pegboard.Schema, not to an instance: schema = Thing"),
    ("", "schema = Foreign", "set schema to a subclass of pegboard.Schema"),
    ("", "schema = Loose", "Loose.Meta lets fields in that the schema does not name: leave unknown out of it"),
    (
        "class Meta:\n        datetimeformat = '%d.%m.%Y'",
        "",
        "Thing.Meta sets datetimeformat, but how instants are written is the service's own: leave it out",
    ),
    (
        "class Meta:\n        index_errors = False",
        "",
        "Thing.Meta sets index_errors, without which no pointer leads into a list: leave it out",
    ),
    (
        "a = fields.Field()",
        "",
        "the field a has no column type: take one of pegboard.fields, or name it in metadata",
    ),
    (
        "a = marshmallow.fields.Tuple((fields.String(),))",
        "",
        "the field a has no column type: take one of pegboard.fields, or name it in metadata",
    ),
    (
        "a = fields.List(fields.Reference('others'))",
        "",
        "the field a is a list of references, which no foreign key can keep: leave it out",
    ),
    (
        "updated_at = fields.DateTime()",
        "",
        "the field updated_at is one that the service gives every item: leave it out of the schema",
    ),
    ("id = fields.UUID()", "", "the field id is one that the service gives every item: leave it out of the schema"),
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
        "the field name__gt is called like a filter of the field name: give it another name",
    ),
    (
        "a = fields.String(data_key='name')",
        "",
        "Thing contradicts itself: The data_key argument for one or more fields collides with another field's name or "
        "data_key argument. Check the following field names and data_key arguments: ['name']",
    ),
    (
        "a = fields.String(attribute='name')",
        "",
        "Thing contradicts itself: The attribute argument for one or more fields collides with another field's name or "
        "attribute argument. Check the following field names and attribute arguments: ['name']",
    ),
    ("_version = fields.String()", "", "it: the column _version is there twice or is one of the standard columns"),
    (
        f"{'a' * 64} = fields.String()",
        "",
        f"{'a' * 64!r} cannot be a name in the database: 1 to 63 bytes",
    ),
    (
        "a = fields.String(dump_only=True, load_only=True)",
        "",
        "the field a is dump_only and load_only, so it is neither taken nor shown: leave one of them out",
    ),
    (
        "a = fields.String(dump_only=True, required=True)",
        "",
        "the field a is required, but dump_only, so no client can send it: leave one of them out",
    ),
    (
        "a = fields.Integer(load_default='many')",
        "",
        "the field a refuses its own default 'many': Not a valid integer.",
    ),
    (
        "a = fields.String(load_default='', validate=validate.Length(1, 9))",
        "",
        "the field a refuses its own default '': Length must be between 1 and 9.",
    ),
    (
        "a = fields.List(fields.String(), load_default=[])",
        "",
        "the field a has one list as the default of all items: write load_default=list",
    ),
    (
        "a = fields.String(load_default=object)",
        "indexes = ('a',)",
        "an index over a needs validate.Length(max=...) on the field, at most 600",
    ),
    (
        "a = fields.Raw(load_default=object())",
        "",
        "the field a has a object as its default, which no JSON can say: give it one that it could load",
    ),
    (
        "a = fields.String(validate=validate.Length(min=5, max=2))",
        "",
        "the field a has <Length(min=5, max=2, equal=None, error=None)>, which nothing can pass: "
        "its min is greater than its max",
    ),
    (
        "a = fields.Integer(validate=validate.Range(5, 2))",
        "",
        "the field a has <Range(min=5, max=2, min_inclusive=True, max_inclusive=True, error=None)>, "
        "which nothing can pass: its min is greater than its max",
    ),
    (
        "a = fields.String(validate=validate.OneOf([]))",
        "",
        "the field a has validate.OneOf without a choice, which nothing can pass: name some",
    ),
    (
        "a = fields.Integer(validate=validate.Length(1, 9))",
        "",
        "the field a has validate.Length, which cannot judge a int: object of type 'int' has no len()",
    ),
    (
        "a = fields.String(validate=validate.Range(1, 9))",
        "",
        "the field a has validate.Range, which cannot judge a str: '<' not supported between instances of 'str' and "
        "'int'",
    ),
    (
        "a = fields.List(fields.Date(validate=validate.Range(1, 9)))",
        "",
        "the field a holds a list whose element has validate.Range, which cannot judge a date: "
        "'<' not supported between instances of 'datetime.date' and 'int'",
    ),
    (
        "a = fields.Reference('Companies')",
        "",
        "the field a refers to 'Companies'; name the resource as its path does: fields.Reference(\"companies\")",
    ),
    (
        "a = fields.Reference('things', required=True)",
        "",
        "the field a refers to things itself and is required, so there can be no first item",
    ),
    (
        "a = fields.Nested('Nothing')",
        "",
        "the field a nests what is no schema: Class with name 'Nothing' was not found. You may need to import the "
        "class.; write fields.Nested(Address)",
    ),
    (
        "a = fields.Nested(Foreign)",
        "",
        "the field a nests a schema that is no pegboard.Schema, whose faults have no codes: derive it from that",
    ),
    (
        "a = fields.List(fields.Nested(Loose))",
        "",
        "the field a nests a schema that lets unknown fields in: leave unknown out",
    ),
    (
        "a = fields.Nested(Schema.from_dict({'b': fields.Integer(load_default='x')}))",
        "",
        "the field a nests GeneratedSchema, and there the field b refuses its own default 'x': Not a valid integer.",
    ),
    # The verbs.
    ("", "verbs = None", 'set verbs to a tuple of the verbs it allows, as in verbs = "GET", "POST"'),
    ("", 'verbs = "GET"', 'set verbs to a tuple of the verbs it allows, as in verbs = "GET", "POST"'),
    ("", 'verbs = ["GET"]', 'set verbs to a tuple of the verbs it allows, as in verbs = "GET", "POST"'),
    ("", "verbs = ()", 'set verbs to a tuple of the verbs it allows, as in verbs = "GET", "POST"'),
    (
        "",
        'verbs = "GET", "get"',
        "verbs holds 'get'; it takes each of GET, HEAD, POST, PUT, PATCH, DELETE at most once: write 'GET'",
    ),
    (
        "",
        'verbs = "GET", 5',
        "verbs holds 5; it takes each of GET, HEAD, POST, PUT, PATCH, DELETE at most once",
    ),
    ("", 'verbs = "GET", "GET"', "verbs names one twice: leave it out"),
    ("", 'verbs = "GET", "OPTIONS"', "verbs holds 'OPTIONS', which the service answers by itself: leave it out"),
    # The actions.
    (
        "",
        "def create(self, context, data): pass",
        "the action create has to be a coroutine: write async def create(self, context, data)",
    ),
    (
        "",
        "async def retrieve(self, context): pass",
        "the action retrieve takes other parameters than it is given: write async def retrieve(self, context, id)",
    ),
    (
        "",
        "async def create(self, data): pass",
        "the action create takes other parameters than it is given: write async def create(self, context, data)",
    ),
    (
        "",
        "async def delete(self, context, id): pass",
        "the action delete is written, but none of its verbs is declared: add one to verbs",
    ),
    # The attributes.
    ("", "__doc__ = 5", "the docstring is no text: write one, or leave it out"),
    ("", 'needs_match = "yes"', "needs_match is 'yes': set it to True or False"),
    ("", "owned = 1", "owned is 1: set it to True or False"),
    ("", "default_limit = 0", "default_limit is 0: set it to a whole number from 1"),
    ("", 'max_limit = "all"', "max_limit is 'all': set it to a whole number from 1"),
    ("", "default_limit = 501", "default_limit is 501, beyond max_limit, 500: lower the one of them"),
    (
        "",
        "creates_by_put = True",
        "creates_by_put is set, but verbs has not both of PUT and POST: add them, or leave it out",
    ),
    ("", 'filterable = "name"', "filterable is a text, not a tuple: write filterable = ('name',)"),
    ("", "filterable = ('nme',)", "filterable names 'nme', which is no field of the schema: is name meant?"),
    (
        "secret = fields.String(load_only=True)",
        "filterable = ('secret',)",
        "filterable names secret, which is write-only: leave it out",
    ),
    (
        "place = fields.Nested(Address, required=True)",
        "filterable = ('place',)",
        "filterable names place, which cannot be filtered by: leave it out",
    ),
    (
        "tags = fields.List(fields.String())",
        "sortable = ('tags',)",
        "sortable names tags, which cannot be sorted by: leave it out",
    ),
    ("", "sortable = ('name', 'name')", "sortable names 'name' twice: leave one out"),
    ("", 'indexes = "name"', "indexes is a text, not a tuple: write indexes = ('name',)"),
    ("", "indexes = ['name']", "indexes is ['name']: set it to a tuple of texts, as in indexes = (\"name\",)"),
    ("", "indexes = ('name', 'name')", "indexes names 'name' twice: leave one out"),
    ("", "indexes = ('name,-name',)", "indexes names a field twice in 'name,-name': leave one out"),
    ("", "indexes = ('-nam',)", "indexes names 'nam', which is no field of the schema: is name meant?"),
    ("a = fields.Dict()", "indexes = ('a',)", "indexes names a, which cannot be sorted by: leave it out"),
    (
        "a = fields.String()",
        "indexes = ('a',)",
        "an index over a needs validate.Length(max=...) on the field, at most 600",
    ),
    ("n = fields.Integer()", "search = ('n',)", "search names n, which cannot be searched by: leave it out"),
    (
        "secret = fields.Password()",
        "search = ('secret',)",
        "search names secret, which is write-only: leave it out",
    ),
    (
        "",
        'unique = Unique("name")',
        "unique is one Unique, not a tuple of them: put a comma after it, as in unique = (Unique(...),)",
    ),
    ("", "unique = ('name',)", "unique is ('name',): set it to a tuple, as in unique = (Unique(\"email\"),)"),
    ("", "unique = (Unique(),)", "unique has a Unique without a field: name those that no two items may share"),
    ("", 'unique = (Unique("naem"),)', "unique names 'naem', which is no field of the schema: is name meant?"),
    ("", 'unique = (Unique("name", "name"),)', "unique names a field twice in one Unique: name, name"),
    ("", 'unique = Unique("name"), Unique("name")', "unique has the same Unique twice: leave one out"),
    (
        "n = fields.Integer()",
        'unique = (Unique("n", ignore_case=True),)',
        "unique ignores the case of n, where there is no text: leave ignore_case out",
    ),
    (
        "",
        'unique = (Unique("_owner", "name"),)',
        "unique names '_owner', which is no field of the schema: it takes name, id, created_at, updated_at, _version",
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
    ("", 'me = ("DELETE",)', "me names the verb 'DELETE'; it takes those of GET, HEAD, PATCH that verbs has too"),
    ("", 'me = "GET"', "me is a text, not a tuple: write me = ('GET',)"),
    ("", 'me_writable = ("name",)', "me_writable is set, but me has no PATCH: add it, or leave me_writable out"),
    (
        "",
        'verbs = "GET", "PATCH"; me = ("PATCH",); me_writable = ("nane",)',
        "me_writable names 'nane', which is no field of the schema: is name meant?",
    ),
    # The error codes.
    (
        "",
        "error_codes = TAKEN",
        "error_codes is ErrorCode(code=20001, status=409, message='Taken.'): set it to a tuple, as in error_codes = (TAKEN,)",
    ),
    ("", "error_codes = (5,)", "error_codes holds 5; it takes pegboard.ErrorCode"),
    (
        "",
        'error_codes = (ErrorCode("20001", 409, "x"),)',
        "the error code '20001' is no whole number: take one from 20000",
    ),
    (
        "",
        "error_codes = (errors.CONFLICT,)",
        "the error code 13002 is one of the service's own: take one from 20000",
    ),
    (
        "",
        'error_codes = (ErrorCode(20001, 200, "x"),)',
        "the error code 20001 has the status 200, which is not from 400 to 599",
    ),
    (
        "",
        'error_codes = (ErrorCode(20001, 409, ""),)',
        "the error code 20001 has no message: say what is wrong, for people",
    ),
    ("", "error_codes = (TAKEN, TAKEN)", "the error code 20001 is there twice: take another number for one of them"),
    (
        "",
        'conflicts = {"no_overlap": 409}',
        "conflicts maps 'no_overlap' to 409; it takes the name of a constraint and a pegboard.ErrorCode",
    ),
    (
        "",
        'conflicts = ("no_overlap", TAKEN)',
        "conflicts is ('no_overlap', ErrorCode(code=20001, status=409, message='Taken.')): "
        'map names of constraints to codes, as in {"no_overlap": TAKEN}',
    ),
    (
        "",
        'conflicts = {"no_overlap": TAKEN}',
        "conflicts tells the error code 20001, which error_codes lacks: add it there",
    ),
]

# What an entry point leads to, when it is no table, and what is told.
OTHERS: list[tuple[str, str]] = [
    ("Things = 5", "an entry point of pegboard.resources names a subclass of pegboard.Resource"),
    ("class Things: pass", "an entry point of pegboard.resources names a subclass of pegboard.Resource"),
    ("def Things(): pass", "an entry point of pegboard.resources names a subclass of pegboard.Resource"),
    (
        "class One(Resource):\n    def __init__(self): pass\nThings = One()",
        "an entry point of pegboard.resources names a subclass of pegboard.Resource: "
        "it leads to an instance, so name the class",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("GET",)',
        "the verb GET is declared, but there is no action list or retrieve: write one, or leave the verb out",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("GET",)\n    async def get(self, context, id): pass',
        "the verb GET is declared, but there is no action list or retrieve: is get meant to be retrieve?",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("DELETE",)\n    async def delete(self): pass',
        "the action delete takes other parameters than it is given: write async def delete(self, context, id)",
    ),
    (
        'class Things(Resource):\n    schema = Address\n    verbs = ("GET",)\n    async def list(self, context): yield',
        "the action list has to be a coroutine: write async def list(self, context)",
    ),
]


def declared(code: str) -> Any:
    names: dict[str, Any] = {"__name__": "pegboard_things"}
    exec(PRELUDE + code, names)
    return names["Things"]


@pytest.mark.parametrize(("schema", "resource", "told"), TABLES)
def test_a_mistake_in_a_table_is_told_with_its_place_and_its_mend(schema: str, resource: str, told: str) -> None:
    code = f"""
class Thing(Schema):
    name = fields.String(validate=validate.Length(1, 100))
    {schema}

class Things(TableResource):
    schema = Thing
    verbs = "GET", "POST"
    {resource}
"""
    assert mistake(declared(code), "things") == told


@pytest.mark.parametrize(("code", "told"), OTHERS)
def test_a_mistake_elsewhere_is_told_as_well(code: str, told: str) -> None:
    assert mistake(declared(code), "things") == told


def test_what_is_allowed_is_no_mistake() -> None:
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
    indexes = "name,-age", "tags", "-created_at"
    search = ("name",)
    unique = Unique("_owner", "name", ignore_case=True), Unique("age")
    owned = creates_by_put = needs_match = True
    me = "GET", "PATCH"
    me_writable = ("name",)
    error_codes = (TAKEN,)
    conflicts = {"no_overlap": TAKEN, "other": errors.CONFLICT}
"""
    assert mistake(declared(code), "things") is None


def test_the_table_is_as_long_as_it_is_said_to_be() -> None:
    assert len({told for *_, told in TABLES}) >= 40
