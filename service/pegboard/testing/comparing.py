"""Values in JSON in the form in which PostgreSQL compares them."""

from __future__ import annotations

import struct
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

from pegboard.query.ordering import SORTED_LENGTH
from pegboard.schema.column import INTEGER_KEY, Column


def comparable(column: Column, value: Any) -> Any:
    """Return a value of a column, or the values of a list, in a form that compares as in PostgreSQL."""
    if isinstance(value, list):
        return [comparable(column, element) for element in value]
    if value is None:
        return None
    base_type = column.base_type.removesuffix("[]")
    if base_type == "numeric":
        return Decimal(value)
    if base_type == "inet" and isinstance(value, str):
        address = ip_address(value)
        return address.version, int(address)
    return int(value) if base_type == INTEGER_KEY else value


def sort_key(column: Column, value: Any, *, in_table: bool) -> Any:
    """Return the value that an item is sorted by: of a long text in a table, only its beginning counts."""
    if in_table and column.is_long and isinstance(value, str):
        return value[:SORTED_LENGTH]
    return comparable(column, value)


def is_same(shown: Any, sent: Any, column: Column | None = None) -> bool:
    """Return whether two JSON values are equal; a large float may be shown as an integer.

    A number in a `column` with a declared scale, such as `numeric(10,2)`, is shown with that scale, and one of single
    precision with the fewest digits that identify it.
    """
    if column is not None and column.base_type == "real" and shown is not None and sent is not None:
        return struct.pack("f", shown) == struct.pack("f", sent)
    if column is not None and column.has_scale and not column.is_list:
        return bool(comparable(column, shown) == comparable(column, sent))
    if isinstance(shown, dict) and isinstance(sent, dict):
        return shown.keys() == sent.keys() and all(is_same(shown[key], sent[key]) for key in sent)
    if isinstance(shown, list) and isinstance(sent, list):
        return len(shown) == len(sent) and all(map(is_same, shown, sent))
    if isinstance(shown, bool) or isinstance(sent, bool):
        return shown is sent
    if isinstance(shown, float) or isinstance(sent, float):
        return isinstance(shown, int | float) and isinstance(sent, int | float) and float(shown) == float(sent)
    return bool(shown == sent)
