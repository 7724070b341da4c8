"""The files of a new plugin's project, and the names in them."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from pegboard.hosting.names import name_problem

_FILES = {
    ".github/workflows/test.yml": "workflow.yml",
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "src/{package}/__init__.py": "package.py",
    "src/{package}/py.typed": None,
    "tests/test_{module}.py": "tests.py",
}
"""The files of a plugin and their templates; None for an empty file."""

# The names that the files import, and the keywords in CamelCase.
_RESERVED = frozenset({"Client", "Conformance", "False", "None", "Schema", "TableResource", "True"})


class ScaffoldError(Exception):
    """Report on one line why the folder of a plugin cannot be created."""


def make(name: str, parent: Path) -> Path:
    """Create the folder `pegboard-NAME` in `parent` and return it; raises `ScaffoldError` and then creates nothing."""
    problem = name_problem(name)
    if problem is not None or not name[-1].isalnum():
        raise ScaffoldError(problem or f"the name {name!r} is not valid for a package: it ends with {name[-1]!r}")
    values = _values(name)
    folder = parent / values["distribution"]
    temporary = parent / f".{folder.name}.begun"
    if folder.exists() or folder.is_symlink():
        raise ScaffoldError(f"{folder} already exists")
    try:
        temporary.mkdir()
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be created: {error.strerror}: {error.filename}") from error
    try:
        for path, template in _FILES.items():
            file = temporary / path.format_map(values)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_text(template, values), encoding="utf-8", newline="\n")
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ScaffoldError(f"{folder} cannot be created: {error.strerror}: {error.filename}") from error
    return folder


def _text(template: str | None, values: dict[str, str]) -> str:
    if template is None:
        return ""
    source = files("pegboard.cli.scaffold") / "templates" / f"{template}.template"
    return Template(source.read_text(encoding="utf-8")).substitute(values)


def _values(name: str) -> dict[str, str]:
    module = name.replace("-", "_")
    resource = "".join(part.capitalize() for part in module.split("_"))
    return {
        "name": name,
        "module": module,
        "distribution": f"pegboard-{name}",
        "package": f"pegboard_{module}",
        "resource": f"{resource}Resource" if resource in _RESERVED else resource,
        "item": _item(resource),
        "versions": _versions(version("pegboard")),
    }


def _item(resource: str) -> str:
    """Return the singular of the name of a resource, by simple rules."""
    if resource.endswith("ies"):
        item = f"{resource[:-3]}y"
    elif resource.endswith("s") and not resource.endswith(("ss", "us", "is")):
        item = resource[:-1]
    else:
        item = f"{resource}Item"
    return f"{item}Item" if item in _RESERVED or len(item) < 2 else item


def _versions(release: str) -> str:
    """Return the versions of the core that a plugin made for `release` supports: before 1.0 minor versions break."""
    major, minor = (int(part) for part in release.split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
