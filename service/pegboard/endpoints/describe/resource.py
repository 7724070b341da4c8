"""The endpoints of a resource: its verbs on the collection, on an item and on the client's own item."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pegboard import errors
from pegboard.api.actions import COLLECTION_ACTIONS, ITEM_ACTIONS
from pegboard.auth import clients
from pegboard.endpoints import export
from pegboard.endpoints.describe import errors as endpoint_errors
from pegboard.endpoints.describe import parameters
from pegboard.endpoints.describe.declaration import Declaration
from pegboard.endpoints.describe.examples import IDENTITY, NOTHING, example
from pegboard.endpoints.describe.json_fields import ref
from pegboard.endpoints.describe.json_schemas import Names, Schemas, id_schema
from pegboard.endpoints.describe.service import show_allowed
from pegboard.endpoints.endpoint import ANY_CLIENT, PUBLIC, Access, Body, Endpoint, Media, Parameter, ResponseSpec
from pegboard.endpoints.write import JSON_PATCH, MAX_ITEMS, MERGE_PATCH
from pegboard.errors import ApiError, ErrorDetail
from pegboard.hosting.bulkheads import Bulkhead
from pegboard.http.negotiation import JSON
from pegboard.http.request import VERBS
from pegboard.rendering import dumps
from pegboard.schema.loading import Loader

_SUMMARIES: Mapping[str, tuple[str, str]] = {
    "list": ("List {many}", "A page of items, or all of them as a stream of NDJSON or CSV if `Accept` requests it."),
    "create": ("Create {one}", "Creates one item."),
    "retrieve": ("Retrieve {one}", "Returns one item, with its entity tag."),
    "replace": ("Replace {one}", "Replaces the item: an omitted field gets its default."),
    "update": (
        "Change {one}",
        "Changes only the fields in the body, or applies a JSON Patch completely or not at all.",
    ),
    "delete": ("Delete {one}", "Deletes the item; deleting it again is a 404."),
    "options": ("See what is allowed on {what}", "Names the methods in `Allow`, and the kinds of patches."),
}
_HEAD = "Read the headers of {what}", "The headers of the response to GET, without its body."
_SEVERAL = f"Creates one item, or from an array of at most {MAX_ITEMS:,} all of the items or none."


class ResourceEndpoints:
    """Describe the endpoints of one resource; `guard` will call their handlers."""

    def __init__(self, declared: Declaration, names: Names, schemas: Schemas, guard: Bulkhead) -> None:
        self._declared = declared
        self._resource = declared.resource
        self._name = declared.name
        self._names = names
        self._schemas = schemas
        self._guard = guard
        self._noun = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", names.item).lower()

    def endpoints(self) -> Iterator[Endpoint]:
        """Yield the endpoints of the collection, of an item and of the client's own item."""
        yield from self._at(COLLECTION_ACTIONS, f"/{self._name}", "", self._declared.verbs)
        yield from self._at(ITEM_ACTIONS, f"/{self._name}/{{id}}", "item.", self._declared.verbs)
        yield from self._at(ITEM_ACTIONS, f"/{self._name}/me", "me.", self._resource.me)

    def _at(self, actions: Mapping[str, str], path: str, level: str, verbs: Sequence[str]) -> Iterator[Endpoint]:
        available = [verb for verb in VERBS if verb in verbs and actions.get(verb) in self._declared.actions]
        for verb in available:
            yield self._endpoint(verb, actions[verb], path, level)
        if available:
            yield self._options(path, level, f"{self._name}.{level}options", accept_patch="PATCH" in available)

    def _endpoint(self, verb: str, action: str, path: str, level: str) -> Endpoint:
        title, about = _HEAD if verb == "HEAD" else _SUMMARIES[action]
        if action == "create" and self._declared.takes_arrays:
            about = _SEVERAL
        access = self._access(verb, level)
        if access.public:
            about += " It needs no credentials."
        codes = (
            *endpoint_errors.CONNECTION,
            *endpoint_errors.CREDENTIALS,
            *endpoint_errors.ACTIONS[action],
            *self._declared.error_codes,
        )
        if self._resource.needs_match and verb in ("PUT", "PATCH", "DELETE"):
            codes = (*codes, errors.PreconditionRequired)
        invalid = self._invalid(action)
        extra = any(code not in errors.CATALOGUE for code in codes)
        taken, body, replies = _DESCRIBED[action](self, level)
        return Endpoint(
            method=verb,
            path=path,
            handler=partial(self._guard.call, "me." + action if level == "me." else action),
            plugin=self._name,
            access=access,
            name=f"{self._name}.{level}{'head' if verb == 'HEAD' else action}",
            action=action,
            summary=self._summary(title, level),
            description=about,
            body=body,
            responses=replies,
            errors=codes,
            parameters=(*self._path_parameters(path), *taken),
            invalid=invalid,
            errors_of=f"{self._name}.{action}" if extra or invalid else action,
        )

    def _access(self, verb: str, level: str) -> Access:
        if level == "me.":
            return ANY_CLIENT
        if verb in self._declared.public_verbs:
            return PUBLIC
        return Access(grants=(clients.sufficient_grants(self._name, verb),))

    def _options(
        self, path: str, level: str, name: str, summary: str = "", about: str = "", *, accept_patch: bool = False
    ) -> Endpoint:
        title, usual = _SUMMARIES["options"]
        headers = ("Allow", "Accept-Patch") if accept_patch else ("Allow",)
        return Endpoint(
            method="OPTIONS",
            path=path,
            handler=show_allowed,
            plugin=self._name,
            access=ANY_CLIENT,
            name=name,
            action="options",
            summary=summary or self._summary(title, level),
            description=about or usual,
            responses=(ResponseSpec(204, "The allowed methods.", headers),),
            errors=(
                *endpoint_errors.CONNECTION,
                *endpoint_errors.CREDENTIALS,
                errors.PluginUnavailable,
                errors.NotFound,
            ),
            parameters=(*self._path_parameters(path), *parameters.headers()),
            errors_of="options",
        )

    def _summary(self, title: str, level: str) -> str:
        one = f"{'an' if self._noun[:1] in 'aeiou' else 'a'} {self._noun}"
        one = f"your own {self._noun}" if level == "me." else one
        return title.format(many=self._name, one=one, what=one if level else self._name)

    def _path_parameters(self, path: str) -> tuple[Parameter, ...]:
        if "{id}" not in path:
            return ()
        has_uuids = self._declared.has_uuids
        form = {**id_schema(self._resource), **({"examples": [IDENTITY]} if has_uuids else {})}
        about = "The item's id, in either case." if has_uuids else "The item's id."
        return (Parameter("id", "path", about, form, required=True),)

    def _invalid(self, action: str) -> Mapping[int, tuple[ErrorDetail, ...]]:
        """Return the real errors of an invalid body, by status."""
        loader = Loader(self._resource.schema)
        bad: Mapping[str, Callable[[], Any]] = {
            "create": lambda: loader.create({}),
            "replace": lambda: loader.replace({}, IDENTITY),
            "update": lambda: loader.update({"unknown": 1}, IDENTITY),
        }
        return errors_of(bad[action]) if action in bad else {}

    def _list(self, _: str) -> Described:
        item = self._example(self._names.item)
        has_example = item is not NOTHING
        page = {"items": [item], "next": None, "prev": None} if has_example else NOTHING
        lines = {"type": "string", "description": f"A line of JSON for each `{self._names.item}`."}
        records = {"type": "string", "description": "A header and a record for each item (RFC 4180)."}
        content = {
            JSON: Media(ref(self._names.page), page),
            export.NDJSON: Media(lines, dumps(item).decode() + "\n" if has_example else NOTHING),
            export.CSV: Media(records, _csv(item) if has_example else NOTHING),
        }
        headers = ("ETag", "Link", "X-Total-Count")
        taken = (
            *parameters.of_collection(self._name, self._declared.rules),
            *parameters.headers(*parameters.READING),
        )
        found = ResponseSpec(200, "A page of the collection, or all of it.", headers, content)
        return taken, None, (found, ResponseSpec(304, "The page has not changed.", headers))

    def _retrieve(self, _: str) -> Described:
        unchanged = ResponseSpec(304, "The item has not changed.", ("ETag", "Last-Modified"))
        return self._item_parameters(parameters.READING), None, (self._item(200, "The item."), unchanged)

    def _create(self, _: str) -> Described:
        body, made = ref(self._names.create), ref(self._names.item)
        value, shown = self._example(self._names.create, reading=False), self._example(self._names.item)
        bodies, replies = _examples("one", "One item.", value), _examples("one", "One item.", shown)
        if self._declared.takes_arrays:
            body = {"anyOf": [body, {"type": "array", "items": body, "minItems": 1, "maxItems": MAX_ITEMS}]}
            made = {"anyOf": [made, ref(self._names.items)]}
            if value is not NOTHING and shown is not NOTHING:
                bodies |= _examples("several", "Several at once.", [value])
                replies |= _examples("several", "Several at once.", {"items": [shown]})
        headers = ("ETag", "Last-Modified", "Location", "Preference-Applied", "Idempotency-Replayed")
        reply = ResponseSpec(201, "The new item.", headers, {JSON: Media(made, examples=replies)}, self._links())
        taken = self._item_parameters(("Idempotency-Key", "Prefer"))
        return taken, Body({JSON: Media(body, examples=bodies)}), (reply,)

    def _links(self) -> dict[str, Any]:
        """Return links to the actions on a new item, by its id."""
        available = [ITEM_ACTIONS[verb] for verb in self._declared.verbs if verb in ITEM_ACTIONS]
        return {
            action: {"operationId": f"{self._name}.item.{action}", "parameters": {"id": "$response.body#/id"}}
            for action in dict.fromkeys(available)
            if action in self._declared.actions
        }

    def _replace(self, _: str) -> Described:
        value = self._example(self._names.replace, reading=False)
        replies = [self._item(200, "The changed item.", "Preference-Applied"), self._minimal()]
        if self._resource.creates_by_put:
            replies.append(self._item(201, "The new item.", "Location", "Preference-Applied"))
        body = Body({JSON: Media(ref(self._names.replace), value)})
        return self._item_parameters((*self._conditions(), "Prefer")), body, tuple(replies)

    def _update(self, level: str) -> Described:
        schema = ref(self._names.update)
        if level == "me." and self._resource.me_writable is not None:
            schema = ref(self._schemas.own_update(self._names, self._resource.me_writable))
        item = self._example(schema["$ref"].rpartition("/")[2], reading=False)
        value: Any = NOTHING
        patch: Any = NOTHING
        if item is not NOTHING and item:
            name = next(iter(item))
            value = {name: item[name]}
            patch = [{"op": "replace", "path": errors.pointer((name,)), "value": item[name]}]
        body = Body(
            {
                JSON: Media(schema, value),
                MERGE_PATCH: Media(schema, value),
                JSON_PATCH: Media(ref("JsonPatch"), patch),
            }
        )
        replies = (self._item(200, "The changed item.", "Preference-Applied"), self._minimal())
        return self._item_parameters((*self._conditions(), "Prefer")), body, replies

    def _delete(self, _: str) -> Described:
        return self._item_parameters(self._conditions()), None, (ResponseSpec(204, "The item is deleted."),)

    def _item_parameters(self, headers: Sequence[str]) -> tuple[Parameter, ...]:
        return (*parameters.of_item(self._name, self._declared.rules), *parameters.headers(*headers))

    def _conditions(self) -> tuple[str, ...]:
        return parameters.conditions(needed=self._resource.needs_match)

    def _item(self, status: int, about: str, *headers: str) -> ResponseSpec:
        content = {JSON: Media(ref(self._names.item), self._example(self._names.item))}
        return ResponseSpec(status, about, ("ETag", "Last-Modified", *headers), content)

    def _minimal(self, *headers: str) -> ResponseSpec:
        headers = ("ETag", "Last-Modified", "Preference-Applied", *headers)
        return ResponseSpec(204, "Done; there is no body because of `Prefer: return=minimal`.", headers)

    def _example(self, component: str, *, reading: bool = True) -> Any:
        return example(ref(component), self._schemas.components, reading=reading)


Described = tuple[tuple[Parameter, ...], Body | None, tuple[ResponseSpec, ...]]
"""The parameters, the body and the responses of an action."""

_DESCRIBED: Mapping[str, Callable[[ResourceEndpoints, str], Described]] = {
    "list": ResourceEndpoints._list,
    "create": ResourceEndpoints._create,
    "retrieve": ResourceEndpoints._retrieve,
    "replace": ResourceEndpoints._replace,
    "update": ResourceEndpoints._update,
    "delete": ResourceEndpoints._delete,
}


def errors_of(load: Callable[[], Any]) -> dict[int, tuple[ErrorDetail, ...]]:
    """Return the errors that `load` raises for a body, by status."""
    try:
        load()
    except ApiError as error:
        return {error.status: error.details}
    except Exception:
        # An exception of an author's hook is not an example.
        return {}
    return {}


def _examples(name: str, summary: str, value: Any) -> dict[str, tuple[str, Any]]:
    return {} if value is NOTHING else {name: (summary, value)}


def _csv(item: Mapping[str, Any]) -> str:
    return (export.record(tuple(item)) + export.record(tuple(item.values()))).decode()
