"""HTML: elements with their attributes and content, escaped wherever they are not markup already."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = frozenset(("input", "link", "meta"))
_JSON = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)'
)


class Html(str):
    """Be markup, which is written as it stands."""

    __slots__ = ()


def element(tag: str, *content: Any, **attributes: Any) -> Html:
    """Return an element; what is None in it is left out, and a list stands for its members.

    An attribute's name may end in an underscore, and others stand for hyphens; True is written as its name alone.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    return Html(f"<{tag}{written}>" if tag in _VOID else f"<{tag}{written}>{join(content)}</{tag}>")


def join(content: Iterable[Any]) -> Html:
    """Return pieces of content one after the other, the texts among them escaped."""
    return Html("".join(_content(piece) for piece in content))


def json(text: str) -> Html:
    """Return a JSON text whose parts can be told apart by their class."""
    pieces: list[Any] = []
    end = 0
    for match in _JSON.finditer(text):
        pieces += text[end : match.start()], element("span", match[0], class_=f"json-{match.lastgroup}")
        end = match.end()
    return join((*pieces, text[end:]))


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _content(piece: Any) -> str:
    if piece is None:
        return ""
    if isinstance(piece, Html):
        return piece
    return escape(piece, quote=False) if isinstance(piece, str) else join(piece)
