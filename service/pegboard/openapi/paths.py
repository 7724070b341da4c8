"""What can be done with one resource, as OpenAPI tells it: its paths, their verbs, bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pegboard import errors
from pegboard.errors import ApiError, ErrorCode, Fault
from pegboard.openapi.answers import ACTIONS, CONNECTION, CREDENTIALS, Answers
from pegboard.openapi.examples import IDENTITY, NOTHING, example
from pegboard.openapi.fields import ref
from pegboard.openapi.parameters import READING, WRITING, Parameters
from pegboard.openapi.schemas import Names, Schemas, identity
from pegboard.rendering import dumps
from pegboard.resources import export
from pegboard.resources.reading import JSON
from pegboard.resources.resource import COLLECTION_ACTIONS, ITEM_ACTIONS, VERBS, Resource
from pegboard.resources.writing import JSON_PATCH, MERGE_PATCH, MOST_ITEMS
from pegboard.schemas import patching
from pegboard.schemas.loading import Loader

Operation = dict[str, Any]

ALWAYS = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "Vary")
"""The headers that any answer may have."""

_SUMMARIES: Mapping[str, tuple[str, str]] = {
    "list": ("List {many}", "A page of items, or all of them as a stream of NDJSON or CSV where `Accept` asks for it."),
    "create": ("Create {one}", "Makes one item."),
    "retrieve": ("Retrieve {one}", "One item, with its entity tag."),
    "replace": ("Replace {one}", "Puts a whole item in place of the one there: what is left out gets its default."),
    "update": ("Change {one}", "Changes only the fields that are given, or follows a JSON Patch as a whole."),
    "delete": ("Delete {one}", "Deletes the item; the second time there is none, which is 404."),
    "options": ("See what is allowed on {what}", "Names the methods in `Allow`, and the kinds of patches."),
}
_HEAD = "Read the headers of {what}", "The headers that GET answers with, and no body."
_SEVERAL = f"Makes one item, or from an array of at most {MOST_ITEMS:,} all of them or none."

_POINTER = {"type": "string", "pattern": "^(/([^~]|~[01])*)?$"}


def _step(about: str, operations: Sequence[str], **more: Any) -> dict[str, Any]:
    properties = {
        "op": {"type": "string", "enum": list(operations)},
        "path": {**_POINTER, "description": "Where (RFC 6901)."},
        **more,
    }
    return {"type": "object", "description": about, "properties": properties, "required": list(properties)}


PATCH: Mapping[str, Any] = {
    "type": "array",
    "description": "Operations that are done in order, all or none (RFC 6902).",
    "maxItems": patching.MOST_OPERATIONS,
    "items": {
        "anyOf": [
            _step("Puts a value in, or tests it.", ("add", "replace", "test"), value={"description": "What."}),
            _step("Takes a value away.", ("remove",)),
            _step(
                "Takes a value from elsewhere.", ("move", "copy"), **{"from": {**_POINTER, "description": "Whence."}}
            ),
        ]
    },
}
"""The schema of a JSON Patch."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold what the operations of a document share."""

    schemas: Schemas
    parameters: Parameters
    answers: Answers


