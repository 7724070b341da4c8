"""The layout of all pages: the bar at the top and the links on the right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pegboard.docs.reference import templating
from pegboard.endpoints.describe.service import DOCS, DOCUMENT
from pegboard.hosting.discovery import Plugin, State

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)

STATES: Mapping[State, str] = {
    State.FAILED: "unavailable",
    State.CONFLICT: "in conflict",
    State.DISABLED: "disabled",
}
"""The text for each state of a plugin that does not serve."""


@dataclass(frozen=True, slots=True)
class Site:
    """Hold what all pages share: the prefix of the service's paths, the assets by name, and the plugins."""

    prefix: str
    version: str
    assets: Mapping[str, str]
    plugins: Sequence[Plugin]

    def page(self, name: str = "") -> str:
        """Return the URL of the page of a resource, or of the Overview."""
        return f"{self.prefix}{DOCS}/{name}" if name else f"{self.prefix}{DOCS}"

    @property
    def document(self) -> str:
        """Return the URL of the OpenAPI document."""
        return self.prefix + DOCUMENT


@dataclass(frozen=True, slots=True)
class Link:
    """Describe a link in the navigation; without `href` it is plain text, for a plugin that has no page."""

    title: str
    href: str = ""
    note: str = ""
    verb: str = ""
    is_current: bool = False


def has_page(name: str) -> bool:
    """Return whether a plugin can have a page: the name of an entry point may contain characters invalid in a path."""
    return not name or _NAME.fullmatch(name) is not None


def page(site: Site, current: str, title: str, sections: Sequence[Link], template: str, **view: Any) -> bytes:
    """Return a complete page; `current` is the name of its resource, or "" for the Overview."""
    menu = [(heading, links) for heading, links in _menu(site, current, sections) if links]
    return templating.render(template, site=site, current=current, title=title, menu=menu, **view).encode()


def _menu(site: Site, current: str, sections: Sequence[Link]) -> Iterator[tuple[str, Sequence[Link]]]:
    names = dict.fromkeys(plugin.name for plugin in site.plugins)
    serving = {plugin.name for plugin in site.plugins if plugin.state is State.READY}
    unavailable = {plugin.name: STATES[plugin.state] for plugin in site.plugins if plugin.name not in serving}
    yield "", [Link("Overview", site.page(), is_current=not current)]
    yield "Resources", [_link(site, name, current) for name in names if name in serving]
    yield "Unavailable", [_link(site, name, current, note) for name, note in unavailable.items()]
    yield "On this page", sections


def _link(site: Site, name: str, current: str, note: str = "") -> Link:
    return Link(name, site.page(name) if has_page(name) else "", note, is_current=name == current)
