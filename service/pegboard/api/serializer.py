"""Serializers: from items to the JSON of responses."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pegboard import rendering
from pegboard.api import listing, partial, versions
from pegboard.api.partial import Reports
from pegboard.query import mapping
from pegboard.query.query import Query
from pegboard.schema.ddl import VERSION
from pegboard.schema.loading import STANDARD
from pegboard.schema.schema import Schema


@dataclass(frozen=True, slots=True)
class Representation:
    """Hold the representation of an item: its JSON, the opaque part of its entity tag, and the time of its last change.

    The part of the tag after a dot covers expanded items, and is ignored by `If-Match`.
    """

    body: bytes
    tag: str
    modified: datetime | None


class Serializer:
    """Dump the items of the resource `name` by its schema."""

    def __init__(self, schema: Schema, name: str) -> None:
        self.schema = schema
        self._reports = Reports(name)
        self._has_parts = partial.has_parts(schema)
        self._shows_objects = not partial.hides(schema)

    def dump(self, item: Any) -> dict[str, Any]:
        """Dump an item by the schema, and add the standard fields that it has.

        A field that cannot be dumped is shown as nearly as possible, and named in the log.
        """
        if item is None or inspect.iscoroutine(item):
            raise TypeError(listing.not_an_item(item))
        dumped = self._dump(item)
        standard = {name: value for name in STANDARD if (value := listing.read(item, name)) is not None}
        if "id" not in standard:
            raise TypeError("an action returned an item without an id: add it")
        return {"id": standard.pop("id"), **dumped, **standard}

    def _dump(self, item: Any) -> dict[str, Any]:
        try:
            if not self._has_parts or partial.fits(self.schema, item):
                dumped: dict[str, Any] = self.schema.dump(item)
                return dumped
        except Exception:
            # It is raised and logged again, when each field is dumped on its own.
            pass
        report = self._reports.of(listing.read(item, "id"))
        return partial.dump(self.schema, item, report, shows_objects=self._shows_objects)


class ItemSerializer(Serializer):
    """Serialize the items of a resource as the bodies of responses.

    Only the rows of a table can be `plain`: shown as the database returns them.
    """

    is_plain = False

    def by_attribute(self, item: Any) -> Any:
        """Return an item whose values can be read by the attributes of the fields."""
        return item

    def represent(self, item: Any, query: Query) -> Representation:
        """Return an item's representation, whose entity tag covers all fields, even if the query selects only some."""
        dumped = self.dump(item)
        complete = self._json(dumped)
        modified = _last_modified(dumped.get("updated_at"))
        body = complete if query.fields is None else self._json(_selected(dumped, query))
        return Representation(body, rendering.digest(complete), modified)

    def page(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a page as a JSON array."""
        rows = self.rows(items, query)
        try:
            return self._write(rows)
        except TypeError:
            return rendering.dumps(self.representable(rows))

    def lines(self, items: Sequence[Any], query: Query) -> bytes:
        """Return items as JSON lines."""
        return b"".join([self._json(row) + b"\n" for row in self.rows(items, query)])

    def representable(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return rows with null for each value that JSON cannot represent; the log names these."""
        return [partial.representable(row, self._reports.of(row.get("id"))) for row in rows]

    def _json(self, row: Mapping[str, Any]) -> bytes:
        try:
            return self._write(row)
        except TypeError:
            return rendering.dumps(*self.representable((row,)))

    def _write(self, value: Any) -> bytes:
        return rendering.dumps(value)

    def rows(self, items: Sequence[Any], query: Query) -> Sequence[Mapping[str, Any]]:
        """Return the items as plain values, reduced to the fields that the query selects."""
        return [_selected(self.dump(item), query) for item in items]

    def field_names(self, query: Query) -> tuple[str, ...]:
        """Return the names of the fields in the response, in order."""
        own = [mapping.name_of(field, name) for name, field in self.schema.dump_fields.items()]
        names = dict.fromkeys(("id", *own, "created_at", "updated_at"))
        return tuple(name for name in names if query.fields is None or name in query.fields)


class RowSerializer(ItemSerializer):
    """Serialize the rows of a table.

    `renamed` maps the JSON names that differ from the attributes of the fields to these; `without` are the standard
    fields that the table does not have. Rows that are `plain` are shown as the database returns them.
    """

    def __init__(
        self, schema: Schema, name: str, renamed: Mapping[str, str], without: Collection[str], *, plain: bool
    ) -> None:
        super().__init__(schema, name)
        self._renamed = renamed
        self._without = without
        self.is_plain = plain

    def by_attribute(self, item: Any) -> Any:
        """Return a row by the attributes of fields; a row uses their names."""
        return {self._renamed.get(key, key): value for key, value in item.items()} if self._renamed else item

    def dump(self, item: Any) -> dict[str, Any]:
        """Dump an item by the schema, which uses the attributes of fields."""
        return super().dump(self.by_attribute(item))

    def represent(self, item: Any, query: Query) -> Representation:
        """Return an item's representation, whose entity tag is its version."""
        try:
            tag, modified = versions.tag(item), _last_modified(item.get("updated_at"))
        except (TypeError, KeyError, AttributeError):
            raise TypeError(listing.not_an_item(item)) from None
        if self.is_plain:
            shown = {**item}
            del shown[VERSION]
        else:
            shown = self.dump(item)
        if query.fields is not None:
            shown = {key: value for key, value in shown.items() if key in query.fields}
        return Representation(self._json(shown), tag, modified)

    def _write(self, value: Any) -> bytes:
        return rendering.dumps_rows(value) if self.is_plain else rendering.dumps(value)

    def rows(self, items: Sequence[Any], query: Query) -> Sequence[Mapping[str, Any]]:
        """Return the items as plain values, reduced to the fields that the query selects."""
        if not self.is_plain:
            return super().rows(items, query)
        if not items or VERSION not in items[0]:
            return items
        # The items were just written; those of a page contain only the selected fields.
        names = self.field_names(query)
        return [{name: item[name] for name in names} for item in items]

    def field_names(self, query: Query) -> tuple[str, ...]:
        """Return the names of the fields in the response, in order."""
        return tuple(name for name in super().field_names(query) if name not in self._without)


def _last_modified(moment: Any) -> datetime | None:
    """Return the time of the last change in the precision of headers (UTC, in seconds), or None if it is unknown."""
    if not isinstance(moment, datetime):
        return None
    if moment.tzinfo is UTC and not moment.microsecond:
        return moment
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return utc.replace(microsecond=0)


def _selected(dumped: dict[str, Any], query: Query) -> dict[str, Any]:
    wanted = query.fields
    return dumped if wanted is None else {key: value for key, value in dumped.items() if key == "id" or key in wanted}
