"""The layers of the core, and their imports."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pegboard

ROOT = Path(pegboard.__file__).parent

LAYERS = (
    "database_urls, error_codes, errors, links, rendering, uuid7",
    "values",
    "settings",
    "http",
    "postgres",
    "auth",
    "schema",
    "query",
    "migrations",
    "api",
    "pegboard",
    "hosting",
    "telemetry",
    "endpoints",
    "middlewares, docs",
    "app",
    "running",
    "workers",
    "testing",
    "cli",
    "__main__",
)
"""Packages and standalone modules, from the lowest to the highest; those of one line do not import each
other. Within a package, imports have no cycles. `pegboard` is the interface for the authors of plugins."""
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names.split(", ")}

PACKAGE = pegboard.__name__


def name_of(path: Path) -> str:
    """Return the name of a module below `pegboard`; a package is its `__init__.py`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[-1] != "__init__" else parts[:-1]) or PACKAGE


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Return the core modules that a module imports, by their names below `pegboard`."""
    return imports_of(path.read_text(), path.parent.relative_to(ROOT.parent).parts)


def imports_of(source: str, package: tuple[str, ...]) -> set[str]:
    """Return the core modules that source text in a package imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join((*parents, *([node.module] if node.module else [])))
            for alias in node.names:
                names = f"{base}.{alias.name}", base
                found |= {next((name for name in names if name.removeprefix(f"{PACKAGE}.") in MODULES), base)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            # A literal name counts as an import; only the name of a plugin's package is dynamic.
            assert not (isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith(PACKAGE)), source
    return {name.removeprefix(f"{PACKAGE}.") for name in found if name.partition(".")[0] == PACKAGE}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import asyncio, marshmallow.fields", set()),
        ("from dataclasses import field", set()),
        ("import pegboard.api.page", {"api.page"}),
        ("import pegboard", {"pegboard"}),
        ("from pegboard import Resource", {"pegboard"}),
        ("from pegboard import Resource, errors", {"pegboard", "errors"}),
        ("from pegboard.api import page", {"api.page"}),
        ("from pegboard.api.page import Page", {"api.page"}),
        ("from pegboard.testing import Client", {"testing"}),
        ("from . import page", {"api.page"}),
        ("from .page import Page", {"api.page"}),
        ("from .. import errors, Resource", {"errors", "pegboard"}),
        ("from ..schema.ddl import Unique", {"schema.ddl"}),
        ("def later():\n    from ..schema import ddl", {"schema.ddl"}),
    ],
)
def test_imports_are_found_in_every_form(statement: str, expected: set[str]) -> None:
    assert imports_of(statement, ("pegboard", "api")) == expected


def layer_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_is_in_a_layer() -> None:
    assert {layer_of(module) for module in MODULES} == set(LAYER)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_lower_layers(module: str) -> None:
    own = layer_of(module)
    others = {layer_of(other) for other in imports(MODULES[module])} - {own}
    assert not {other for other in others if LAYER[other] >= LAYER[own]}


def test_tests_have_a_folder_for_each_package_and_one_for_features() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if any(path.glob("test_*.py"))}
    assert folders - {"features", "plugins"} <= {layer_of(module) for module in MODULES if "." in module}


@pytest.mark.parametrize("package", sorted({layer_of(module) for module in MODULES if "." in module}))
def test_there_are_no_import_cycles_within_a_package(package: str) -> None:
    within = {
        module: {other for other in imports(path) if layer_of(other) == package and other != module}
        for module, path in MODULES.items()
        if layer_of(module) == package
    }
    assert list(TopologicalSorter(within).static_order())
