"""The page of the plugin API: it documents exactly the public names."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pegboard
from pegboard import ContentResource, Resource, TableResource, errors, fields
from pegboard.api.actions import COLLECTION_ACTIONS, CONTENT_ACTIONS, ITEM_ACTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "plugin-api.md").read_text()
OURS = {name: value for name, value in vars(pegboard).items() if name in pegboard.__all__}
CLASSES = [
    value for value in OURS.values() if inspect.isclass(value) and value.__module__.partition(".")[0] == "pegboard"
]


def section(heading: str) -> str:
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/plugin-api.md has no section {heading}"
    return match[1]


def listed(text: str) -> Iterator[str]:
    """Yield the first name of each table row."""
    return (match[1] for match in re.finditer(r"^\| `([\w]+)(?:\(.*?\))?` \|", text, re.MULTILINE))


def public(cls: type) -> set[str]:
    """Return the public names that a class defines itself, for the class and its instances."""
    inherited = {name for parent in cls.__mro__[1:] for name in (*vars(parent), *inspect.get_annotations(parent))}
    instance_attributes = re.findall(r"^ +self\.(\w+)(?::.+)? =", inspect.getsource(cls), re.MULTILINE)
    names = {*vars(cls), *inspect.get_annotations(cls), *instance_attributes}
    return {name for name in names - inherited if not name.startswith("_")}


def test_exactly_the_public_names_are_documented() -> None:
    names = list(listed(section("Names")))
    assert sorted(names) == sorted(pegboard.__all__)
    assert names == sorted(names)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_exactly_the_public_members_are_documented(cls: type) -> None:
    names = list(listed(section(f"`{cls.__name__}`")))
    assert len(names) == len(set(names))
    expected = public(cls)
    if cls is Resource:
        # Methods that it calls and subclasses implement.
        expected |= {"list", "retrieve", "create", "replace", "update", "delete", "read_content", "write_content"}
    assert set(names) == expected


def test_authors_subclass_few_names() -> None:
    """Each name of a base class is one that no author can use for something else."""
    implemented = {*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values(), *CONTENT_ACTIONS.values()}
    names = [public(cls) - implemented for cls in (Resource, TableResource, ContentResource)]
    assert [len(found) for found in names] == [29, 6, 0]


@pytest.mark.parametrize("cls", [Resource, TableResource, ContentResource], ids=lambda cls: cls.__name__)
def test_every_public_member_has_a_docstring(cls: type) -> None:
    [definition] = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    documented = {name for name in public(cls) if inspect.getdoc(getattr(cls, name, None))}
    attributes = {
        statement.target.id
        for statement, following in pairwise(definition.body)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    }
    methods = {name for name in documented if inspect.isfunction(vars(cls).get(name))}
    assert public(cls) == attributes | methods


@pytest.mark.parametrize("module", [fields, errors], ids=lambda module: module.__name__.rsplit(".", 1)[1])
def test_exactly_the_public_names_of_a_module_are_documented(module: ModuleType) -> None:
    short = module.__name__.rsplit(".", 1)[1]
    own = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    names = [name for name in own if not isinstance(getattr(module, name), ModuleType) and name != "annotations"]
    assert sorted(listed(section(f"`{short}`"))) == sorted(names)


def test_every_code_is_listed_with_its_number_and_status() -> None:
    rows = re.findall(r"^\| `([A-Z]\w+)` \| (\d+) \| (\d+) \|$", section("`errors`"), re.MULTILINE)
    codes = {name: value for name, value in vars(errors).items() if value in errors.CATALOGUE}
    assert rows == [(name, str(code.code), str(code.status)) for name, code in codes.items()]


def own_fields() -> list[Any]:
    found = (getattr(fields, name) for name in fields.__all__)
    return [field for field in found if field.__module__ == fields.__name__]


@pytest.mark.parametrize("field", own_fields(), ids=lambda field: field.__name__)
def test_additions_of_a_field_are_documented(field: type) -> None:
    (row,) = re.findall(rf"^\| `{field.__name__}` \|.*$", section("`fields`"), re.MULTILINE)
    arguments = inspect.signature(vars(field)["__init__"]).parameters if "__init__" in vars(field) else {}
    for name in arguments.keys() - {"self", "kwargs"}:
        assert f"`{name}`" in row
    column = vars(field).get("column_type")
    if isinstance(column, str):
        assert f"`{column}`" in row
    for name in public(field) - {*arguments, "default_error_messages"}:
        assert re.search(rf"`{name}(\(.*\))?`", section("`fields`")), name
