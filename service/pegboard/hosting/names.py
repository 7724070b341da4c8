"""The names that resources can have."""

from __future__ import annotations

import re

RESERVED = frozenset(
    (
        *("docs", "errors", "health", "metrics", "openapi.json", "plugins", "ready"),
        *("pegboard", "public", "information_schema"),
    )
)
"""Names that are the service's own paths, or PostgreSQL schemas of others."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)


def name_problem(name: str) -> str | None:
    """Return why a resource cannot have this name; None for a valid name."""
    if _NAME.fullmatch(name) and name not in RESERVED and not name.startswith("pg_"):
        return None
    return (
        f"the name {name!r} is not valid for a resource: it is reserved, or not 1 to 40 characters of a-z, 0-9, - and _"
    )
