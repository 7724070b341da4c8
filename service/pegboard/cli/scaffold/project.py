"""A new plugin's folder: which files it has, and what they say of its name."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from pegboard.hosting.discovery import name_problem

_FILES = {
    ".github/workflows/test.yml": "workflow.yml",
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "src/{package}/__init__.py": "package.py",
    "src/{package}/py.typed": None,
    "tests/test_{module}.py": "tests.py",
}
"""The files of a plugin and the templates they are made from; None for an empty one."""

# What the files import, and the keywords that are written like classes.
_TAKEN = frozenset({"Client", "Conformance", "False", "None", "Schema", "TableResource", "True"})


class ScaffoldError(Exception):
    """Say in one line why a plugin's folder cannot be made."""


def make(name: str, parent: Path) -> Path:
    """Make the folder `pegboard-NAME` in `parent` and return it: all of it or, with `ScaffoldError`, nothing."""
    mistake = name_problem(name)
    if mistake is not None or not name[-1].isalnum():
        raise ScaffoldError(mistake or f"the name {name!r} is not valid for a package: it ends with {name[-1]!r}")
    words = _words(name)
    folder = parent / words["distribution"]
    begun = parent / f".{folder.name}.begun"
    if folder.exists() or folder.is_symlink():
        raise ScaffoldError(f"{folder} already exists")
    try:
        begun.mkdir()
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be created: {error.strerror}: {error.filename}") from error
    try:
        for path, template in _FILES.items():
            file = begun / path.format_map(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_text(template, words), encoding="utf-8", newline="\n")
        begun.rename(folder)
    except OSError as error:
        shutil.rmtree(begun, ignore_errors=True)
        raise ScaffoldError(f"{folder} cannot be created: {error.strerror}: {error.filename}") from error
    return folder


def _text(template: str | None, words: dict[str, str]) -> str:
    if template is None:
        return ""
    source = files("pegboard.cli.scaffold") / "templates" / f"{template}.template"
    return Template(source.read_text(encoding="utf-8")).substitute(words)


def _words(name: str) -> dict[str, str]:
    module = name.replace("-", "_")
    resource = "".join(part.capitalize() for part in module.split("_"))
    return {
        "name": name,
        "module": module,
        "distribution": f"pegboard-{name}",
        "package": f"pegboard_{module}",
        "resource": f"{resource}Resource" if resource in _TAKEN else resource,
        "item": _item(resource),
        "versions": _versions(version("pegboard")),
    }


def _item(resource: str) -> str:
    """Return what one of several is called, as well as can be told without a dictionary."""
    if resource.endswith("ies"):
        item = f"{resource[:-3]}y"
    elif resource.endswith("s") and not resource.endswith(("ss", "us", "is")):
        item = resource[:-1]
    else:
        item = f"{resource}Item"
    return f"{item}Item" if item in _TAKEN or len(item) < 2 else item


def _versions(release: str) -> str:
    """Return the versions that a plugin made for `release` goes with: below 1.0 each minor one may break it."""
    major, minor = (int(part) for part in release.split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
