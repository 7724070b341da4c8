"""GET and HEAD over a resource: items and pages with their headers, and 304 where the client has them already."""

from __future__ import annotations

from urllib.parse import quote, unquote

from pegboard import conditions, errors, export, negotiation, rendering
from pegboard.conditions import Conditions, Outcome
from pegboard.errors import ApiError
from pegboard.http import Request, Response, Stream
from pegboard.query import Rules, parse, parse_item
from pegboard.resource import Context, Page, Representation, Resource

JSON = "application/json"
VARY = "Accept, Accept-Encoding"
_KEPT = "%=&,:;+-._~!*'()/?@$[]"


class Reader:
    """Serve the reading verbs of one resource, mounted at `path`."""

    def __init__(self, resource: Resource, rules: Rules, path: str) -> None:
        self._resource = resource
        self._rules = rules
        self._streaming = rules.streaming()
        self._path = path

    async def retrieve(self, request: Request, identity: str) -> Response:
        """Answer with one item."""
        accept(request, JSON)
        query, demanded = errors.gather(
            lambda: parse_item(request.raw_query, self._rules), lambda: conditions.read(request.headers)
        )
        context = Context(request.client, request.id, query, demanded)
        item = await self._resource.retrieve(context, identity)  # type: ignore[attr-defined]  # there, as its verb is declared
        shown = self._resource.represent(item, query)
        return conditional(Response(200, item_headers(shown), shown.body), shown, demanded)

    async def list(self, request: Request, _: str) -> Response:
        """Answer with one page of the collection, or with all of it where the client takes it as a stream."""
        media_type = accept(request, JSON, export.NDJSON, export.CSV)
        if media_type != JSON:
            return await self._stream(request, media_type)
        query, demanded = errors.gather(
            lambda: parse(request.raw_query, self._rules), lambda: conditions.read(request.headers)
        )
        context = Context(request.client, request.id, query, demanded)
        found = await self._resource.list(context)  # type: ignore[attr-defined]  # there, as its verb is declared
        page = found if isinstance(found, Page) else self._resource.paged(list(found), query)
        next_url, prev_url = self._link(request, "after", page.next), self._link(request, "before", page.prev)
        parts = [
            b'{"items":', self._resource.represent_all(page.items, query),
            b',"next":', rendering.dumps(next_url), b',"prev":', rendering.dumps(prev_url),
        ]  # fmt: skip
        headers = {"Content-Type": JSON, "Vary": VARY, "Cache-Control": "private, no-cache"}
        links = {"next": next_url, "prev": prev_url, "first": self._link(request, "first", "")}
        headers["Link"] = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in links.items() if url)
        if page.total is not None:
            headers["X-Total-Count"] = str(page.total)
            parts += [b',"total":', str(page.total).encode()]
        body = b"".join((*parts, b"}"))
        tag = rendering.digest(body)
        headers["ETag"] = f'"{tag}"'
        return conditional(Response(200, headers, body), Representation(body, tag, None), demanded)

    async def _stream(self, request: Request, media_type: str) -> Response:
        query, demanded = errors.gather(
            lambda: parse(request.raw_query, self._streaming), lambda: conditions.read(request.headers)
        )
        # It has no entity tag: there is none that could match.
        if demanded.evaluate("", None, reading=True) is Outcome.FAILED:
            raise ApiError(errors.PRECONDITION_FAILED, header="If-Match")
        parts = self._resource.stream(Context(request.client, request.id, query, demanded))
        first = await anext(parts, Page(()))
        headers = {"Content-Type": export.CONTENT_TYPES[media_type], "Vary": VARY}
        if first.total is not None:
            headers["X-Total-Count"] = str(first.total)
        chunks = export.lines(self._resource, query, media_type, first, parts)
        if negotiation.encoding(request.headers.get("Accept-Encoding")) == "gzip":
            headers["Content-Encoding"] = "gzip"
            chunks = export.compressed(chunks)
        return await Stream.begin(200, headers, chunks)

    def _link(self, request: Request, parameter: str, cursor: str | None) -> str | None:
        """Return the URL of this collection with another cursor; an empty one means the first page."""
        if cursor is None:
            return None
        kept = [part for part in request.raw_query.split("&") if part and _name_of(part) not in ("after", "before")]
        if cursor:
            kept.append(f"{parameter}={cursor}")
        return self._path + ("?" + quote("&".join(kept), safe=_KEPT) if kept else "")


def _name_of(part: str) -> str:
    return unquote(part.partition("=")[0])


def accept(request: Request, *offered: str) -> str:
    """Return the media type to answer with; raises `ApiError` 406 where the client takes none of `offered`."""
    chosen = negotiation.acceptable(line(request, "Accept"), offered)
    if chosen is None:
        raise ApiError(errors.NOT_ACCEPTABLE, f"Accept one of: {', '.join(offered)}.", header="Accept")
    return chosen


def line(request: Request, name: str) -> str | None:
    """Return a header as one line, in however many it came (RFC 9110 §5.3); None where it is not there."""
    values = request.headers.getall(name, None)
    return None if values is None else values[0] if len(values) == 1 else ", ".join(values)


def item_headers(shown: Representation) -> dict[str, str]:
    """Return the headers that go with an item."""
    headers = {
        "Content-Type": JSON,
        "ETag": f'"{shown.tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": VARY,
    }
    if shown.modified is not None:
        headers["Last-Modified"] = rendering.http_date(shown.modified)
    return headers


def conditional(response: Response, shown: Representation, demanded: Conditions) -> Response:
    """Return `response`, or 304 in its place; raises `ApiError` 412."""
    if demanded is conditions.NONE:
        return response
    outcome = demanded.evaluate(shown.tag, shown.modified, reading=True)
    if outcome is Outcome.FAILED:
        raise demanded.refusal(shown.tag)
    if outcome is Outcome.NOT_MODIFIED:
        response.headers.pop("Content-Type")
        return Response(304, response.headers, b"")
    return response