class ResourcePaths:
    """Tell the paths of one resource."""

    def __init__(self, name: str, resource: type[Resource], names: Names, parts: Parts) -> None:
        self._name = name
        self._resource = resource
        self._names = names
        self._parts = parts
        self._rules = resource.rules()
        self._there = resource.actions()
        self._components = parts.schemas.components
        self._noun = _words(names.item)

    def paths(self) -> dict[str, Operation]:
        """Return what stands at each path, in the order in which they are read."""
        collection, item = self._path(COLLECTION_ACTIONS, ""), self._path(ITEM_ACTIONS, "item.")
        if item:
            item = {"parameters": [identified(self._resource)], **item}
        own = self._path({verb: ITEM_ACTIONS[verb] for verb in self._resource.me}, "me.", self._resource.me)
        found = {f"/{self._name}": collection, f"/{self._name}/{{id}}": item, f"/{self._name}/me": own}
        return {path: operations for path, operations in found.items() if operations}

    def _path(self, actions: Mapping[str, str], level: str, verbs: Sequence[str] | None = None) -> dict[str, Any]:
        declared = self._resource.verbs if verbs is None else verbs
        serving = [verb for verb in VERBS if verb in declared and actions.get(verb) in self._there]
        found = {verb.lower(): self._operation(verb, actions[verb], level) for verb in serving}
        if not found:
            return {}
        return found | {"options": self._options(level, serving)}

    def _operation(self, verb: str, action: str, level: str) -> Operation:
        operation: Operation = _DESCRIBED[action](self, level)
        title, about = _HEAD if verb == "HEAD" else _SUMMARIES[action]
        if action == "create" and hasattr(self._resource, "create_all"):
            about = _SEVERAL
        codes = (*CONNECTION, *CREDENTIALS, *ACTIONS[action], *self._resource.error_codes)
        if self._resource.needs_match and verb in ("PUT", "PATCH", "DELETE"):
            codes = (*codes, errors.PRECONDITION_REQUIRED)
        described = self._described(level + ("head" if verb == "HEAD" else action), title, about, level)
        operation["responses"] |= self._errors(action, codes)
        if verb in self._resource.public_verbs() and level != "me.":
            described["description"] += " It needs no credentials."
            operation["security"] = [{}, {"basic": []}]
        return described | operation

    def _described(self, name: str, title: str, about: str, level: str) -> Operation:
        one = f"{'an' if self._noun[:1] in 'aeiou' else 'a'} {self._noun}"
        one = f"your own {self._noun}" if level == "me." else one
        return {
            "tags": [self._name],
            "operationId": f"{self._name}.{name}",
            "summary": title.format(many=self._name, one=one, what=one if level else self._name),
            "description": about,
        }

    def _errors(self, action: str, codes: Sequence[ErrorCode]) -> dict[str, Any]:
        faults = self._faults(action)
        extra = any(code not in errors.CATALOGUE for code in codes)
        owner = f"{self._name}.{action}" if extra or faults else action
        return self._parts.answers.of(codes, owner, faults)

    def _faults(self, action: str) -> dict[int, tuple[Fault, ...]]:
        """Return what a body that is not taken is really answered with."""
        if action not in ("create", "replace", "update"):
            return {}
        loader = Loader(self._resource.schema)
        if action == "create":
            return faults_of(lambda: loader.create({}))
        if action == "replace":
            return faults_of(lambda: loader.replace({}, IDENTITY))
        return faults_of(lambda: loader.update({"unknown": 1}, IDENTITY))

    def _list(self, _: str) -> Operation:
        parameters = self._parts.parameters
        item = self._example(self._names.item)
        page = NOTHING if item is NOTHING else {"items": [item], "next": None, "prev": None}
        content = {JSON: media(ref(self._names.page), page)}
        lines = {"type": "string", "description": f"A line of JSON for each `{self._names.item}`."}
        content[export.NDJSON] = media(lines, NOTHING if item is NOTHING else dumps(item).decode() + "\n")
        records = {"type": "string", "description": "A header and a record for each item (RFC 4180)."}
        content[export.CSV] = media(records, NOTHING if item is NOTHING else _csv(item))
        found = succeed("A page of the collection, or all of it.", "ETag", "Link", "X-Total-Count", content=content)
        unchanged = succeed("The page is still as the client has it.", "ETag", "Link", "X-Total-Count")
        return {
            "parameters": [*parameters.collection(self._name, self._rules), *parameters.headers(*READING)],
            "responses": {"200": found, "304": unchanged},
        }

    def _retrieve(self, _: str) -> Operation:
        unchanged = succeed("The item is still as the client has it.", "ETag", "Last-Modified")
        return {"parameters": self._taken(READING), "responses": {"200": self._item("The item."), "304": unchanged}}

    def _create(self, _: str) -> Operation:
        body, answer = ref(self._names.create), ref(self._names.item)
        made = self._item("The new item.", "Location", "Preference-Applied", "Idempotency-Replayed")
        value, shown = self._example(self._names.create, reading=False), self._example(self._names.item)
        bodies, answers = _examples("one", "One item.", value), _examples("one", "One item.", shown)
        if hasattr(self._resource, "create_all"):
            body = {"anyOf": [body, {"type": "array", "items": body, "minItems": 1, "maxItems": MOST_ITEMS}]}
            answer = {"anyOf": [answer, ref(self._names.items)]}
            if value is not NOTHING and shown is not NOTHING:
                bodies |= _examples("several", "Several at once.", [value])
                answers |= _examples("several", "Several at once.", {"items": [shown]})
        made["content"] = {JSON: {"schema": answer} | _given(answers)}
        links = self._links()
        if links:
            made["links"] = links
        return {
            "parameters": self._taken(("Idempotency-Key", "Prefer")),
            "requestBody": {"required": True, "content": {JSON: {"schema": body} | _given(bodies)}},
            "responses": {"201": made},
        }

    def _links(self) -> dict[str, Any]:
        """Return what can be done with a new item, by its id."""
        there = [ITEM_ACTIONS[verb] for verb in VERBS if verb in self._resource.verbs and verb in ITEM_ACTIONS]
        return {
            action: {"operationId": f"{self._name}.item.{action}", "parameters": {"id": "$response.body#/id"}}
            for action in dict.fromkeys(there)
            if action in self._there
        }

    def _replace(self, _: str) -> Operation:
        value = self._example(self._names.replace, reading=False)
        answers = {"200": self._item("The item as it is now.", "Preference-Applied"), "204": self._minimal()}
        if self._resource.creates_by_put:
            answers["201"] = self._item("The new item: there was none.", "Location", "Preference-Applied")
        return {
            "parameters": self._taken((*self._conditions(), "Prefer")),
            "requestBody": {"required": True, "content": {JSON: media(ref(self._names.replace), value)}},
            "responses": answers,
        }

    def _update(self, level: str) -> Operation:
        schema = ref(self._names.update)
        if level == "me." and self._resource.me_writable is not None:
            schema = ref(self._parts.schemas.own(self._names, self._resource.me_writable))
            self._components = self._parts.schemas.components
        whole = self._example(schema["$ref"].rpartition("/")[2], reading=False)
        value: Any = NOTHING
        patch: Any = NOTHING
        if whole is not NOTHING and whole:
            name = next(iter(whole))
            value = {name: whole[name]}
            patch = [{"op": "replace", "path": errors.pointer((name,)), "value": whole[name]}]
        content = {
            JSON: media(schema, value),
            MERGE_PATCH: media(schema, value),
            JSON_PATCH: media(ref("JsonPatch"), patch),
        }
        return {
            "parameters": self._taken((*self._conditions(), "Prefer")),
            "requestBody": {"required": True, "content": content},
            "responses": {"200": self._item("The item as it is now.", "Preference-Applied"), "204": self._minimal()},
        }

    def _delete(self, _: str) -> Operation:
        gone = succeed("The item is gone.")
        return {"parameters": self._taken(self._conditions()), "responses": {"204": gone}}

    def _options(self, level: str, verbs: Sequence[str]) -> Operation:
        patches = ("Accept-Patch",) if "PATCH" in verbs else ()
        found = succeed("What is allowed here.", "Allow", *patches)
        codes = (*CONNECTION, *CREDENTIALS, errors.PLUGIN_UNAVAILABLE, errors.NOT_FOUND)
        return {
            **self._described(level + "options", *_SUMMARIES["options"], level),
            "parameters": self._parts.parameters.headers(),
            "responses": {"204": found} | self._parts.answers.of(codes, "options"),
        }

    def _taken(self, headers: Sequence[str]) -> list[Any]:
        parameters = self._parts.parameters
        return [*parameters.item(self._name, self._rules), *parameters.headers(*headers)]

    def _conditions(self) -> list[str]:
        needed = self._resource.needs_match
        return [f"{name}-Required" if needed and name == "If-Match" else name for name in WRITING]

    def _item(self, about: str, *headers: str) -> dict[str, Any]:
        content = {JSON: media(ref(self._names.item), self._example(self._names.item))}
        return succeed(about, "ETag", "Last-Modified", *headers, content=content)

    def _minimal(self) -> dict[str, Any]:
        return succeed(
            "Done; `Prefer: return=minimal` asked for no more.", "ETag", "Last-Modified", "Preference-Applied"
        )

    def _example(self, component: str, *, reading: bool = True) -> Any:
        return example(ref(component), self._components, reading=reading)


