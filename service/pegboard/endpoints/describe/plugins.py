"""The endpoints of all plugins, each described within its guard; a plugin whose description fails is unavailable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from pegboard import rendering
from pegboard.api.declared import public_verbs
from pegboard.endpoints.describe.components import COMPONENTS
from pegboard.endpoints.describe.content import ContentEndpoints
from pegboard.endpoints.describe.declaration import Declaration, declare
from pegboard.endpoints.describe.json_fields import ref
from pegboard.endpoints.describe.json_schemas import Names, Schemas, references_in
from pegboard.endpoints.describe.operations import OperationEndpoints
from pegboard.endpoints.describe.resource import ResourceEndpoints
from pegboard.endpoints.endpoint import Endpoint, JsonSchema, Media
from pegboard.hosting import startup_guard
from pegboard.hosting.bulkheads import Bulkhead
from pegboard.hosting.discovery import Plugin, State

_FAILURE = "its endpoints cannot be described"


@dataclass(slots=True)
class Description:
    """Hold the declarations of the plugins, their endpoints and the schemas of these, as plain values."""

    declared: dict[str, Declaration] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)
    schemas: Mapping[str, JsonSchema] = field(default_factory=dict)
    public: dict[str, frozenset[str]] = field(default_factory=dict)
    """The public verbs of plugins that failed: their requests get a 503 without credentials, too."""


def describe(plugins: Sequence[Plugin], guards: Mapping[str, Bulkhead], seconds: float) -> Description:
    """Return the description of `plugins`; each fails if it raises or takes more than `seconds`."""
    found, schemas, names = Description(), Schemas(COMPONENTS), dict[str, Names]()
    renamed = {alias: plugin.name for plugin in plugins for alias in plugin.aliases}
    for plugin in _serving(plugins):
        with plugin.guarded(_FAILURE, seconds):
            declared = declare(plugin.name, plugin.resource, plugin.settings)  # type: ignore[arg-type]  # it is ready
            names[plugin.name] = schemas.names(declared.resource, plugin.name)
            schemas.add(declared.resource, names[plugin.name], {})
            # Fail here if the schemas cannot be serialized, and not when a client requests the document.
            rendering.dumps(schemas.with_references(asdict(names[plugin.name]).values()))
            rendering.dumps(
                [declared.summary, declared.text, *((e.code, e.status, e.message) for e in declared.error_codes)]
            )
            found.declared[plugin.name] = declared
    for plugin in _serving(plugins):
        with plugin.guarded(_FAILURE, seconds):
            declared = found.declared[plugin.name]
            targets = {name: renamed.get(target, target) for name, target in declared.references.items()}
            shown = {name: ref(names[target].item) for name, target in targets.items() if target in found.declared}
            if shown:
                schemas.add(declared.resource, names[plugin.name], shown)
    for plugin in _serving(plugins):
        with plugin.guarded(_FAILURE, seconds):
            parts = (found.declared[plugin.name], names[plugin.name], schemas, guards[plugin.name])
            endpoints = [
                endpoint
                for kind in (ResourceEndpoints, ContentEndpoints, OperationEndpoints)
                for endpoint in kind(*parts).endpoints()
            ]
            rendering.dumps(
                schemas.with_references(
                    set(references_in([media.schema for media in _media(endpoints)])) - COMPONENTS.keys()
                )
            )
            rendering.dumps([(endpoint.summary, endpoint.description) for endpoint in endpoints])
            found.endpoints += endpoints
    found.schemas = schemas.components
    for plugin in plugins:
        if plugin.state is not State.READY and plugin.resource is not None:
            with suppress(Exception), startup_guard.bounded(plugin.name, seconds):
                found.public[plugin.name] = frozenset(public_verbs(plugin.resource))
    return found


def _serving(plugins: Sequence[Plugin]) -> Iterator[Plugin]:
    return (plugin for plugin in plugins if plugin.state is State.READY and plugin.resource is not None)


def _media(endpoints: Iterable[Endpoint]) -> Iterator[Media]:
    for endpoint in endpoints:
        yield from endpoint.body.content.values() if endpoint.body else ()
        for reply in endpoint.responses:
            yield from reply.content.values()
