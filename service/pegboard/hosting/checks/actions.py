"""Checks of the verbs of a resource and the actions that serve them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pegboard.api import declared
from pegboard.api.actions import COLLECTION_ACTIONS, ITEM_ACTIONS
from pegboard.api.resource import Resource
from pegboard.http.request import VERBS
from pegboard.rendering import short

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "list": ("context",),
    "create": ("context", "data"),
    "retrieve": ("context", "id"),
    "replace": ("context", "id", "data"),
    "update": ("context", "id", "data"),
    "delete": ("context", "id"),
}
"""The parameters of each action after `self`."""

_MISNAMED: Mapping[str, str] = {
    "get": "retrieve",
    "read": "retrieve",
    "index": "list",
    "post": "create",
    "put": "replace",
    "patch": "update",
    "remove": "delete",
    "destroy": "delete",
}
"""Names of actions in other frameworks."""

_PUBLIC_VERBS = ("GET", "HEAD", "POST")
_OWN_VERBS = ("GET", "HEAD", "PATCH")


def verbs(found: type[Resource]) -> Iterator[str]:
    """Check the type and the values of `verbs`."""
    names: Any = found.verbs
    if names is None:
        if not declared.verbs(found):
            yield "it has no actions: write one, such as async def list(self, context)"
        return
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        yield 'set verbs to a tuple of strings, as in verbs = "GET", "POST", or remove it'
    for verb in names:
        if verb == "OPTIONS":
            yield "verbs contains 'OPTIONS', which the service handles itself: remove it"
        elif verb not in VERBS:
            is_lower = isinstance(verb, str) and verb.upper() in VERBS
            hint = f": write {verb.upper()!r}" if is_lower else ""
            yield f"verbs contains {short(verb)}; use only {', '.join(VERBS)}, each at most once{hint}"
    if len(set(names)) < len(names):
        yield "verbs contains a verb twice: remove one"


def signatures(found: type[Resource]) -> Iterator[str]:
    """Check that each action is a coroutine with the right parameters."""
    for name in sorted(declared.actions(found)):
        action = getattr(found, name)
        signature = f"async def {name}({', '.join(('self', *_PARAMETERS[name]))})"
        if not inspect.iscoroutinefunction(action):
            yield f"the action {name} must be a coroutine: write {signature}"
        try:
            inspect.signature(action).bind(None, *_PARAMETERS[name])
        except TypeError:
            yield f"the action {name} has the wrong parameters: write {signature}"


def implemented(found: type[Resource]) -> Iterator[str]:
    """Check that each verb has an action, and that preconditions can read the item."""
    actions = declared.actions(found)
    for verb in declared.verbs(found):
        wanted = {table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) if verb in table}
        if wanted & actions:
            continue
        near = [other for other, action in _MISNAMED.items() if action in wanted and hasattr(found, other)]
        hint = f"did you mean {_MISNAMED[near[0]]} by {near[0]}?" if near else f"write it, or remove {verb} from verbs"
        yield f"verbs contains {verb}, but there is no action {' or '.join(sorted(wanted))}: {hint}"
    writing = _writing(found)
    if writing and "retrieve" not in actions:
        subject = f"the action {ITEM_ACTIONS[writing[0]]}" if found.verbs is None else f"verbs contains {writing[0]}"
        yield f"{subject}, whose preconditions need the current item: write async def retrieve"


def unused(found: type[Resource]) -> Iterator[str]:
    """Check that each action of the author's class serves a verb."""
    served = {
        table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) for verb in declared.verbs(found) if verb in table
    }
    if _writing(found) or any(one.on == "item" for one in declared.operations(found).values()):
        served.add("retrieve")
    for name in sorted(set(vars(found)) & declared.actions(found) - served):
        yield f"the action {name} is defined, but verbs contains no verb that uses it: add one"


def _writing(found: type[Resource]) -> list[str]:
    return [verb for verb in ("PUT", "PATCH", "DELETE") if verb in declared.verbs(found)]


def creates_by_put(found: type[Resource]) -> Iterator[str]:
    """Check that items that PUT creates can be created and replaced."""
    if found.creates_by_put and not {"PUT", "POST"} <= set(declared.verbs(found)):
        yield "creates_by_put is set, but verbs does not contain both PUT and POST: add them, or remove it"


def public_and_me(found: type[Resource]) -> Iterator[str]:
    """Check that the verbs in `public` and `me` are allowed there."""
    for attribute, names, possible in (("public", found.public, _PUBLIC_VERBS), ("me", found.me, _OWN_VERBS)):
        for verb in names:
            if verb not in possible or verb not in declared.verbs(found):
                yield f"{attribute} contains {verb!r}; use only those of {', '.join(possible)} that are also in verbs"
