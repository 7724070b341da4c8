"""Blocks of error codes: each distribution has one of its own, the same on every machine and forever."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from packaging.utils import canonicalize_name

from pegboard.error_codes import BLOCK_SIZE, DECLARED, DERIVED
from pegboard.errors import ApiError

GROUP = "pegboard.error_codes"
"""The group of the entry point that declares a block: its name is the first code of the block."""

_FIRST_DECLARED = DECLARED[::BLOCK_SIZE]
_FIRST_DERIVED = DERIVED[::BLOCK_SIZE]


def first_code(distribution: str, declared: Iterable[str] = ()) -> int:
    """Return the first code of a distribution's block: the one in its metadata, or one derived from its name.

    `declared` are the names of its entry points in `GROUP`. Raises `ValueError` for an invalid declaration.
    """
    names = [*declared]
    if not names:
        digest = sha256(canonicalize_name(distribution).encode()).digest()
        return _FIRST_DERIVED[int.from_bytes(digest[:8]) % len(_FIRST_DERIVED)]
    if len(names) > 1 or names[0] not in map(str, _FIRST_DECLARED):
        raise ValueError(
            f"its entry points {GROUP} are {', '.join(names)}: declare one, a multiple of {BLOCK_SIZE} from "
            f"{_FIRST_DECLARED[0]} to {_FIRST_DECLARED[-1]}"
        )
    return int(names[0])


def assign(codes: Iterable[type[ApiError]], first: int) -> None:
    """Give each error its code in the block that begins with `first`; an error that has a code keeps it."""
    for error in codes:
        if "code" not in vars(error):
            error.code = first + error.number
