"""The layers of the core, and their imports."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pegboard

ROOT = Path(pegboard.__file__).parent

LAYERS = (
    "errors, rendering, uuid7, values",
    "settings",
    "http",
    "postgres",
    "auth",
    "schema",
    "query",
    "migrations",
    "api",
    "hosting",
    "telemetry",
    "endpoints",
    "middlewares, docs",
    "app",
    "running",
    "workers",
    "testing",
    "cli",
)
"""Packages and standalone modules, from the lowest to the highest; those of one line do not import each
other. Within a package, imports have no cycles."""
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names.split(", ")}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
}


def imports(path: Path) -> set[str]:
    """Return the core modules that a module imports, by their names below `pegboard`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "pegboard":
            below = node.module.partition(".")[2]
            for alias in node.names:
                name = f"{below}.{alias.name}".removeprefix(".")
                found.add(name if name in MODULES else below)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("pegboard.") for alias in node.names if alias.name.startswith("pegboard.")
            }
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            # A literal name counts as an import; only the name of a plugin's package is dynamic.
            assert not (isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("pegboard")), path
    return found - {""}


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
