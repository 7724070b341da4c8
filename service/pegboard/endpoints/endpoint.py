"""One endpoint: a method at a path, with its handler and all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp.typedefs import Handler

from pegboard.endpoints.describe.examples import NOTHING
from pegboard.errors import ApiError, ErrorDetail

JsonSchema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """Say who may use an endpoint.

    One that is `public` needs no credentials. Else any client may use it that holds, of each of the sets in `grants`,
    at least one grant.
    """

    public: bool = False
    grants: tuple[frozenset[str], ...] = ()


PUBLIC = Access(public=True)
ANY_CLIENT = Access()


@dataclass(frozen=True, slots=True)
class Media:
    """Describe a body of one media type: its JSON Schema, and examples of it, each with its summary, by their names."""

    schema: JsonSchema
    example: Any = NOTHING
    examples: Mapping[str, tuple[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """Describe the body of a request, by its media types; `description` is empty where there is nothing to add."""

    content: Mapping[str, Media]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """Describe a response that is no error: its status, what it means, its headers by name, its body by media type."""

    status: int
    description: str
    headers: tuple[str, ...] = ()
    content: Mapping[str, Media] = field(default_factory=dict)
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """Describe a parameter in the `query`, a `header` or the `path`; `component` is its name in the document."""

    name: str
    place: str
    description: str
    schema: JsonSchema
    required: bool = False
    example: Any = NOTHING
    component: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Say what answers to a method at a path, who may use it, and what goes in and comes out.

    `plugin` is empty for the service's own. `action` is what the handler does, such as `retrieve`, or the name of an
    operation. `name` is unique in the service. `invalid` has the errors that a body without any data meets, by status:
    an example of what a client gets. `errors_of` names those that meet the same errors. One that is not `documented`
    stays out of the OpenAPI document.
    """

    method: str
    path: str
    handler: Handler
    plugin: str
    access: Access
    name: str
    action: str
    summary: str
    description: str
    body: Body | None = None
    responses: tuple[Reply, ...] = ()
    errors: tuple[type[ApiError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    invalid: Mapping[int, tuple[ErrorDetail, ...]] = field(default_factory=dict)
    errors_of: str = ""
    documented: bool = True
