"""The OpenAPI document of the installed plugins, pinned by part, so that changes appear in the commit.

`python tests/docs/test_openapi_pinned.py` writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from pegboard.app import SERVICE, create_app
from pegboard.hosting import discovery
from pegboard.settings import Settings

PINNED = Path(__file__).with_name("openapi.txt")
OURS = ("clients", "companies", "contacts", "files")


def parts(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each operation and component with its name and a digest of its contents."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{path} {method} {digest(operation)}"
    for kind, components in document["components"].items():
        for name, component in components.items():
            yield f"{kind} {name} {digest(component)}"


def digest(part: Any) -> str:
    return sha256(orjson.dumps(part, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def lines() -> list[str]:
    plugins = [plugin for plugin in discovery.discover(discovery.installed()) if plugin.name in OURS]
    return list(parts(dict(create_app(Settings(), plugins)[SERVICE].specification.document())))


def test_the_document_matches_the_pinned_one() -> None:
    assert lines() == PINNED.read_text().splitlines()


if __name__ == "__main__":
    PINNED.write_text("\n".join(lines()) + "\n")
