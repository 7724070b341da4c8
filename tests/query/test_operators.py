"""The table of filter operators: the documents and the conformance suite have all of it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from pegboard.query import operators
from pegboard.query.operators import EQUAL, OPERATORS
from pegboard.schema.column import Column
from pegboard.testing import reading

GUIDES = {
    "guide.md": (files("pegboard.docs.reference") / "guide.md").read_text(),
    "http.md": (Path(__file__).parents[2] / "docs/http.md").read_text(),
}


def documented(guide: str) -> list[str]:
    """Return the names of the operators in the rows of a guide's table, in its order."""
    rows = re.findall(r"^\| (`FIELD.*?) \|", guide, re.MULTILINE)
    return [name or EQUAL.name for row in rows for name in re.findall(r"`(?:FIELD)?(?:__)?(\w*)`", row)]


def test_the_guides_list_every_operator() -> None:
    for name, guide in GUIDES.items():
        assert sorted(documented(guide)) == sorted(OPERATORS), name


def test_the_reference_lists_the_operators_in_the_order_of_the_table() -> None:
    assert documented(GUIDES["guide.md"]) == [*OPERATORS]


def test_the_conformance_suite_evaluates_every_operator_by_itself() -> None:
    assert {*reading._OPERATORS} == {*OPERATORS}


def test_columns_have_the_operators_of_their_type() -> None:
    order = ["eq", "ne", "lt", "lte", "gt", "gte", "in"]
    cases = {
        "boolean": ["eq", "ne", "in"],
        "bigint": order,
        "numeric(12,2)": order,
        "timestamptz": order,
        "text": [*order, "prefix", "contains"],
        "varchar(80)": [*order, "prefix", "contains"],
        "text[]": ["has"],
        "jsonb": [],
    }
    for type_of, expected in cases.items():
        for nullable in (False, True):
            found = [operator.name for operator in operators.of(Column("a", type_of, nullable))]
            assert found == expected + ["isnull"] * nullable, type_of
            assert operators.of(Column("a", type_of, nullable, readable=False)) == []
