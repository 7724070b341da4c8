"""Clients of the service and their grants, as a resource of Pegboard."""

import logging
from collections.abc import Mapping
from typing import Any

from pegboard import (
    Client,
    Context,
    Schema,
    TableResource,
    Unique,
    check_grant,
    check_username,
    errors,
    validate,
)
from pegboard.schema import fields

_LAST = "The last active client that holds *:* must keep it and stay active."


class LastAdministrator(errors.Conflict, message=_LAST):
    """The change would leave no active client with all grants."""


_VERBS = r"\*|GET|POST|PUT|PATCH|DELETE"
_NAME = "[a-z][a-z0-9_-]{0,39}"
_GRANT = rf"^(\*:({_VERBS})|{_NAME}:({_VERBS}|{_NAME}))$"
"""The format that `check_grant` accepts, for the reference."""

log = logging.getLogger("pegboard.clients")


class ClientSchema(Schema):
    """One client."""

    username = fields.String(
        required=True,
        validate=check_username,
        metadata={"minLength": 1, "maxLength": 200, "pattern": r"^[^:\u0000-\u001f\u007f-\u009f]*$"},
    )
    password = fields.Password(required=True)
    grants = fields.List(
        fields.String(validate=check_grant, metadata={"pattern": _GRANT, "example": "contacts:GET"}),
        load_default=list,
        validate=validate.Length(max=1_000),
    )
    active = fields.Boolean(load_default=True)


class Clients(TableResource):
    """Clients of the service, and their grants.

    A client can assign only grants that it holds itself, and change or remove only clients whose grants it holds. At
    `/clients/me`, every client can read itself and change its own password. Every change is logged.
    """

    schema = ClientSchema
    table = "pegboard.client"
    unique = (Unique("username"),)
    constraint_errors = {"client_last_administrator": LastAdministrator}
    me = "GET", "HEAD", "PATCH"
    me_writable = ("password",)

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        """Add a client; raises `ApiError` 403 for a grant that the actor does not hold."""
        data = _without_duplicates(data)
        async with self.transaction(context):
            _check_grants(await self._actor(context), data)
            item = await super().create(context, data)
        _log_change(context, "added", item)
        return item

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a client's fields; raises `ApiError` 403 for a client or a grant that exceeds the actor's grants."""
        data = _without_duplicates(data)
        async with self.transaction(context):
            await self._check(context, id, data)
            item = await super().replace(context, id, data)
        _log_change(context, "replaced", item)
        return item

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Update a client; raises `ApiError` 403 for a client or a grant that exceeds the actor's grants."""
        data = _without_duplicates(data)
        async with self.transaction(context):
            await self._check(context, id, data)
            item = await super().update(context, id, data)
        if data:
            _log_change(context, f"{', '.join(data)} set", item)
        return item

    async def delete(self, context: Context, id: str) -> None:
        """Remove a client; raises `ApiError` 403 for one that exceeds the actor's grants."""
        async with self.transaction(context):
            item = await self._check(context, id, {})
            await super().delete(context, id)
        _log_change(context, "removed", item)

    async def _check(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the client, locked; raise `ApiError` unless the actor may make this change."""
        item = await self.retrieve(context, id)
        actor = await self._actor(context)
        if not all(actor.holds(grant) for grant in item["grants"]):
            raise errors.Forbidden("This client holds a grant that you do not hold.")
        _check_grants(actor, data)
        return item

    async def _actor(self, context: Context) -> Client:
        """Return the current state of the requesting client, as the cached one may be a second old."""
        try:
            item = await self.retrieve(context.without_locks(), context.client.id)
        except errors.NotFound:
            raise errors.Forbidden from None
        return Client(item["id"], item["username"], frozenset(item["grants"]) if item["active"] else frozenset())


def _check_grants(actor: Client, data: Mapping[str, Any]) -> None:
    """Raise `ApiError` 403 with a pointer to every grant that `actor` does not hold."""
    not_held = [index for index, grant in enumerate(data.get("grants", ())) if not actor.holds(grant)]
    if not_held:
        raise errors.Forbidden(details=tuple(_not_held(index) for index in not_held))


def _not_held(index: int) -> errors.ErrorDetail:
    message = "You can assign only grants that you hold yourself."
    return errors.ErrorDetail(errors.Forbidden.code, message, errors.pointer(("grants", index)))


def _without_duplicates(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `data` without duplicate grants."""
    return {**data, "grants": list(dict.fromkeys(data["grants"]))} if "grants" in data else data


def _log_change(context: Context, change: str, item: Mapping[str, Any]) -> None:
    """Log a change after its commit."""
    names = repr(item["username"]), repr(context.client.username)
    context.after_commit(lambda: log.info("client %s: user=%s by=%s request=%s", change, *names, context.request_id))
