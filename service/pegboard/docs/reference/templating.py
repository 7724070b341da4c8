"""The HTML templates, which escape every value except rendered Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_PARTS = "parts.html"
_JSON = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)'
)


def render(template: str, **view: Any) -> str:
    """Render a page; values with `__html__` are not escaped."""
    return _environment().get_template(template).render(view)


def part(name: str, *values: Any) -> str:
    """Render a macro of the shared template with `values`."""
    rendered: str = getattr(_environment().get_template(_PARTS).module, name)(*values)
    return rendered


def json_parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield the tokens of a JSON text, each with its kind; "" for the text between them."""
    end = 0
    for match in _JSON.finditer(text):
        yield "", text[end : match.start()]
        yield match.lastgroup or "", match[0]
        end = match.end()
    yield "", text[end:]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # Imported here, so that a worker loads it only if it renders the reference.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pegboard.docs.reference"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters["json_parts"] = json_parts
    return environment
