"""URL parameters -> Query: limit, sort, filters, fields, count, search, expand and the place to go on from."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.query.query import Filter, Query, Rules, Sort
from pegboard.schema.column import Column

_MOST_PARAMETERS = 100
_MOST_FILTERS = 32
MOST_SORTS = 8
MOST_VALUES = 100
LONGEST_SEARCH = 500  # characters; PostgreSQL refuses to search for a word of 2,047 bytes
_MOST_SUGGESTIONS = 5
_LONGEST_NAME = 100

_MOST_KEPT = 500
_LONGEST_KEPT = 1000  # characters
"""So many queries of a collection are kept as they were read, since whoever walks through pages sends the same."""

_OF_ITEMS = frozenset({"fields", "expand"})

_T = TypeVar("_T")

_LIMIT = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_CURSOR = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_LIST_PART = re.compile(r"\\[\\,]|,|[^\\,]+|\\")


def parse(raw_query: str, rules: Rules) -> Query:
    """Read the query of a collection, as it stands in the URL; raises `ApiError` 400 with every fault."""
    if not raw_query:
        return rules.whole
    plain, parameter, text = _without_cursor(raw_query)
    known = rules.whole if not plain else rules.remembered.get(plain)
    if known is not None and (not text or (rules.paged and _CURSOR.fullmatch(text))):
        return known.beside(**{parameter: text}) if text else known
    query = _Reading(rules, rules.reserved, rules.filters).read(raw_query)
    if len(plain) <= _LONGEST_KEPT and (query.after is None and query.before is None) == (not text):
        if len(rules.remembered) >= _MOST_KEPT:
            rules.remembered.clear()
        rules.remembered[plain] = query.beside()
    return query


def _without_cursor(raw_query: str) -> tuple[str, str, str]:
    """Return a query without the cursor at its end, as the links to other pages have it, and that parameter."""
    head, _, last = raw_query.rpartition("&")
    name, _, text = last.partition("=")
    return (head, name, text) if text and name in ("after", "before") else (raw_query, "", "")


def parse_item(raw_query: str, rules: Rules) -> Query:
    """Read the query of a single item: `fields` and `expand`, nothing else; raises `ApiError` 400 with every fault."""
    if not raw_query:
        return rules.whole
    return _Reading(rules, rules.reserved & _OF_ITEMS, {}).read(raw_query)


class _Reading:
    """Gather what one query says, and what is wrong with it."""

    def __init__(self, rules: Rules, reserved: frozenset[str], filters: Mapping[str, tuple[Column, str]]) -> None:
        self._rules = rules
        self._reserved = reserved
        self._filters = filters
        self._faults: list[ErrorDetail] = []
        self._suggestions = 0

    def read(self, raw_query: str) -> Query:
        parts = [part for part in raw_query.split("&") if part]
        if len(parts) > _MOST_PARAMETERS:
            raise errors.InvalidParameter(f"Send at most {_MOST_PARAMETERS} query parameters.")
        values: dict[str, Any] = {"limit": self._rules.default_limit}
        filters: list[Filter] = []
        seen: dict[str, int] = {}
        for part in parts:
            name, text = self._decoded(part)
            seen[name] = seen.get(name, 0) + 1
            if seen[name] == 2:
                self._refuse(errors.InvalidParameter, name, "Sent more than once; send it once.")
            if text is None or seen[name] > 1:
                continue
            try:
                if name in self._reserved:
                    values[name] = _READERS[name](text, self._rules)
                elif name in self._filters:
                    column, operator = self._filters[name]
                    filters.append(Filter(column, operator, _value(column, operator, text), text))
                else:
                    self._refuse(errors.UnknownParameter, name, self._unknown(name))
            except ValueError as error:
                is_cursor = _READERS.get(name) is _cursor and self._rules.paged
                kind = errors.InvalidCursor if is_cursor else errors.InvalidParameter
                self._refuse(kind, name, str(error))
        if len(filters) > _MOST_FILTERS:
            self._refuse(
                errors.InvalidParameter, filters[_MOST_FILTERS].column.field, f"Send at most {_MOST_FILTERS} filters."
            )
        if "after" in seen and "before" in seen and {"after", "before"} <= self._reserved:
            self._refuse(errors.InvalidParameter, "before", "Send either `after` or `before`.")
        if self._faults:
            kinds = (errors.UnknownParameter, errors.InvalidCursor, errors.InvalidParameter)
            first = next(kind for kind in kinds if kind.code == self._faults[0].code)
            raise first(details=self._faults)
        if values.get("fields") is not None:
            values["fields"] |= frozenset(values.get("expand", ()))
        return Query(filters=tuple(filters), **values)

    def _refuse(self, kind: type[ApiError], name: str, message: str) -> None:
        self._faults.append(ErrorDetail(kind.code, message, parameter=name[:_LONGEST_NAME]))

    def _decoded(self, part: str) -> tuple[str, str | None]:
        """Return a parameter's name and its text; None for the text when either cannot be read, which is noted."""
        name, _, text = part.partition("=")
        try:
            name = _unquoted(name)
            return name, _unquoted(text)
        except ValueError as error:
            # What is told must be text, whatever came.
            name = name.encode("utf-8", "replace").decode()
            self._refuse(errors.InvalidParameter, name, str(error))
            return name, None

    def _unknown(self, name: str) -> str:
        """Say what is wrong with a parameter that is not known, and which one was probably meant."""
        if name in self._rules.reserved:
            return "A single item takes `fields` and `expand` only."
        names = [column.field for column in self._rules.columns if column.readable] if self._filters else []
        owners = [owner for owner in names if name == owner or name.startswith(f"{owner}__")]
        if owners:
            return self._lacking(max(owners, key=len), name)
        head, mark, operator = name.rpartition("__") if "__" in name[1:] else (name, "", "")
        near = self._nearest(head, [*names, *sorted(self._reserved)])
        return "Unknown parameter." + (f" Did you mean `{near}{mark}{operator}`?" if near else "")

    def _lacking(self, owner: str, name: str) -> str:
        offered = sorted(known for known, (column, _) in self._filters.items() if column.field == owner)
        if not offered:
            return f"The field `{owner}` cannot be used as a filter."
        near = self._nearest(name, offered)
        hint = f"Did you mean `{near}`?" if near else f"Available: {', '.join(f'`{known}`' for known in offered)}."
        return f"The field `{owner}` does not support this filter. {hint}"

    def _nearest(self, name: str, names: list[str]) -> str | None:
        self._suggestions += 1
        return _nearest(name, names) if self._suggestions <= _MOST_SUGGESTIONS else None


