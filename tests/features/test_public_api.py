"""What others build on, pinned: a change of it is seen here before anybody is hit by it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import pegboard
from pegboard import errors, fields, testing
from pegboard.cli import main
from pegboard.settings import SETTINGS

PINNED = Path(__file__).parent / "public_api.txt"
ADVICE = """
docs/compatibility.md says what may change in which version. If this change may be made now: tell it in CHANGELOG.md,
bring the docs up to date, and pin it by: python tests/features/test_public_api.py"""


def described() -> Iterator[str]:
    """Yield a line for everything that is pinned."""
    for package in (pegboard, testing):
        for name in sorted(package.__all__):
            yield from _of(f"{package.__name__}.{name}", getattr(package, name))
    for code in errors.CATALOGUE:
        yield f"error {code.code} {code.status}"
    for setting in SETTINGS:
        yield f"setting {setting.variable} = {setting.default}"
    yield from _command("pegboard", main)


def _of(path: str, found: Any) -> Iterator[str]:
    if isinstance(found, ModuleType):
        yield from _module(path, found)
    elif not _is_ours(found):
        yield f"{path} of {getattr(found, '__module__', '?').partition('.')[0]}"
    elif inspect.isclass(found):
        yield from _class(path, found)
    else:
        yield f"{path}{inspect.signature(found)}"


def _module(path: str, module: ModuleType) -> Iterator[str]:
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


def _class(path: str, found: type) -> Iterator[str]:
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


def _signature(found: type) -> str:
    """Return what a class is called with, where it says so itself."""
    maker = next(cls for cls in found.__mro__ if "__init__" in vars(cls))
    return str(inspect.signature(found)) if _is_ours(maker) else ""


def _is_ours(found: Any) -> bool:
    return str(getattr(found, "__module__", "")).partition(".")[0] == "pegboard"


def _command(path: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _command(f"{path} {name}", inner)
        return
    parts = (option.opts[0] for option in command.params)
    yield f"command {path} {' '.join(sorted(parts))}".rstrip()


def test_what_others_build_on_is_as_it_was() -> None:
    now, pinned = list(described()), PINNED.read_text().splitlines()
    gone, new = [line for line in pinned if line not in now], [line for line in now if line not in pinned]
    told = [f"  gone or changed: {line}" for line in gone] + [f"  new: {line}" for line in new]
    assert not told, "\n".join(("the public interface is not as it is pinned:", *told, ADVICE))
    assert now == pinned, "only the order has changed: pin it again"


if __name__ == "__main__":
    PINNED.write_text("\n".join(described()) + "\n")
    sys.exit()
