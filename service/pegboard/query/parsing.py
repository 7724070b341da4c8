"""The parser of URL parameters: limit, sort, filters, fields, count, search, expand and cursors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.query.operators import OPERATORS, Operand
from pegboard.query.query import Filter, Query, Rules, Sort, with_cursor
from pegboard.schema.column import Column

_MAX_PARAMETERS = 100
_MAX_FILTERS = 32
MAX_SORTS = 8
MAX_VALUES = 100
MAX_SEARCH_LENGTH = 500  # characters; PostgreSQL refuses to search for a word of 2,047 bytes
_MAX_SUGGESTIONS = 5
_MAX_NAME_LENGTH = 100

# Parsed queries are cached, because a client that follows pages repeats the same one.
_MAX_CACHED = 500
_MAX_CACHED_LENGTH = 1000  # characters

_ITEM_PARAMETERS = frozenset({"fields", "expand"})

_T = TypeVar("_T")

_LIMIT = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_CURSOR = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_LIST_PART = re.compile(r"\\[\\,]|,|[^\\,]+|\\")


def parse(raw_query: str, rules: Rules) -> Query:
    """Parse the raw query of a collection; raises `ApiError` 400 with all errors."""
    if not raw_query:
        return rules.default_query
    plain, parameter, text = _split_cursor(raw_query)
    cached = rules.default_query if not plain else rules.cache.get(plain)
    if cached is not None and (not text or (rules.paged and _CURSOR.fullmatch(text))):
        return with_cursor(cached, **{parameter: text}) if text else cached
    query = _Parser(rules, rules.reserved, rules.filters).parse(raw_query)
    if len(plain) <= _MAX_CACHED_LENGTH and (query.after is None and query.before is None) == (not text):
        if len(rules.cache) >= _MAX_CACHED:
            rules.cache.clear()
        rules.cache[plain] = with_cursor(query)
    return query


def _split_cursor(raw_query: str) -> tuple[str, str, str]:
    """Split off a cursor at the end of a query, where the links to other pages have it: its parameter and value."""
    head, _, last = raw_query.rpartition("&")
    name, _, text = last.partition("=")
    return (head, name, text) if text and name in ("after", "before") else (raw_query, "", "")


def parse_item(raw_query: str, rules: Rules) -> Query:
    """Parse the raw query of an item, which may have `fields` and `expand`; raises `ApiError` 400 with all errors."""
    if not raw_query:
        return rules.default_query
    return _Parser(rules, rules.reserved & _ITEM_PARAMETERS, {}).parse(raw_query)


class _Parser:
    """Parse one query, and collect its errors."""

    def __init__(self, rules: Rules, reserved: frozenset[str], filters: Mapping[str, tuple[Column, str]]) -> None:
        self._rules = rules
        self._reserved = reserved
        self._filters = filters
        self._details: list[ErrorDetail] = []
        self._suggestions = 0

    def parse(self, raw_query: str) -> Query:
        parts = [part for part in raw_query.split("&") if part]
        if len(parts) > _MAX_PARAMETERS:
            raise errors.InvalidParameter(f"Send at most {_MAX_PARAMETERS} query parameters.")
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
                    values[name] = _PARSERS[name](text, self._rules)
                elif name in self._filters:
                    column, operator = self._filters[name]
                    filters.append(Filter(column, operator, _operand(column, operator, text), text))
                else:
                    self._refuse(errors.UnknownParameter, name, self._unknown(name))
            except ValueError as error:
                is_cursor = _PARSERS.get(name) is _cursor and self._rules.paged
                kind = errors.InvalidCursor if is_cursor else errors.InvalidParameter
                self._refuse(kind, name, str(error))
        if len(filters) > _MAX_FILTERS:
            self._refuse(errors.InvalidParameter, filters[_MAX_FILTERS].field, f"Send at most {_MAX_FILTERS} filters.")
        if "after" in seen and "before" in seen and {"after", "before"} <= self._reserved:
            self._refuse(errors.InvalidParameter, "before", "Send either `after` or `before`.")
        if self._details:
            kinds = (errors.UnknownParameter, errors.InvalidCursor, errors.InvalidParameter)
            first = next(kind for kind in kinds if kind.code == self._details[0].code)
            raise first(details=self._details)
        if values.get("fields") is not None:
            values["fields"] |= frozenset(values.get("expand", ()))
        return Query(filters=tuple(filters), **values)

    def _refuse(self, kind: type[ApiError], name: str, message: str) -> None:
        self._details.append(ErrorDetail(kind.code, message, parameter=name[:_MAX_NAME_LENGTH]))

    def _decoded(self, part: str) -> tuple[str, str | None]:
        """Return a parameter's name and text; the text is None if either cannot be decoded, which is reported."""
        name, _, text = part.partition("=")
        try:
            name = _unquoted(name)
            return name, _unquoted(text)
        except ValueError as error:
            # The response must be valid text.
            name = name.encode("utf-8", "replace").decode()
            self._refuse(errors.InvalidParameter, name, str(error))
            return name, None

    def _unknown(self, name: str) -> str:
        """Return the message for an unknown parameter, with a suggestion if there is a similar one."""
        if name in self._rules.reserved:
            return "A single item takes `fields` and `expand` only."
        names = [column.field for column in self._rules.columns if column.readable] if self._filters else []
        owners = [owner for owner in names if name == owner or name.startswith(f"{owner}__")]
        if owners:
            return self._unsupported(max(owners, key=len), name)
        head, mark, operator = name.rpartition("__") if "__" in name[1:] else (name, "", "")
        near = self._nearest(head, [*names, *sorted(self._reserved)])
        return "Unknown parameter." + (f" Did you mean `{near}{mark}{operator}`?" if near else "")

    def _unsupported(self, owner: str, name: str) -> str:
        """Return the message for a filter that the field `owner` does not support."""
        supported = sorted(other for other, (column, _) in self._filters.items() if column.field == owner)
        if not supported:
            return f"The field `{owner}` cannot be used as a filter."
        near = self._nearest(name, supported)
        hint = f"Did you mean `{near}`?" if near else f"Available: {', '.join(f'`{other}`' for other in supported)}."
        return f"The field `{owner}` does not support this filter. {hint}"

    def _nearest(self, name: str, names: list[str]) -> str | None:
        self._suggestions += 1
        return _nearest(name, names) if self._suggestions <= _MAX_SUGGESTIONS else None


