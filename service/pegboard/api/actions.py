"""The verbs of a resource, the action for each, and the actions that other resources can call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pegboard.api.context import Context

COLLECTION_ACTIONS: Mapping[str, str] = {"GET": "list", "HEAD": "list", "POST": "create"}
"""The verbs of a collection and the action for each."""

ITEM_ACTIONS: Mapping[str, str] = {
    "GET": "retrieve",
    "HEAD": "retrieve",
    "PUT": "replace",
    "PATCH": "update",
    "DELETE": "delete",
}
"""The verbs of an item and the action for each."""

CONTENT_ACTIONS: Mapping[str, str] = {"GET": "read_content", "HEAD": "read_content", "PUT": "write_content"}
"""The verbs of an item's content and the action for each."""


class Actions(Protocol):
    """Define the actions of another resource, as `self.resource(name)` returns them.

    A resource has only the actions that it implements; the ids are in the form that its items have.
    """

    name: str
    verbs: Sequence[str]

    def parse_id(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it, or None if it cannot be an id."""

    async def list(self, context: Context) -> Any:
        """Return a page of items, or all items."""

    async def create(self, context: Context, data: Mapping[str, Any], /) -> Any:
        """Create an item and return it."""

    async def retrieve(self, context: Context, id: str, /) -> Any:
        """Return an item; raises `errors.NotFound`."""

    async def replace(self, context: Context, id: str, data: Mapping[str, Any], /) -> Any:
        """Replace all fields of an item and return it."""

    async def update(self, context: Context, id: str, data: Mapping[str, Any], /) -> Any:
        """Change the fields in `data` of an item and return it."""

    async def delete(self, context: Context, id: str, /) -> None:
        """Delete an item."""
