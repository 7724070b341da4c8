"""What is told where a constraint of a table refuses a write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from pegboard import errors
from pegboard.errors import ApiError, ErrorCode, Fault
from pegboard.postgres import database


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Know the constraints of one table by their names.

    `declared` are the codes that its author gives some of them, `names` what JSON calls its columns, `constraints` the
    columns that each is about. `owned` is the table's name where its items belong to clients, who see no others.
    """

    declared: Mapping[str, ErrorCode]
    names: Mapping[str, str]
    constraints: Mapping[str, tuple[str, ...]]
    owned: str | None

    def explained(self, error: asyncpg.IntegrityConstraintViolationError) -> Exception:
        """Return the conflict with pointers to the fields that its constraint is about."""
        known = database.translate(error)
        constraint = getattr(error, "constraint_name", None) or ""
        if constraint in self.declared:
            return ApiError(self.declared[constraint])
        if self.owned is not None and constraint == f"{self.owned}_pkey":
            return ApiError(errors.NOT_FOUND)
        fields = [name for name in self.constraints.get(constraint, ()) if name in self.names]
        if known is None or not fields or known.kind is errors.STILL_REFERENCED:
            return known or error
        message, code = known.faults[0].message, known.kind.code
        places = [errors.pointer((self.names[name],)) for name in fields]
        return ApiError(known.kind, faults=tuple(Fault(code, message, pointer) for pointer in places))
