"""Markdown to HTML: texts of the reference and docstrings of authors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pegboard.docs.reference import templating

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_RESPONSE = "HTTP/1.1 "


@dataclass(frozen=True, slots=True)
class Prose:
    """Hold a text as HTML, which templates do not escape, and the anchors and titles of its sections."""

    html: str
    sections: tuple[tuple[str, str], ...] = ()

    def __html__(self) -> str:
        """Return the HTML for templates."""
        return self.html


# A page repeats many texts, above all those of errors.
@lru_cache(maxsize=256)
def prose(text: str, level: int, *, anchored: bool = False) -> Prose:
    """Return Markdown as HTML, with its highest headings at `level`, and with ids if `anchored`.

    HTML in the Markdown is escaped, and an image is replaced by its alternative text, so nothing is run or fetched.
    """
    markdown = _markdown()
    tokens = markdown.parse(text)
    sections = _set_heading_levels(tokens, level)
    if anchored:
        for index, anchor, _ in sections:
            tokens[index].attrSet("id", anchor)
    html: str = markdown.renderer.render(list(_wrap_tables(tokens)), markdown.options, {})
    return Prose(html, tuple((anchor, title) for _, anchor, title in sections))


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # Imported here, so that a worker loads it only if it renders the reference.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules = markdown.renderer.rules  # type: ignore[attr-defined]  # missing from the protocol of renderers
    rules["fence"] = rules["code_block"] = lambda tokens, index, *_: _code(tokens[index])
    rules["image"] = lambda tokens, index, *_: templating.part("replacement", tokens[index].content)
    return markdown


def _code(token: Token) -> str:
    """Return a block of code, with syntax highlighting for JSON."""
    is_json = token.info.strip() == "json" or token.content.startswith(_RESPONSE)
    return templating.part("code", token.content, is_json)


def _wrap_tables(tokens: Iterable[Token]) -> Iterator[Token]:
    """Yield the tokens with a scrollable element around each table."""
    from markdown_it.token import Token

    for token in tokens:
        if token.type == "table_open":
            yield Token("frame_open", "div", 1, attrs={"class": "table"}, block=True)
        yield token
        if token.type == "table_close":
            yield Token("frame_close", "div", -1, block=True)


def _set_heading_levels(tokens: Sequence[Token], level: int) -> list[tuple[int, str, str]]:
    """Set the levels of the headings without gaps; return the index, anchor and title of each highest one."""
    found: list[tuple[int, str, str]] = []
    headings = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    highest = min((int(tokens[index].tag[1]) for index in headings), default=1)
    depth = level - 1
    for index in headings:
        depth = min(6, depth + 1, int(tokens[index].tag[1]) - highest + level)
        tokens[index].tag = tokens[index + 2].tag = f"h{depth}"
        title = tokens[index + 1].content
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        if depth == level:
            found.append((index, anchor, title))
    return found
