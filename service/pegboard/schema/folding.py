"""One rule of case, accents and words: that of the database's functions, whose data this module reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

FOLD, UNACCENT, WORDS = "pegboard.fold_1", "pegboard.unaccent_1", "pegboard.words_1"
"""The functions in SQL, of a text: without case, without case and accents, and its words as a `tsvector`."""

_LONGEST_WORD = 500
"""The characters of a word that are searched; PostgreSQL takes no word over 2,046 bytes."""

_SQL = (files("pegboard") / "migrations" / "0006_folding.sql").read_text()


def _literal(name: str) -> str:
    """Return the literal after the comment `-- name`; its parts are on lines of their own, as SQL allows."""
    parts = re.search(rf"-- {name}\n\s*'([^']*(?:'\n\s*'[^']*)*)'", _SQL)
    if parts is None:
        raise ValueError(f"the migration has no literal {name}")
    return re.sub(r"'\n\s*'", "", parts[1])


def _mapping(name: str) -> dict[str, str]:
    mapping: dict[str, str] = json.loads(_literal(name))
    return mapping


_UPPER = {chr(code): chr(code).lower() for code in range(ord("A"), ord("Z") + 1)}
_CASE = str.maketrans({**_UPPER, **_mapping("case")})
_ACCENTS = str.maketrans(_mapping("accents"))
_IDEOGRAPHS, _SEPARATORS = _literal("ideographs")[1:-1], _literal("separators")[1:-1]
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^{_IDEOGRAPHS}{_SEPARATORS}\x01-/:-@\[-`{{-\x7f]+")


def fold(text: str) -> str:
    """Return a text without differences of case, as `FOLD` does."""
    return text.translate(_CASE)


def unaccent(text: str) -> str:
    """Return a text without differences of case and accents, as `UNACCENT` does."""
    return fold(text).translate(_ACCENTS)


def words(text: str) -> list[str]:
    """Return the words of a text in their order, without case and accents, as `WORDS` does."""
    return [word[:_LONGEST_WORD] for word in _WORD.findall(unaccent(text))]


@dataclass(frozen=True, slots=True)
class Folding:
    """State which differences a comparison of texts ignores: by the name of a function in SQL, and by one in memory."""

    function: str
    of: Callable[[str], str]
    note: str
    """What the description of a filter adds."""

    def fold(self, value: Any) -> Any:
        """Return a value, or each value of a list, without the differences; null stays null."""
        if isinstance(value, list):
            return [self.of(element) for element in value]
        return value if value is None else self.of(value)


CASE = Folding(FOLD, fold, ", ignoring case")
ACCENTS = Folding(UNACCENT, unaccent, ", ignoring case and accents")
