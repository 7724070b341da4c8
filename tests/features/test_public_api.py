"""The pinned public API: changes are noticed here before they affect anyone."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

import pegboard
from pegboard import errors, fields, testing
from pegboard.cli import main
from pegboard.settings import SETTINGS

PINNED = Path(__file__).parent / "public_api.txt"
ADVICE = """
docs/compatibility.md says what may change in which version. If this change may be made now: describe it in CHANGELOG.md,
bring the docs up to date, and pin it by: python tests/features/test_public_api.py"""

NOT_CONSTRUCTED = frozenset(
    (
        *(pegboard.Actions, pegboard.Conditions, pegboard.Connections, pegboard.Context, pegboard.Database),
        *(pegboard.EntityTags, pegboard.Filter, pegboard.Query, pegboard.Serializer, pegboard.Sort, pegboard.Upload),
        *(testing.Client, testing.Loop, testing.Response, testing.Running),
    )
)
"""The classes whose instances only the service and the testing kit create, by arguments that may change."""

LIBRARIES = frozenset((*sys.stdlib_module_names, "aiohttp", "asyncpg", "hypothesis", "marshmallow"))


def describe() -> Iterator[str]:
    """Yield a line for every part of the public API."""
    for package in (pegboard, testing):
        for name in sorted(package.__all__):
            yield from _describe(f"{package.__name__}.{name}", getattr(package, name))
    for code in errors.CATALOGUE:
        yield f"error {code.code} {code.status}"
    for setting in SETTINGS:
        yield f"setting {setting.variable} = {setting.default}"
    yield from _describe_command("pegboard", main)


def _describe(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield from _describe_module(path, value)
    elif not _is_ours(value):
        yield f"{path} of {getattr(value, '__module__', '?').partition('.')[0]}"
    elif inspect.isclass(value):
        yield from _describe_class(path, value)
    else:
        yield f"{path}{inspect.signature(value)}"


def _describe_module(path: str, module: ModuleType) -> Iterator[str]:
    if module is fields:
        for name in sorted(fields.__all__):
            kind = getattr(fields, name)
            yield f"{path}.{name}{_signature(kind) if _is_ours(kind) else ''}"
    elif module is errors:
        for name, value in sorted(vars(errors).items()):
            if isinstance(value, type) and value in errors.CATALOGUE:
                yield f"{path}.{name} = {value.code}"
    else:
        yield f"{path} of {module.__name__.partition('.')[0]}"


def _describe_class(path: str, found: type) -> Iterator[str]:
    yield f"{path}{_signature(found)}"
    names = {
        name for cls in found.__mro__ if _is_ours(cls) for name in (*vars(cls), *vars(cls).get("__annotations__", {}))
    }
    for name in sorted(name for name in names if not name.startswith("_")):
        value = inspect.getattr_static(found, name, None)
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if inspect.isfunction(value):
            yield f"{path}.{name}{inspect.signature(value)}"
        elif isinstance(value, None | bool | int | str | tuple):
            yield f"{path}.{name} = {value!r}"
        else:
            yield f"{path}.{name}"


def _signature(value: type) -> str:
    """Return the constructor signature of a class if it defines one that authors may call."""
    if value in NOT_CONSTRUCTED:
        return ""
    definer = next(cls for cls in value.__mro__ if "__init__" in vars(cls))
    return str(inspect.signature(value)) if _is_ours(definer) else ""


def _is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "pegboard"


def _describe_command(path: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _describe_command(f"{path} {name}", inner)
        return
    parts = (option.opts[0] for option in command.params)
    yield f"command {path} {' '.join(sorted(parts))}".rstrip()


def test_the_public_api_is_unchanged() -> None:
    now, pinned = list(describe()), PINNED.read_text().splitlines()
    removed, added = [line for line in pinned if line not in now], [line for line in now if line not in pinned]
    differences = [f"  gone or changed: {line}" for line in removed] + [f"  new: {line}" for line in added]
    assert not differences, "\n".join(("the public interface is not as it is pinned:", *differences, ADVICE))
    assert now == pinned, "only the order has changed: pin it again"


def signatures() -> Iterator[tuple[str, Any]]:
    """Yield every type in a public signature, with its location."""
    for package in (pegboard, testing):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) and _is_ours(value):
                yield from _signatures_of_class(f"{package.__name__}.{name}", value)
            elif inspect.isfunction(value) and _is_ours(value):
                yield from _signatures_of_function(f"{package.__name__}.{name}", value)
    for module in (errors, fields):
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                yield from _signatures_of_class(f"{module.__name__}.{name}", value)
            elif inspect.isfunction(value) and module is errors:
                yield from _signatures_of_function(f"{module.__name__}.{name}", value)


def _signatures_of_class(path: str, found: type) -> Iterator[tuple[str, Any]]:
    for base in found.__mro__:
        if not _is_ours(base):
            continue
        namespace = vars(sys.modules[base.__module__])
        for name, annotation in inspect.get_annotations(base).items():
            if not name.startswith("_"):
                yield f"{path}.{name}", eval(annotation, namespace) if isinstance(annotation, str) else annotation
        for name, value in vars(base).items():
            inner = getattr(value, "__func__", getattr(value, "fget", value))
            constructs = name == "__init__" and found not in NOT_CONSTRUCTED
            # pytest calls the tests of the suite.
            if inspect.isfunction(inner) and (constructs or not name.startswith(("_", "test_"))):
                yield from _signatures_of_function(f"{path}.{name}", inner)


def _signatures_of_function(path: str, function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    # Not that of a decorator's wrapper.
    for name, annotation in get_type_hints(inspect.unwrap(function)).items():
        yield f"{path}({name})", annotation


def classes(annotation: Any) -> Iterator[type]:
    """Yield the classes in a type."""
    if isinstance(annotation, list | tuple):
        for part in annotation:
            yield from classes(part)
    elif isinstance(annotation, TypeVar):
        yield from classes(annotation.__bound__)
    elif get_origin(annotation) is not Literal:
        yield from classes(get_args(annotation))
        origin = get_origin(annotation) or annotation
        if inspect.isclass(origin):
            yield origin


def test_every_type_in_a_public_signature_can_be_imported() -> None:
    exported = [getattr(package, name) for package in (pegboard, testing) for name in package.__all__]
    exported += [value for value in vars(errors).values() if getattr(value, "__module__", "") == errors.__name__]
    missing = {
        f"{path}: {found.__module__}.{found.__qualname__}"
        for path, annotation in signatures()
        for found in classes(annotation)
        if found not in exported and (_is_ours(found) or found.__module__.partition(".")[0] not in LIBRARIES)
    }
    assert not missing, "\n".join(sorted(missing))


if __name__ == "__main__":
    PINNED.write_text("\n".join(describe()) + "\n")
    sys.exit()
