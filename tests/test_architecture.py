"""The layers of the core: what may import what."""

import ast
from pathlib import Path

import pytest

import pegboard

PACKAGE = Path(pegboard.__file__).parent

LEVELS = (
    ("errors", "rendering", "settings", "columns", "cursor"),
    (
        "query",
        "schema",
        "conditions",
        "negotiation",
        "patching",
        "payload",
        "passwords",
        "throttle",
        "embedded",
        "http",
    ),
    ("fields", "pool", "server"),
    ("database", "loading", "sql", "ddl"),
    ("clients", "resource", "inspection"),
    ("auth", "table", "routing", "discovery", "migrating"),
    ("reading", "pipeline"),
    ("writing", "system"),
    ("endpoint",),
    ("app",),
    ("cli",),
)


def level_of(name: str) -> int:
    return next(level for level, names in enumerate(LEVELS) if name in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pegboard":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pegboard."):
            found.add(node.module.split(".")[1])
    return found


MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))


def test_every_module_has_its_level() -> None:
    assert sorted(name for names in LEVELS for name in names) == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward(name: str) -> None:
    upward = {other for other in imports(PACKAGE / f"{name}.py") if level_of(other) >= level_of(name)}
    assert not upward
