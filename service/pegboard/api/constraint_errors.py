"""What is told where a constraint of a table refuses a write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.postgres import database


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Know the constraints of one table by their names.

    `declared` are the codes that its author gives some of them, `names` what JSON calls its columns, `constraints` the
    columns that each is about. `owned` is the table's name where its items belong to clients, who see no others.
    """

    declared: Mapping[str, type[ApiError]]
    names: Mapping[str, str]
    constraints: Mapping[str, tuple[str, ...]]
    owned: str | None

    def explained(self, error: asyncpg.IntegrityConstraintViolationError) -> Exception:
        """Return the conflict with pointers to the fields that its constraint is about."""
        known = database.translate(error)
        constraint = getattr(error, "constraint_name", None) or ""
        if constraint in self.declared:
            return self.declared[constraint]()
        if self.owned is not None and constraint == f"{self.owned}_pkey":
            return errors.NotFound()
        fields = [name for name in self.constraints.get(constraint, ()) if name in self.names]
        if known is None or not fields or isinstance(known, errors.StillReferenced):
            return known or error
        message, code = known.details[0].message, known.code
        places = [errors.pointer((self.names[name],)) for name in fields]
        return known.with_details(ErrorDetail(code, message, pointer) for pointer in places)
