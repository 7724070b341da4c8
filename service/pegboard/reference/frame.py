"""What all pages of the reference have around their content: the bar on top, and the links on the right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pegboard.discovery import Plugin, State
from pegboard.reference import markup
from pegboard.reference.markup import Html, element

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)

STATES: Mapping[State, str] = {
    State.FAILED: "out of service",
    State.CONFLICT: "in conflict",
    State.DISABLED: "disabled",
}
"""What is said of a plugin that does not serve."""


@dataclass(frozen=True, slots=True)
class Site:
    """Hold what all pages share: where the service is mounted, its assets by their names, and its plugins."""

    prefix: str
    version: str
    assets: Mapping[str, str]
    plugins: Sequence[Plugin]

    def page(self, name: str = "") -> str:
        """Return the URL of the page of a resource, or of the Overview."""
        return f"{self.prefix}/docs/{name}" if name else f"{self.prefix}/docs"


@dataclass(frozen=True, slots=True)
class Section:
    """Be a part of a page that can be linked to."""

    anchor: str
    title: str
    label: Html | None = None


def has_page(name: str) -> bool:
    """Tell whether a plugin can have a page: what else may be an entry point's name cannot stand in a path."""
    return not name or _NAME.fullmatch(name) is not None


def page(site: Site, current: str, title: str, sections: Sequence[Section], content: Html) -> bytes:
    """Return a whole page; `current` is the name of its resource, "" for the Overview."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · API Reference"),
        element("link", rel="icon", href=site.assets["icon.svg"], type="image/svg+xml"),
        element("link", rel="stylesheet", href=site.assets["style.css"]),
        element("script", type="module", src=site.assets["page.js"]),
    )
    links = _links(site, current, sections)
    menu = element(
        "details", element("summary", "Menu"), element("nav", links, aria_label="API Reference"), class_="menu"
    )
    name = element("strong", "Pegboard"), " ", element("span", "API Reference")
    header = element(
        "header",
        element("a", name, href=site.page(), class_="home"),
        element("span", site.version, class_="version"),
        element("a", "OpenAPI", href=f"{site.prefix}/openapi.json", class_="tool"),
        menu,
    )
    eyebrow = element("p", "Resource" if current else "API Reference", class_="eyebrow")
    main = element("main", eyebrow, element("h1", title), content, id="main", tabindex="-1")
    aside = element("aside", element("nav", links, aria_label="API Reference"))
    kind = "resource" if current else "overview"
    body = element(
        "body",
        element("a", "Skip to the content", href="#main", class_="skip"),
        header,
        element("div", main, aside, class_="columns"),
        class_=kind,
    )
    return ("<!doctype html>\n" + element("html", head, body, lang="en") + "\n").encode()


def _links(site: Site, current: str, sections: Sequence[Section]) -> Html:
    names = dict.fromkeys(plugin.name for plugin in site.plugins)
    serving = {plugin.name for plugin in site.plugins if plugin.state is State.READY}
    out = {plugin.name: STATES[plugin.state] for plugin in site.plugins if plugin.name not in serving}
    here = [element("li", element("a", one.label, one.title, href=f"#{one.anchor}")) for one in sections]
    return markup.join(
        (
            element("ul", _link(site, "", "Overview", current)),
            _list("Resources", [_link(site, name, name, current) for name in names if name in serving]),
            _list("Out of service", [_link(site, name, name, current, note) for name, note in out.items()]),
            _list("On this page", here),
        )
    )


def _list(title: str, items: Sequence[Html]) -> Html | None:
    return markup.join((element("p", title, class_="group"), element("ul", items))) if items else None


def _link(site: Site, name: str, title: str, current: str, note: str = "") -> Html:
    told = (title, (" ", element("span", note, class_="note")) if note else None)
    if not has_page(name):
        return element("li", element("span", told, class_="link"))
    return element("li", element("a", told, href=site.page(name), aria_current="page" if name == current else None))


def verb(name: str) -> Html:
    """Return the name of a verb, which has a colour of its own."""
    return element("span", name, class_=f"verb {name.lower()}")
