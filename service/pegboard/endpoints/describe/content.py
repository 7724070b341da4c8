"""The endpoints for the content of a resource's items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from pegboard import errors
from pegboard.api.content import Content
from pegboard.auth import clients
from pegboard.endpoints.content import SEGMENT
from pegboard.endpoints.describe import errors as endpoint_errors
from pegboard.endpoints.describe import parameters
from pegboard.endpoints.describe.resource import ResourceEndpoints
from pegboard.endpoints.endpoint import Access, Body, Endpoint, Media, Parameter, ResponseSpec
from pegboard.http.request import VERBS

_HEADERS = ("ETag", "Last-Modified", "Repr-Digest", "Content-Disposition", "Content-Security-Policy")
_SUMMARIES: Mapping[str, tuple[str, str]] = {
    "GET": (
        "Download the content of an item",
        "The bytes, with the media type of the upload. `Range` requests a part of them, such as the rest of an "
        "interrupted download.",
    ),
    "HEAD": ("Read the headers of the content", "The headers of the response to GET, without its body."),
    "PUT": (
        "Upload the content of an item",
        "Streams any number of bytes up to the limit; the previous content stays until the upload is complete.",
    ),
}
BYTES = {"type": "string", "format": "binary"}
"""The notation of OpenAPI 3.0 for bytes, which JSON Schema cannot describe: generators of clients understand it."""


class ContentEndpoints(ResourceEndpoints):
    """Describe the endpoints of the content of one resource's items."""

    def endpoints(self) -> Iterator[Endpoint]:
        """Yield the endpoints; none if items have no content."""
        content = self._declared.content
        if content is None:
            return
        path = f"/{self._name}/{{id}}/{SEGMENT}"
        for verb in VERBS:
            if verb in content.verbs:
                yield self._content(verb, path, content)
        name = f"{self._name}.{SEGMENT}.options"
        yield self._options(
            path, "item.", name, "See what is allowed on the content", about="Names the methods in `Allow`."
        )

    def _content(self, verb: str, path: str, content: Content) -> Endpoint:
        title, about = _SUMMARIES[verb]
        codes = (
            *(*endpoint_errors.CONNECTION, *endpoint_errors.CREDENTIALS),
            *(*endpoint_errors.CONTENT_ACTIONS[verb], *self._declared.error_codes),
            *((errors.PreconditionRequired,) if verb == "PUT" and self._resource.needs_match else ()),
        )
        kind = f"content.{verb.lower()}"
        return Endpoint(
            method=verb,
            path=path,
            handler=partial(self._guard.call, "content.write" if verb == "PUT" else "content.read"),
            plugin=self._name,
            access=Access(grants=(clients.sufficient_grants(self._name, verb),)),
            name=f"{self._name}.{kind}",
            action=kind,
            summary=title,
            description=about,
            body=self._body(content) if verb == "PUT" else None,
            responses=tuple(self._replies(verb, content)),
            errors=codes,
            parameters=(*self._path_parameters(path), *self._headers(verb)),
            errors_of=kind,
        )

    def _body(self, content: Content) -> Body:
        return Body(_bodies(content), f"The content, of at most {content.max_size:,} bytes.")

    def _headers(self, verb: str) -> tuple[Parameter, ...]:
        if verb == "PUT":
            return parameters.headers("Content-Digest", "Repr-Digest", *self._conditions())
        part = ("Range", "If-Range") if verb == "GET" else ()
        return parameters.headers(*part, *parameters.READING)

    def _replies(self, verb: str, content: Content) -> Iterator[ResponseSpec]:
        if verb == "PUT":
            yield ResponseSpec(201, "The item has content now.", (*_HEADERS, "Location"))
            yield ResponseSpec(204, "The content was replaced.", _HEADERS)
            return
        about = "The complete content." if verb == "GET" else "The headers of the response to GET."
        yield ResponseSpec(200, about, (*_HEADERS, "Accept-Ranges"), _bodies(content))
        if verb == "GET":
            headers = (*_HEADERS, "Accept-Ranges", "Content-Range")
            yield ResponseSpec(206, "The requested part.", headers, _bodies(content))
        yield ResponseSpec(304, "The content has not changed.", _HEADERS)


def _bodies(content: Content) -> dict[str, Media]:
    return {media_type: Media(BYTES) for media_type in content.types}
