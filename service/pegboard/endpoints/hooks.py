"""The hooks of a resource around its actions: before the commit of what they do, and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pegboard.api.changes import Change
from pegboard.api.context import Context
from pegboard.api.listing import id_of
from pegboard.api.resource import Resource
from pegboard.errors import ApiError


class Hooked:
    """Do what the actions of a resource do, each in one transaction with the hooks that the resource has.

    What is to change is read, and locked, before.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource: Any = resource
        self._aftermath = resource._aftermath
        self.is_asked = type(resource).before_commit is not Resource.before_commit
        self.is_told = type(resource).after_commit is not Resource.after_commit

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Make an item."""
        data = await self._resource.hashed(data)
        async with self._resource.transaction(context):
            item = await self._resource.create(context, data)
            await self.tell(context, _made(item))
        return item

    async def create_all(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Make all items, or none; a refusal points at the item that it is about."""
        async with self._resource.transaction(context):
            items: Sequence[Any] = await self._resource.create_all(context, data)
            await self.tell(context, *map(_made, items), indexed=True)
        return items

    async def replace(self, context: Context, identity: str, data: Mapping[str, Any]) -> Any:
        """Replace an item."""
        return await self._change("replace", context, identity, await self._resource.hashed(data))

    async def update(self, context: Context, identity: str, data: Mapping[str, Any]) -> Any:
        """Change an item."""
        return await self._change("update", context, identity, await self._resource.hashed(data))

    async def delete(self, context: Context, identity: str) -> None:
        """Delete an item."""
        await self._change("delete", context, identity)

    async def _change(self, action: str, context: Context, identity: str, *data: Mapping[str, Any]) -> Any:
        async with self._resource.transaction(context):
            before = await self._resource.retrieve(context, identity)
            if isinstance(before, Mapping):
                # The action may change the very object that it gave.
                before = {**before}
            after = await getattr(self._resource, action)(context, identity, *data)
            await self.tell(context, Change(action, identity, before, after))
        return after

    async def tell(self, context: Context, *changes: Change, indexed: bool = False) -> None:
        """Call the hooks for what was done in the transaction of `context`, which one of them may refuse."""
        if self.is_asked:
            for index, change in enumerate(changes):
                try:
                    await self._resource.before_commit(context, change)
                except ApiError as error:
                    raise (error.within(index) if indexed else error) from None
        if self.is_told:
            act = partial(self._resource.after_commit, context)
            context.after_commit(lambda: self._aftermath.begin(self._resource.name, act, changes))


def around(resource: Resource) -> Hooked | None:
    """Return what calls the hooks of `resource`; None for one that has none, and so need not pay for them."""
    hooked = Hooked(resource)
    return hooked if hooked.is_asked or hooked.is_told else None


def _made(item: Any) -> Change:
    return Change("create", id_of(item), None, item)
