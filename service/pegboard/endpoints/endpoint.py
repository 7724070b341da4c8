"""One endpoint: a method at a path, with its handler and its description."""

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
    """Define who may use an endpoint.

    A `public` endpoint requires no credentials. Any other requires a client that holds at least one grant of each set
    in `grants`.
    """

    public: bool = False
    grants: tuple[frozenset[str], ...] = ()


PUBLIC = Access(public=True)
ANY_CLIENT = Access()


@dataclass(frozen=True, slots=True)
class Media:
    """Describe a body of one media type: its JSON Schema, and examples by name, each with its summary."""

    schema: JsonSchema
    example: Any = NOTHING
    examples: Mapping[str, tuple[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """Describe the body of a request by media type; `description` may be empty."""

    content: Mapping[str, Media]
    description: str = ""


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """Describe a response that is not an error: its status, meaning, headers by name, and body by media type."""

    status: int
    description: str
    headers: tuple[str, ...] = ()
    content: Mapping[str, Media] = field(default_factory=dict)
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """Describe a parameter in the `query`, a `header` or the `path`.

    `component` is its name in the components of the OpenAPI document.
    """

    name: str
    location: str
    description: str
    schema: JsonSchema
    required: bool = False
    example: Any = NOTHING
    component: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Describe a method at a path: its handler, who may use it, its request and its responses.

    `plugin` is empty for the service's own endpoints. `action` is what the handler does, such as `retrieve`, or the
    name of an operation. `name` is unique in the service. `invalid` has the errors of an empty body, by status: they
    are examples in the documentation. `errors_of` names the group of endpoints with the same errors. An endpoint that
    is not `documented` is not in the OpenAPI document.
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
    responses: tuple[ResponseSpec, ...] = ()
    errors: tuple[type[ApiError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    invalid: Mapping[int, tuple[ErrorDetail, ...]] = field(default_factory=dict)
    errors_of: str = ""
    documented: bool = True
