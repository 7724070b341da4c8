"""The hooks of a resource, which its actions call before and after the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pegboard.api.backend import backend_of
from pegboard.api.changes import Change
from pegboard.api.context import Context
from pegboard.api.listing import id_of
from pegboard.api.resource import Resource
from pegboard.errors import ApiError


class HookedActions:
    """Run the actions of a resource, each in one transaction with the resource's hooks.

    The item to change is read and locked first.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource: Any = resource
        self._backend = backend_of(resource)
        self._background_tasks = self._backend.services.background_tasks
        self.has_before_commit = type(resource).before_commit is not Resource.before_commit
        self.has_after_commit = type(resource).after_commit is not Resource.after_commit

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Create an item."""
        async with self._resource.transaction(context):
            item = await self._resource.create(context, data)
            await self.notify(context, _creation(item))
        return item

    async def create_many(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Create all items, or none; an error of a hook points at its item."""
        async with self._resource.transaction(context):
            items: Sequence[Any] = await self._backend.create_many(context, data)
            await self.notify(context, *map(_creation, items), indexed=True)
        return items

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Replace an item."""
        return await self._change("replace", context, id, data)

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Change an item."""
        return await self._change("update", context, id, data)

    async def delete(self, context: Context, id: str) -> None:
        """Delete an item."""
        await self._change("delete", context, id)

    async def _change(self, action: str, context: Context, id: str, *data: Mapping[str, Any]) -> Any:
        async with self._resource.transaction(context):
            before = await self._resource.retrieve(context, id)
            if isinstance(before, Mapping):
                # The action may modify the object that `retrieve` returned.
                before = {**before}
            after = await getattr(self._resource, action)(context, id, *data)
            await self.notify(context, Change(action, id, before, after))
        return after

    async def notify(self, context: Context, *changes: Change, indexed: bool = False) -> None:
        """Call the hooks for the changes in the transaction of `context`; `before_commit` may reject them."""
        if self.has_before_commit:
            for index, change in enumerate(changes):
                try:
                    await self._resource.before_commit(context, change)
                except ApiError as error:
                    raise (error.within(index) if indexed else error) from None
        if self.has_after_commit:
            act = partial(self._resource.after_commit, context)
            context.after_commit(lambda: self._background_tasks.start(self._resource.name, act, changes))


def wrap(resource: Resource) -> HookedActions | None:
    """Return the actions of `resource` with its hooks; None if it has none, which saves their cost."""
    hooked = HookedActions(resource)
    return hooked if hooked.has_before_commit or hooked.has_after_commit else None


def _creation(item: Any) -> Change:
    return Change("create", id_of(item), None, item)
