"""The errors for writes that violate a constraint of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.postgres import database


@dataclass(frozen=True, slots=True)
class ConstraintErrors:
    """Describe the constraints of one table by name.

    `declared` maps constraints to the errors that the author declared for them, `names` maps columns to JSON names, and
    `constraints` maps constraints to their columns. `owned` is the table's name if its items belong to clients, who
    cannot see the items of others.
    """

    declared: Mapping[str, type[ApiError]]
    names: Mapping[str, str]
    constraints: Mapping[str, tuple[str, ...]]
    owned: str | None

    def translate(self, error: asyncpg.IntegrityConstraintViolationError) -> Exception:
        """Return the error for the client, with pointers to the fields of the violated constraint."""
        translated = database.translate(error)
        constraint = getattr(error, "constraint_name", None) or ""
        if constraint in self.declared:
            return self.declared[constraint]()
        if self.owned is not None and constraint == f"{self.owned}_pkey":
            return errors.NotFound()
        fields = [name for name in self.constraints.get(constraint, ()) if name in self.names]
        if translated is None or not fields or isinstance(translated, errors.StillReferenced):
            return translated or error
        message, code = translated.details[0].message, translated.code
        pointers = [errors.pointer((self.names[name],)) for name in fields]
        return translated.with_details(ErrorDetail(code, message, pointer) for pointer in pointers)
