"""The declaration of a resource's class, evaluated once when its plugin is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pegboard.api import declared
from pegboard.api.content import Content, size_limit
from pegboard.api.operation import Operation
from pegboard.api.resource import Resource
from pegboard.api.table import TableResource
from pegboard.errors import ApiError
from pegboard.query import mapping
from pegboard.query.query import Rules


@dataclass(frozen=True, slots=True)
class Declaration:
    """Hold what a resource declares, so that describing it runs no more code of its author.

    `actions` are the implemented actions, `content` has its maximum size as a number, `references` maps the fields that
    refer to other resources, and `takes_arrays` is whether POST accepts an array of items.
    """

    name: str
    resource: type[Resource]
    summary: str
    text: str
    verbs: tuple[str, ...]
    public_verbs: frozenset[str]
    actions: frozenset[str]
    operations: Mapping[str, Operation]
    rules: Rules
    has_uuids: bool
    error_codes: tuple[type[ApiError], ...]
    content: Content | None
    references: Mapping[str, str]
    takes_arrays: bool

    def allows(self, verb: str) -> bool:
        """Return whether a verb is declared."""
        return verb in self.verbs


def declare(name: str, resource: type[Resource], settings: Mapping[str, Any]) -> Declaration:
    """Evaluate the declaration of `resource`, mounted as `name` with the settings of its plugin.

    Raises what the code of its author raises.
    """
    content = resource.content
    return Declaration(
        name=name,
        resource=resource,
        summary=str(declared.summary(resource)),
        text=str(declared.text(resource)),
        verbs=declared.verbs(resource),
        public_verbs=frozenset(declared.public_verbs(resource)),
        actions=frozenset(declared.actions(resource)),
        operations=dict(declared.operations(resource)),
        rules=declared.rules(resource),
        has_uuids=bool(declared.has_uuids(resource)),
        error_codes=tuple(resource.error_codes),
        content=content and replace(content, max_size=size_limit(content, settings)),
        references=dict(mapping.references(resource.schema())),
        takes_arrays=issubclass(resource, TableResource),
    )
