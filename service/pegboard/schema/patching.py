"""Patches: JSON merge patch (RFC 7396) and JSON Patch (RFC 6902) over plain JSON values."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.schema.hidden import Shown

_INDEX = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_ESCAPE = re.compile(r"~(?![01])")

MAX_OPERATIONS = 1_000
_MAX_COPIED = 100_000

Steps = tuple[str, ...]
Operation = Mapping[str, Any]


def merge(target: Any, patch: Any) -> Any:
    """Return `target` changed by the merge patch `patch` (RFC 7396); neither is altered."""
    if not isinstance(patch, dict):
        return patch
    merged = copy.copy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None and isinstance(target, Shown) and target.resets(key):
            merged[key] = None
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def operations(patch: Any) -> list[Operation]:
    """Return the operations of the JSON Patch `patch` (RFC 6902) for `apply`.

    Raises `ApiError`: 400 with a pointer for a malformed patch, 413 for one with too many operations.
    """
    if not isinstance(patch, list):
        raise errors.InvalidBody("A JSON Patch must be a list of operations.", pointer="")
    if len(patch) > MAX_OPERATIONS:
        raise errors.BodyTooLarge(f"A JSON Patch can contain at most {MAX_OPERATIONS} operations.")
    return errors.gather(*(partial(_parse, index, entry) for index, entry in enumerate(patch)))


def targets(patch: Sequence[Operation]) -> list[tuple[int, str]]:
    """Return what `patch` would change: pairs of an operation's index and a member of the document, or "" for all."""
    members = {"test": (), "move": ("from", "path")}
    return [
        (index, entry[member][1] if len(entry[member]) > 1 else "")
        for index, entry in enumerate(patch)
        for member in members.get(entry["op"], ("path",))
    ]


def apply(document: Any, patch: Sequence[Operation]) -> Any:
    """Return a copy of `document` with all operations applied in order; `document` itself is not changed.

    Raises `ApiError`: 409 for a failed `test` or a missing path, 413 for too many copied values, 422 for values that
    are nested too deeply.
    """
    root = {"": copy.deepcopy(document)}
    copied = 0
    for index, entry in enumerate(patch):
        try:
            if entry["op"] == "copy":
                copied += _size(_get(root, entry["from"]))
                _check_copied(copied)
            _OPERATIONS[entry["op"]](root, entry)
        except (LookupError, ValueError) as error:
            detail = str(error.args[0]) if isinstance(error, ValueError) else "the path does not exist"
            message = f"The operation {entry['op']} failed: {detail}."
            raise errors.PatchConflict(message, pointer=f"/{index}") from None
        except RecursionError:
            raise errors.InvalidValue("The patch is nested too deeply.", pointer=f"/{index}") from None
    return root.get("")


def _parse(index: int, entry: Any) -> Operation:
    """Return an operation with all required members and its paths split into steps."""

    def malformed(message: str, member: str = "") -> ApiError:
        return errors.InvalidBody(message, pointer=f"/{index}{member}")

    if not isinstance(entry, dict):
        raise malformed("An operation must be an object.")
    name = entry.get("op")
    if not isinstance(name, str) or name not in _OPERATIONS:
        raise malformed(f"op must be one of {', '.join(_OPERATIONS)}.", "/op")
    operation = dict(entry)
    for member in ("path", "from") if name in ("move", "copy") else ("path",):
        text = entry.get(member)
        if not isinstance(text, str) or (text and not text.startswith("/")) or _ESCAPE.search(text):
            raise malformed(f"{member} must be a JSON Pointer (RFC 6901).", f"/{member}")
        operation[member] = tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/"))
    if name in ("add", "replace", "test") and "value" not in entry:
        raise malformed(f"{name} needs a value.", "/value")
    if name == "move" and operation["path"][: len(operation["from"])] == operation["from"] != operation["path"]:
        raise malformed("A value cannot be moved into itself.", "/path")
    return operation


def _get(root: Any, steps: Steps) -> Any:
    for step in steps:
        root = root[_index(root, step)] if isinstance(root, list) else _member(root, step)
    return root


def _member(holder: Any, step: str) -> Any:
    if not isinstance(holder, dict):
        raise KeyError(step)
    return holder[step]


def _index(holder: list[Any], step: str, *, end: int | None = None) -> int:
    if not _INDEX.fullmatch(step) or int(step) >= (len(holder) if end is None else end):
        raise IndexError(step)
    return int(step)


def _add(root: Any, steps: Steps, value: Any) -> None:
    holder, last = _get(root, steps[:-1]), steps[-1]
    if isinstance(holder, list):
        holder.insert(len(holder) if last == "-" else _index(holder, last, end=len(holder) + 1), value)
    elif isinstance(holder, dict):
        holder[last] = value
    else:
        raise KeyError(last)


def _remove(root: Any, steps: Steps) -> Any:
    holder, last = _get(root, steps[:-1]), steps[-1]
    if isinstance(holder, list):
        return holder.pop(_index(holder, last))
    _member(holder, last)
    return holder.pop(last)


def _replace(root: Any, entry: Operation) -> None:
    holder, last = _get(root, entry["path"][:-1]), entry["path"][-1]
    _get(holder, (last,))
    holder[_index(holder, last) if isinstance(holder, list) else last] = entry["value"]


def _size(value: Any) -> int:
    if isinstance(value, Shown):
        return 1 + sum(map(_size, (*value.values(), *value.hidden.values())))
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _check_copied(copied: int) -> None:
    """Reject a patch whose repeated copies would exhaust the memory."""
    if copied > _MAX_COPIED:
        raise errors.BodyTooLarge(f"A JSON Patch can copy at most {_MAX_COPIED} values.")


def _test(root: Any, entry: Operation) -> None:
    if not same(_get(root, entry["path"]), entry["value"]):
        raise ValueError("the value there is different")


_OPERATIONS: Mapping[str, Callable[[Any, Operation], Any]] = {
    "add": lambda root, entry: _add(root, entry["path"], entry["value"]),
    "remove": lambda root, entry: _remove(root, entry["path"]),
    "replace": _replace,
    "move": lambda root, entry: _add(root, entry["path"], _remove(root, entry["from"])),
    "copy": lambda root, entry: _add(root, entry["path"], copy.deepcopy(_get(root, entry["from"]))),
    "test": _test,
}


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal as defined in RFC 6902 §4.6: `1` equals `1.0`, but not `true`."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)
