"""Patches: JSON merge patch (RFC 7396) and JSON Patch (RFC 6902) over plain JSON values."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pegboard import errors
from pegboard.errors import ApiError

_INDEX = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_ESCAPE = re.compile(r"~(?![01])")

MOST_OPERATIONS = 1_000
_MOST_COPIED = 100_000

Steps = tuple[str, ...]
Operation = Mapping[str, Any]


def merge(target: Any, patch: Any) -> Any:
    """Return `target` changed by the merge patch `patch` (RFC 7396); neither is altered."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def operations(patch: Any) -> list[Operation]:
    """Return the operations of the JSON Patch `patch` (RFC 6902) for `apply`.

    Raises `ApiError`: 400 with a pointer for a patch that is malformed, 413 for one with too many operations.
    """
    if not isinstance(patch, list):
        raise errors.InvalidBody("A JSON Patch must be a list of operations.", pointer="")
    if len(patch) > MOST_OPERATIONS:
        raise errors.BodyTooLarge(f"A JSON Patch can contain at most {MOST_OPERATIONS} operations.")
    return errors.gather(*(partial(_checked, index, entry) for index, entry in enumerate(patch)))


def targets(patch: Sequence[Operation]) -> list[tuple[int, str]]:
    """Return what `patch` would change: operations by their index, and the members of the document; "" is all of it."""
    members = {"test": (), "move": ("from", "path")}
    return [
        (index, entry[member][1] if len(entry[member]) > 1 else "")
        for index, entry in enumerate(patch)
        for member in members.get(entry["op"], ("path",))
    ]


def apply(document: Any, patch: Sequence[Operation]) -> Any:
    """Return a copy of `document` with every operation done, in order; `document` stays as it is.

    Raises `ApiError`: 409 for a failed `test` or a missing path, 413 for copies of copies without end, 422 for what is
    nested too deep to be handled.
    """
    root = {"": copy.deepcopy(document)}
    copied = 0
    for index, entry in enumerate(patch):
        try:
            if entry["op"] == "copy":
                copied += _size(_get(root, entry["from"]))
                _limit(copied)
            _OPERATIONS[entry["op"]](root, entry)
        except (LookupError, ValueError) as error:
            detail = str(error.args[0]) if isinstance(error, ValueError) else "the path does not exist"
            message = f"The operation {entry['op']} failed: {detail}."
            raise errors.PatchConflict(message, pointer=f"/{index}") from None
        except RecursionError:
            raise errors.InvalidValue("The patch is nested too deeply.", pointer=f"/{index}") from None
    return root.get("")


def _checked(index: int, entry: Any) -> Operation:
    """Return an operation whose members are all there, its paths split into steps."""

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
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _limit(copied: int) -> None:
    """Stop a patch whose copies of copies would fill the memory."""
    if copied > _MOST_COPIED:
        raise errors.BodyTooLarge(f"A JSON Patch can copy at most {_MOST_COPIED} values.")


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


def same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are equal as RFC 6902 §4.6 has it: `1` equals `1.0`, but not `true`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)