_DESCRIBED: Mapping[str, Callable[[ResourcePaths, str], Operation]] = {
    "list": ResourcePaths._list,
    "create": ResourcePaths._create,
    "retrieve": ResourcePaths._retrieve,
    "replace": ResourcePaths._replace,
    "update": ResourcePaths._update,
    "delete": ResourcePaths._delete,
}
"""How the operation of each action is told."""


def identified(resource: type[Resource]) -> dict[str, Any]:
    """Return the parameter of the path that names an item."""
    form = {**identity(resource), **({"examples": [IDENTITY]} if resource.has_uuids() else {})}
    about = "The item's id, in either case." if resource.has_uuids() else "The item's id."
    return {"name": "id", "in": "path", "required": True, "description": about, "schema": form}


def faults_of(load: Callable[[], Any]) -> dict[int, tuple[Fault, ...]]:
    """Return what is wrong with a body, by the status that it is answered with."""
    try:
        load()
    except ApiError as error:
        return {error.status: error.faults}
    except Exception:
        # What an author's own hook makes of it is not for an example to tell.
        return {}
    return {}


def succeed(about: str, *headers: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an answer that is no error."""
    told = {"description": about, "headers": {name: ref(name, "headers") for name in (*headers, *ALWAYS)}}
    return told | ({"content": dict(content)} if content else {})


def media(schema: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Return a body of one media type, with an example where there is one."""
    return {"schema": schema} | ({} if value is NOTHING else {"example": value})


def _examples(name: str, summary: str, value: Any) -> dict[str, Any]:
    return {} if value is NOTHING else {name: {"summary": summary, "value": value}}


def _given(examples: Mapping[str, Any]) -> dict[str, Any]:
    return {"examples": examples} if examples else {}


def _csv(item: Mapping[str, Any]) -> str:
    return (export.record(tuple(item)) + export.record(tuple(item.values()))).decode()


def _words(name: str) -> str:
    """Return the name of a class as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
