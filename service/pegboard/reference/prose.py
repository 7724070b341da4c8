"""Markdown as HTML: the texts of the reference, and what authors write into their docstrings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pegboard.reference.markup import Html, element, json

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_ANSWER = "HTTP/1.1 "


@dataclass(frozen=True, slots=True)
class Prose:
    """Hold a text as HTML, and the anchors and titles of its sections."""

    html: Html
    sections: tuple[tuple[str, str], ...] = ()


def prose(text: str, level: int, *, anchored: bool = False) -> Prose:
    """Return Markdown as HTML, its highest headings at `level`; with anchors where no other text is on the page.

    HTML in it is text, and an image what is said in its place: nothing of it is run or fetched.
    """
    markdown = _markdown()
    tokens = markdown.parse(text)
    sections = _place_headings(tokens, level)
    if anchored:
        for index, anchor, _ in sections:
            tokens[index].attrSet("id", anchor)
    html = Html(markdown.renderer.render(tokens, markdown.options, {}))
    return Prose(html, tuple((anchor, title) for _, anchor, title in sections))


def code(text: str, language: str = "") -> Html:
    """Return a block of code, with what is JSON in it or in the answer that it shows made easy to read."""
    is_json = language == "json" or text.startswith(_ANSWER)
    return element("pre", element("code", json(text) if is_json else text))


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # Imported only now: a worker that is never asked for the reference does without it.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules = markdown.renderer.rules  # type: ignore[attr-defined]  # of the protocol, not of its HTML renderer
    rules["fence"] = lambda tokens, index, *_: code(tokens[index].content, tokens[index].info.strip())
    rules["code_block"] = rules["fence"]
    rules["image"] = lambda tokens, index, *_: element("span", tokens[index].content)
    rules["table_open"] = lambda *_: '<div class="table"><table>'
    rules["table_close"] = lambda *_: "</table></div>"
    return markdown


def _place_headings(tokens: Sequence[Token], level: int) -> list[tuple[int, str, str]]:
    """Bring the headings to their levels, skipping none; return where the highest are, their anchors and titles."""
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
