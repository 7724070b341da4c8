"""Checks of the content that a resource declares for its items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pegboard.api.actions import CONTENT_ACTIONS
from pegboard.api.content_resource import FIELDS, ContentResource
from pegboard.api.resource import Resource
from pegboard.schema.fields import Integer


def fields(found: type[Resource]) -> Iterator[str]:
    """Check that the schema of a `ContentResource` shows the content."""
    if not issubclass(found, ContentResource):
        return
    declared = found.schema().fields
    for name, kind in FIELDS.items():
        if not isinstance(declared.get(name), kind) or not declared[name].dump_only:
            yield f"items with content need the field {name} = fields.{kind.__name__}(dump_only=True): add it"
    named = found.content.name if found.content else None
    if named is not None and named not in declared:
        yield f"content takes its name from the field {named}, which does not exist: add it"


def actions(found: type[Resource]) -> Iterator[str]:
    """Check that content can be read and written as declared."""
    content: Any = found.content
    if content is None:
        return
    for verb in content.verbs:
        if verb not in CONTENT_ACTIONS:
            yield f"content has the verb {verb!r}; use only {', '.join(CONTENT_ACTIONS)}"
    limit = content.max_size
    settings = getattr(found.settings_schema, "_declared_fields", {})
    if isinstance(limit, str) and not isinstance(settings.get(limit), Integer):
        hint = f"add {limit} = fields.Integer(...) to settings_schema"
        yield f"content takes its max_size from the setting {limit}: {hint}"
    for verb, action in CONTENT_ACTIONS.items():
        # PUT reads the current content, too, for its preconditions.
        if (verb in content.verbs or action == "read_content") and not callable(getattr(found, action, None)):
            yield f"content is declared, but there is no action {action}: write it"