def _nearest(name: str, names: Collection[str]) -> str | None:
    return next(iter(get_close_matches(name[:_MAX_NAME_LENGTH], names, 1)), None)


def _unquoted(text: str) -> str:
    """Decode a part of a URL's query; raises `ValueError` unless it is UTF-8 text without U+0000."""
    if "%" not in text and "+" not in text and text.isascii() and "\x00" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise ValueError("A % is not followed by two hexadecimal digits.")
    try:
        # The HTTP parser decodes bytes that are not UTF-8 to lone surrogates.
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
    names = _split(text, "Name the fields to sort by, separated by commas, `-` in front of one for descending.")
    if len(names) > MAX_SORTS:
        raise ValueError(f"Sort by at most {MAX_SORTS} fields.")
    sorts = [Sort(_look_up(name.removeprefix("-"), rules.sorts), name.startswith("-")) for name in names]
    sorted_by = [sort.field for sort in sorts]
    if len(set(sorted_by)) < len(sorted_by):
        raise ValueError(f"The field `{next(name for name in sorted_by if sorted_by.count(name) > 1)}` is named twice.")
    return tuple(sorts)


def _fields(text: str, rules: Rules) -> frozenset[str]:
    names = _split(text, "Name the fields to return, separated by commas.")
    choices = {name: name for name in rules.readable}
    return frozenset({"id", *(_look_up(name, choices) for name in names)})


def _count(text: str, rules: Rules) -> str:
    if text not in ("exact", "estimated"):
        raise ValueError("Must be `exact` or `estimated`.")
    return text


def _search(text: str, rules: Rules) -> str:
    if not text or text.isspace():
        raise ValueError("Send the words to search for.")
    if len(text) > MAX_SEARCH_LENGTH:
        raise ValueError(f"Send at most {MAX_SEARCH_LENGTH} characters.")
    return text


def _expand(text: str, rules: Rules) -> tuple[str, ...]:
    names = _split(text, "Name the references to expand, separated by commas.")
    choices = {name: name for name in rules.expandable}
    return tuple(dict.fromkeys(_look_up(name, choices) for name in names))


def _split(text: str, message: str) -> list[str]:
    names = text.split(",")
    if "" in names or "-" in names:
        raise ValueError(message)
    if len(names) > MAX_VALUES:
        raise ValueError(f"Send at most {MAX_VALUES} names.")
    return names


def _look_up(name: str, choices: Mapping[str, _T]) -> _T:
    if name in choices:
        return choices[name]
    near = _nearest(name, choices)
    hint = f"Did you mean `{near}`?" if near else f"Available: {', '.join(f'`{other}`' for other in sorted(choices))}."
    raise ValueError(f"`{name[:_MAX_NAME_LENGTH]}` cannot be used here. {hint}")


def _single(column: Column, text: str) -> Any:
    return column.parse(text)


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
    if len(texts) > MAX_VALUES:
        raise ValueError(f"Send at most {MAX_VALUES} values.")
    return [column.parse(value) for value in texts]


def _literal(column: Column, text: str) -> str:
    return text


def _operand(column: Column, operator: str, text: str) -> Any:
    return _OPERAND_PARSERS[OPERATORS[operator].operand](column, text)


_OPERAND_PARSERS: Mapping[Operand, Callable[[Column, str], Any]] = {
    Operand.VALUE: _single,
    Operand.VALUES: _values,
    Operand.TEXT: _literal,
    Operand.BOOLEAN: _boolean,
}

_PARSERS: Mapping[str, Callable[[str, Rules], Any]] = {
    "limit": _limit,
    "after": _cursor,
    "before": _cursor,
    "sort": _sort,
    "fields": _fields,
    "count": _count,
    "q": _search,
    "expand": _expand,
}
"""The parsers of the parameters that mean the same in every collection."""
