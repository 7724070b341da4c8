"""`Database`: the connections of a plugin, as its resources see them."""

from __future__ import annotations

from typing import Protocol

from pegboard.postgres.connections import Connections


class Database(Protocol):
    """The connections of a plugin to the database."""

    @property
    def read(self) -> Connections:
        """Return the connections for statements that only read; they may be those of a replica."""

    @property
    def write(self) -> Connections:
        """Return the connections for all other statements."""
