"""Where a path leads: a resource's collection or item, or one of the service's own paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.web.http import Request, Response

Handler = Callable[[Request, str], Awaitable[Response]]

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))
"""The methods of RFC 9110 and RFC 5789; any other is answered with 501."""


@dataclass(frozen=True, slots=True)
class Place:
    """Say what answers at one kind of path.

    `grants` names for each method the grants of which one suffices; a method that it does not name needs none. Those in
    `public` need no credentials either.
    """

    template: str
    plugin: str
    handlers: Mapping[str, Handler]
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    accept_patch: str | None = None
    public: frozenset[str] = frozenset()

    @property
    def allow(self) -> str:
        """Return the value of the `Allow` header."""
        return ", ".join((*self.handlers, "OPTIONS"))

    def headers(self) -> dict[str, str]:
        """Return the headers that say what can be done here."""
        return {"Allow": self.allow} | ({"Accept-Patch": self.accept_patch} if self.accept_patch else {})


@dataclass(frozen=True, slots=True)
class Mount:
    """Hold the places of one resource; with a `fault` there are none, since its plugin cannot serve.

    `beside` has those that stand where an id would, by name (`/contacts/me`), and `below` those of an item
    (`/contacts/{id}/archive`). That a method in `public` leads to none of these is told without
    credentials.
    """

    collection: Place | None = None
    item: Place | None = None
    beside: Mapping[str, Place] = field(default_factory=dict)
    below: Mapping[str, Place] = field(default_factory=dict)
    parse_id: Callable[[str], str | None] = str
    fault: str | None = None
    public: frozenset[str] = frozenset()


class Redirect(Exception):
    """Send the client to `path`, where it meant to go."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Router:
    """Find places: first the service's own by their whole path, then a mount by its name and what follows.

    `prefix` is the path under which a proxy serves us, which requests come without and redirects need.
    """

    def __init__(self, own: Iterable[Place], prefix: str = "") -> None:
        self._own = {place.template: place for place in own}
        self._prefix = prefix
        self.mounts: Mapping[str, Mount] = {}

    def find(self, path: str) -> tuple[Place, str]:
        """Return the place that the percent-encoded `path` leads to, and the id in it, or "".

        Raises `ApiError` 404, or 503 where the plugin there cannot serve, and `Redirect` for a slash too many.
        """
        own = self._own.get(path)
        if own is not None:
            return own, ""
        if path.endswith("/"):
            raise self._without_slash(path)
        if "%" in path:
            return self._find_segments([_decoded(segment) for segment in path.split("/")])
        return self._find_segments(path.split("/"))

    def admits(self, method: str, path: str) -> bool:
        """Tell whether a request without credentials is to be answered, be it with an error."""
        try:
            return method in self.find(path)[0].public
        except Redirect:
            return self.admits(method, path.rstrip("/"))
        except ApiError:
            mount = self.mounts.get(path.lstrip("/").partition("/")[0])
            return mount is not None and method in mount.public

    def _find_segments(self, segments: Sequence[str]) -> tuple[Place, str]:
        """Return the place of a path that was split before it was decoded: a slash that was escaped is none."""
        depth = len(segments)
        mount = self.mounts.get(segments[1]) if 2 <= depth <= 4 else None
        if mount is None or segments[0]:
            own = self._own.get(f"/{segments[1]}") if depth == 2 else None
            if own is not None:
                return own, ""
            raise ApiError(errors.NOT_FOUND, "Nothing answers at this path.")
        if mount.fault is not None:
            raise ApiError(errors.PLUGIN_UNAVAILABLE, headers={"Retry-After": "60"})
        if depth == 2:
            return _there(mount.collection), ""
        identity = segments[2]
        if depth == 3 and identity in mount.beside:
            return mount.beside[identity], ""
        place = _there(mount.item if depth == 3 else mount.below.get(segments[3]))
        known = mount.parse_id(identity) if identity else None
        if known is None:
            raise ApiError(errors.NOT_FOUND)
        return place, known

    def _without_slash(self, path: str) -> Exception:
        """Return the redirect to what `path` would be without its slashes at the end, if that leads anywhere."""
        shorter = path.rstrip("/")
        if shorter.startswith("//"):
            return ApiError(errors.NOT_FOUND, "Nothing answers at this path.")
        self.find(shorter)
        return Redirect(self._prefix + shorter)


def _there(place: Place | None) -> Place:
    if place is None:
        raise ApiError(errors.NOT_FOUND, "Nothing answers at this path.")
    return place


def _decoded(segment: str) -> str:
    """Return what a segment of a path says."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise ApiError(errors.NOT_FOUND, "The path is no UTF-8.") from None
