"""One resource over HTTP: its verbs joined to what serves them, worked out once at start."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pegboard.access import clients
from pegboard.queries.query import Rules
from pegboard.resources.idempotency import Idempotency
from pegboard.resources.operating import Operator
from pegboard.resources.reading import Reader
from pegboard.resources.resource import COLLECTION_ACTIONS, ITEM_ACTIONS, VERBS, Resource
from pegboard.resources.transfer import PLACE, Transfer
from pegboard.resources.writing import PATCHES, Writer
from pegboard.schemas.loading import parse_uuid
from pegboard.settings import Settings
from pegboard.web.http import Request, Response
from pegboard.web.routing import Handler, Mount, Place


def mount(resource: Resource, idempotency: Idempotency, settings: Settings) -> Mount:
    """Return the places of `resource`; raises `ValueError` where a field cannot be named in a URL."""
    rules = resource.rules()
    parse_id: Callable[[str], str | None] = parse_uuid
    if not resource.has_uuids():
        parse_id = resource.parse_id
        rules = rules.identified(parse_id)
    path = f"{settings.path_prefix}/{resource.name}"
    reader = Reader(resource, rules, path)
    writer = Writer(resource, rules, path, idempotency, settings.max_nesting)
    own_writer = Writer(resource, rules, path, idempotency, settings.max_nesting, resource.me_writable)
    serving: Mapping[str, Handler] = {
        "list": reader.list,
        "retrieve": reader.retrieve,
        "create": writer.create,
        "replace": writer.replace,
        "update": writer.update,
        "delete": writer.delete,
    }
    on_collection, on_item = _operations(resource, rules, writer, settings.max_nesting)
    return Mount(
        collection=_place(resource, COLLECTION_ACTIONS, serving, f"/{resource.name}"),
        item=_place(resource, ITEM_ACTIONS, serving, f"/{resource.name}/{{id}}"),
        beside=_me(resource, {"retrieve": reader.retrieve, "update": own_writer.update}) | on_collection,
        below=_content(resource, path) | on_item,
        public=frozenset(resource.public_verbs()),
        parse_id=parse_id,
    )


def _content(resource: Resource, path: str) -> dict[str, Place]:
    """Return the place of an item's content, if items have any."""
    if resource.content is None:
        return {}
    transfer = Transfer(resource, resource.content, path)
    serving: Mapping[str, Handler] = {"GET": transfer.read, "HEAD": transfer.read, "PUT": transfer.write}
    handlers = {verb: serving[verb] for verb in VERBS if verb in resource.content.verbs}
    place = Place(
        template=f"/{resource.name}/{{id}}/{PLACE}",
        plugin=resource.name,
        handlers=handlers,
        grants={verb: clients.sufficing(resource.name, verb) for verb in handlers},
    )
    return {PLACE: place}


def _operations(
    resource: Resource, rules: Rules, writer: Writer, max_nesting: int
) -> tuple[dict[str, Place], dict[str, Place]]:
    """Return the places of the declared operations, those on the collection and those on an item, by their names."""
    found: tuple[dict[str, Place], dict[str, Place]] = {}, {}
    for name, declared in resource.operations().items():
        is_below = declared.on == "item"
        operator = Operator(resource, declared, rules, writer, max_nesting)
        found[is_below][name] = Place(
            template=f"/{resource.name}/{{id}}/{name}" if is_below else f"/{resource.name}/{name}",
            plugin=resource.name,
            handlers={"POST": operator.serve},
            grants={"POST": clients.sufficing(resource.name, name)},
        )
    return found


def _me(resource: Resource, serving: Mapping[str, Handler]) -> dict[str, Place]:
    """Return the place of the client's own item, where every client may do what is declared, if there is one."""
    if not resource.me:
        return {}

    def own(handler: Handler) -> Handler:
        async def serve(request: Request, _: str) -> Response:
            return await handler(request, resource.my_id(request.client))

        return serve

    place = Place(
        template=f"/{resource.name}/me",
        plugin=resource.name,
        handlers={verb: own(serving[ITEM_ACTIONS[verb]]) for verb in VERBS if verb in resource.me},
        accept_patch=", ".join(PATCHES) if "PATCH" in resource.me else None,
    )
    return {"me": place}


def _place(
    resource: Resource, actions: Mapping[str, str], serving: Mapping[str, Handler], template: str
) -> Place | None:
    """Return the place of the declared verbs that have an action here; None where there is none."""
    there = resource.actions()
    verbs = [verb for verb in VERBS if verb in resource.verbs and actions.get(verb) in there]
    if not verbs:
        return None
    public = frozenset(resource.public_verbs()).intersection(verbs)
    return Place(
        template=template,
        plugin=resource.name,
        handlers={verb: serving[actions[verb]] for verb in verbs},
        grants={verb: clients.sufficing(resource.name, verb) for verb in verbs if verb not in public},
        accept_patch=", ".join(PATCHES) if "PATCH" in verbs else None,
        public=public,
    )
