"""The layers of the core: what may import what."""

import ast
from pathlib import Path

import pytest

import pegboard

PACKAGE = Path(pegboard.__file__).parent

LEVELS = (
    # values and rules that know nothing of each other
    (
        "columns",
        "credentials",
        "cursor",
        "embedded",
        "errors",
        "markup",
        "notices",
        "openapi_examples",
        "rendering",
        "rfc3339",
        "settings",
        "sqlfiles",
        "throttle",
        "uuid7",
    ),
    # a request and a response, a schema, a query, a session, a table: one thing each
    (
        "conditions",
        "ddl",
        "http",
        "negotiation",
        "passwords",
        "patching",
        "payload",
        "prose",
        "query",
        "schema",
        "session",
        "wording",
    ),
    ("fields",),
    (
        "alteration",
        "cors",
        "filtering",
        "listing",
        "loading",
        "logs",
        "manual",
        "openapi_fields",
        "ordering",
        "pool",
        "routing",
        "server",
        "standing",
    ),
    # what asks the database
    ("clients", "database", "inspection", "sql"),
    ("auth", "idempotency", "mapping", "migrating", "pipeline"),
    # what a plugin declares and does
    ("resource",),
    ("discovery", "expanding", "export", "referring"),
    ("frame", "table"),
    # a resource over HTTP
    ("reading", "samples"),
    ("pages", "system", "writing"),
    ("docs", "endpoint"),
    # all of it as one document
    ("openapi_errors", "openapi_parameters", "openapi_schemas"),
    ("openapi_paths",),
    ("openapi_system",),
    ("openapi",),
    ("specification",),
    # all of it together, and how it is run
    ("app",),
    ("running",),
    ("workers",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pegboard":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pegboard."):
            found.add(node.module.split(".")[1])
    return found


def test_every_module_has_one_level() -> None:
    assert sorted(name for names in LEVELS for name in names) == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward(name: str) -> None:
    upward = {other for other in imports(PACKAGE / f"{name}.py") if LEVEL[other] >= LEVEL[name]}
    assert not upward