def _nearest(name: str, names: Collection[str]) -> str | None:
    return next(iter(get_close_matches(name[:_LONGEST_NAME], names, 1)), None)


def _unquoted(text: str) -> str:
    """Return what a part of a URL's query says; raises `ValueError` unless it is text in UTF-8 without U+0000."""
    if "%" not in text and "+" not in text and text.isascii() and "\x00" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise ValueError("A % is not followed by two hexadecimal digits.")
    try:
        # Bytes that are no UTF-8 come from the HTTP parser as lone surrogates.
        plain = unquote_to_bytes(text.replace("+", " ").encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        raise ValueError("Not text in UTF-8.") from None
    if "\x00" in plain:
        raise ValueError("U+0000 cannot be stored, so no value contains it.")
    return plain


def _limit(text: str, rules: Rules) -> int:
    if not _LIMIT.fullmatch(text) or int(text) > rules.max_limit:
        raise ValueError(f"Must be an integer from 1 to {rules.max_limit}.")
    return int(text)


def _cursor(text: str, rules: Rules) -> str:
    if not rules.paged:
        raise ValueError("A stream has no pages; leave the parameter out, or accept application/json.")
    if not _CURSOR.fullmatch(text):
        raise ValueError(errors.InvalidCursor.message)
    return text


def _sort(text: str, rules: Rules) -> tuple[Sort, ...]:
    names = _listed(text, "Name the fields to sort by, separated by commas, `-` in front of one for descending.")
    if len(names) > MOST_SORTS:
        raise ValueError(f"Sort by at most {MOST_SORTS} fields.")
    sorts = [Sort(_known(name.removeprefix("-"), rules.sorts), name.startswith("-")) for name in names]
    sorted_by = [sort.column.field for sort in sorts]
    if len(set(sorted_by)) < len(sorted_by):
        raise ValueError(f"The field `{next(name for name in sorted_by if sorted_by.count(name) > 1)}` is named twice.")
    return tuple(sorts)


def _fields(text: str, rules: Rules) -> frozenset[str]:
    names = _listed(text, "Name the fields to return, separated by commas.")
    known = {name: name for name in rules.readable}
    return frozenset({"id", *(_known(name, known) for name in names)})


def _count(text: str, rules: Rules) -> str:
    if text not in ("exact", "estimated"):
        raise ValueError("Must be `exact` or `estimated`.")
    return text


def _search(text: str, rules: Rules) -> str:
    if not text or text.isspace():
        raise ValueError("Send the words to search for.")
    if len(text) > LONGEST_SEARCH:
        raise ValueError(f"Send at most {LONGEST_SEARCH} characters.")
    return text


def _expand(text: str, rules: Rules) -> tuple[str, ...]:
    names = _listed(text, "Name the references to expand, separated by commas.")
    known = {name: name for name in rules.expandable}
    return tuple(dict.fromkeys(_known(name, known) for name in names))


def _listed(text: str, advice: str) -> list[str]:
    names = text.split(",")
    if "" in names or "-" in names:
        raise ValueError(advice)
    if len(names) > MOST_VALUES:
        raise ValueError(f"Send at most {MOST_VALUES} names.")
    return names


def _known(name: str, known: Mapping[str, _T]) -> _T:
    if name in known:
        return known[name]
    near = _nearest(name, known)
    hint = f"Did you mean `{near}`?" if near else f"Available: {', '.join(f'`{other}`' for other in sorted(known))}."
    raise ValueError(f"`{name[:_LONGEST_NAME]}` cannot be used here. {hint}")


def _boolean(column: Column, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("Must be `true` or `false`.")
    return text == "true"


def _values(column: Column, text: str) -> list[Any]:
    r"""Return the values between the commas; `\,` is a comma within a value and `\\` a backslash."""
    texts = [""]
    for part in _LIST_PART.findall(text):
        if part == ",":
            texts.append("")
        else:
            texts[-1] += part[1:] if part in ("\\,", "\\\\") else part
    if len(texts) > MOST_VALUES:
        raise ValueError(f"Send at most {MOST_VALUES} values.")
    return [column.parse(one) for one in texts]


def _literal(column: Column, text: str) -> str:
    return text


def _value(column: Column, operator: str, text: str) -> Any:
    read = _VALUES.get(operator)
    return column.parse(text) if read is None else read(column, text)


_VALUES: Mapping[str, Callable[[Column, str], Any]] = {
    "isnull": _boolean,
    "in": _values,
    "prefix": _literal,
    "contains": _literal,
}
"""How the value of an operator is read where it is not a value of the column."""

_READERS: Mapping[str, Callable[[str, Rules], Any]] = {
    "limit": _limit,
    "after": _cursor,
    "before": _cursor,
    "sort": _sort,
    "fields": _fields,
    "count": _count,
    "q": _search,
    "expand": _expand,
}
"""How each of the parameters is read that mean the same in every collection."""
