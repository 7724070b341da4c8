"""The templates of the pages: HTML, in which every value is escaped but the Markdown that was made HTML."""

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
    """Return a page made of `view`; what has `__html__` is written as it stands."""
    return _environment().get_template(template).render(view)


def part(name: str, *values: Any) -> str:
    """Return what a macro that the pages have in common makes of `values`."""
    made: str = getattr(_environment().get_template(_PARTS).module, name)(*values)
    return made


def json_parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a JSON text, each with its kind, which is "" for what stands in between."""
    end = 0
    for match in _JSON.finditer(text):
        yield "", text[end : match.start()]
        yield match.lastgroup or "", match[0]
        end = match.end()
    yield "", text[end:]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # Imported only now: a worker that is never asked for the reference does without it.
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
