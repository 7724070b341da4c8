"""The owners of PostgreSQL schemas: the distribution whose plugin has created one keeps it.

The name of the distribution is the comment of the schema, which other versions of the service ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from pegboard.migrations.status import PluginMigrations, Records
from pegboard.schema.column import quoted

_PREFIX = "pegboard: "
_OWNERS = """
    SELECT nspname, obj_description(oid, 'pg_namespace') AS comment FROM pg_namespace
    WHERE nspname = ANY ($1::text[])
"""


async def read(connection: asyncpg.Connection, sources: Sequence[PluginMigrations]) -> Mapping[str, str]:
    """Return the distributions that own the existing schemas of `sources`; "" for a schema without an owner."""
    names = {name for source in sources for name in (source.plugin, *source.names)}
    rows = await connection.fetch(_OWNERS, sorted(names))
    comments = {row["nspname"]: row["comment"] or "" for row in rows}
    return {name: c.removeprefix(_PREFIX) if c.startswith(_PREFIX) else "" for name, c in comments.items()}


def problem(source: PluginMigrations, owners: Mapping[str, str], records: Records) -> str | None:
    """Return why a plugin must not use its schema, and the fix; None if it may."""
    owner = owners.get(source.plugin, "")
    if owner and owner != source.distribution and owner in source.installed:
        return (
            f"the data in the schema {source.plugin} belongs to {owner}: mount this plugin at another name, "
            f"PEGBOARD_MOUNTS={source.distribution}/NAME=OTHER_NAME"
        )
    if source.plugin in records:
        return None
    for name in source.names:
        own = owners.get(name) in ("", source.distribution)
        if name != source.plugin and name in records and name in owners and own:
            return f"its data is in the schema {name}: {source.hint.format(name)}"
    return None


async def claim(connection: asyncpg.Connection, sources: Sequence[PluginMigrations], owners: Mapping[str, str]) -> None:
    """Record the owner of each schema that has none, or whose owner is no longer installed."""
    for source in sources:
        if source.distribution and source.plugin in owners and owners[source.plugin] != source.distribution:
            comment = (_PREFIX + source.distribution).replace("'", "''")
            await connection.execute(f"COMMENT ON SCHEMA {quoted(source.plugin)} IS '{comment}'")
