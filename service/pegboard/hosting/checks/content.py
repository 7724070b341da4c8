"""What can be wrong with the content that a resource declares for its items."""

from __future__ import annotations

from typing import Any

from pegboard.api.content_resource import FIELDS, ContentResource
from pegboard.api.resource import CONTENT_ACTIONS, Resource
from pegboard.schema.fields import Integer


def mistake(found: type[Resource]) -> str | None:
    """Return what is wrong with the content of a resource, and the cure; None for sound content, or none."""
    if issubclass(found, ContentResource):
        fault = _of_fields(found)
        if fault is not None:
            return fault
    return _of_actions(found) if found.content else None


def _of_fields(found: type[ContentResource]) -> str | None:
    declared = found.schema().fields
    for name, kind in FIELDS.items():
        if not isinstance(declared.get(name), kind) or not declared[name].dump_only:
            return f"items with content need the field {name} = fields.{kind.__name__}(dump_only=True): add it"
    called = found.content.name if found.content else None
    if called is not None and called not in declared:
        return f"content takes its name from the field {called}, which does not exist: add it"
    return None


def _of_actions(found: type[Resource]) -> str | None:
    content: Any = found.content
    for verb in content.verbs:
        if verb not in CONTENT_ACTIONS:
            return f"content names the method {verb!r}; use only {', '.join(CONTENT_ACTIONS)}"
    limit = content.max_size
    settings = getattr(found.settings, "_declared_fields", {})
    if isinstance(limit, str) and not isinstance(settings.get(limit), Integer):
        return f"content takes its max_size from the setting {limit}: add {limit} = fields.Integer(...) to settings"
    for verb, action in CONTENT_ACTIONS.items():
        # PUT reads what is there, too, to hold conditions against it.
        if (verb in content.verbs or action == "read_content") and not callable(getattr(found, action, None)):
            return f"content is declared, but there is no action {action}: write it"
    return None
