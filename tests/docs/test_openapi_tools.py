"""The OpenAPI document in third-party tools: linters, client generators, and a fuzzer."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.conftest import ADMIN, PASSWORD, Api, Serve

HERE = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TOOLS = HERE / "tools"

PYTHON_CLIENT = """
import asyncio, sys
from client import AuthenticatedClient
from client.api.contacts import (
    contacts_create, contacts_item_delete, contacts_item_retrieve, contacts_item_update, contacts_list,
)
from client.models import Contact, ContactCreate, ContactPage, ContactsListCount, ContactUpdate, Errors

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token, prefix="Basic")
new = contacts_create.sync(client=client, body=ContactCreate(name="Ada", email="python@example.org"))
assert isinstance(new, Contact), new
page = contacts_list.sync(client=client, limit=1, sort="-created_at,name", name_in="Ada,Bob", count=ContactsListCount.EXACT)
assert isinstance(page, ContactPage), page
assert [one.id for one in page.items] == [new.id] and page.total == 1, page
tag = contacts_item_retrieve.sync_detailed(new.id, client=client).headers["ETag"]
changed = contacts_item_update.sync(new.id, client=client, body=ContactUpdate(phone="1"), if_match=tag)
assert isinstance(changed, Contact) and changed.phone == "1" and changed.name == "Ada", changed
stale = contacts_item_update.sync(new.id, client=client, body=ContactUpdate(phone="2"), if_match=tag)
assert isinstance(stale, Errors) and stale.errors[0].code == 13005, stale
assert contacts_item_delete.sync_detailed(new.id, client=client).status_code == 204
assert contacts_item_delete.sync_detailed(new.id, client=client).status_code == 404
print("done")
"""

TYPESCRIPT_CLIENT = """
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

const [baseUrl, token] = process.argv.slice(2);
const client = createClient<paths, "application/json">({ baseUrl, headers: { Authorization: `Basic ${token}` } });

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const made = await client.POST("/contacts", { body: { name: "Ada", email: "typescript@example.org" } });
check(made.data !== undefined && "id" in made.data, made);
const path = { id: made.data.id };
const page = await client.GET("/contacts", { params: { query: { limit: 1, sort: "-created_at", name__in: "Ada,Bob" } } });
check(page.data?.items[0]?.id === path.id, page);
const changed = await client.PATCH("/contacts/{id}", { params: { path }, body: { phone: "1" } });
check(changed.data?.phone === "1" && changed.data.name === "Ada", changed);
const refused = await client.PATCH("/contacts/{id}", { params: { path }, body: { phone: "x".repeat(41) } });
check(refused.error?.errors[0]?.code === 11006 && refused.error.errors[0].pointer === "/phone", refused);
check((await client.DELETE("/contacts/{id}", { params: { path } })).response.status === 204, "delete");
check((await client.GET("/contacts/{id}", { params: { path } })).response.status === 404, "gone");
console.log("done");
"""


@pytest.fixture(scope="session")
def tools() -> Path:
    """Install the npm packages if necessary, and return the folder of their commands."""
    commands = TOOLS / "node_modules" / ".bin"
    stamp = TOOLS / "node_modules" / ".installed"
    lock = TOOLS / "package-lock.json"
    if shutil.which("npm") is None and "CI" not in os.environ:
        pytest.skip("npm is not installed")
    with (TOOLS / "package.json").open() as lock_file:
        # One of several test processes installs them, the others wait.
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != lock.read_text():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=TOOLS, check=True)
            stamp.write_text(lock.read_text())
    return commands


@pytest.fixture(scope="module")
async def open_api(serve: Serve) -> Api:
    """Run a service with the installed plugins that trusts forwarded client addresses."""
    return await serve(trusted_proxies=(ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="module")
async def document(open_api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the document as served."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes((await open_api.get("/openapi.json")).body)
    return path


async def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    """Run a command and return its output; fail if it fails."""
    variables = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", **environment}
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, output
    return output


def token(api: Api) -> str:
    return api.headers["Authorization"].removeprefix("Basic ")


async def test_redocly_reports_no_problems(tools: Path, document: Path) -> None:
    output = await run(tools / "redocly", "lint", "--format=json", document, REDOCLY_TELEMETRY="off")
    found = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, output


async def test_spectral_reports_no_problems(tools: Path, document: Path) -> None:
    await run(tools / "spectral", "lint", "--fail-severity=hint", "--ruleset", TOOLS / "spectral.yaml", document)


async def test_a_generated_python_client_works(document: Path, open_api: Api, tmp_path: Path) -> None:
    # The generator writes failing code if a list is one of several bodies, so it is removed.
    config = tmp_path / "config.json"
    overrides = {"application/json-patch+json": "left/out", "*/*": "application/octet-stream"}
    config.write_text(json.dumps({"content_type_overrides": overrides}))
    options = ("--path", document, "--output-path", tmp_path / "client", "--meta", "none", "--config", config)
    output = await run(BIN / "openapi-python-client", "generate", *options, cwd=tmp_path)
    assert set(re.findall(r"(?:Unsupported|Invalid|Missing|Could not|Cannot).*", output)) == {
        "Unsupported content type left/out"
    }
    (tmp_path / "try.py").write_text(PYTHON_CLIENT)
    assert (await run(sys.executable, "try.py", open_api.url, token(open_api), cwd=tmp_path)).strip() == "done"


async def test_a_generated_typescript_client_works(tools: Path, document: Path, open_api: Api, tmp_path: Path) -> None:
    # Otherwise fields with a default would be required.
    await run(tools / "openapi-typescript", document, "-o", tmp_path / "api.d.ts", "--default-non-nullable=false")
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "try.ts").write_text(TYPESCRIPT_CLIENT)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--skipLibCheck")
    await run(tools / "tsc", *options, "try.ts", cwd=tmp_path)
    assert (await run("node", "try.js", open_api.url, token(open_api), cwd=tmp_path)).strip() == "done"


async def test_responses_to_schemathesis_requests_match_the_document(
    document: Path, open_api: Api, tmp_path: Path
) -> None:
    me = (await open_api.get("/clients/me")).json["id"]
    options = ("--config-file", HERE / "schemathesis.toml")
    output = await run(
        *(BIN / "schemathesis", *options, "run", f"{open_api.url}/openapi.json", "--auth", f"{ADMIN}:{PASSWORD}"),
        cwd=tmp_path,
        # Imported on its own, since an installed distribution has a package `tests`, too.
        PYTHONPATH=str(HERE),
        SCHEMATHESIS_HOOKS="schemathesis_hooks",
        PEGBOARD_TESTED_BY=me,
    )
    generated, passed = map(int, re.findall(r"(\d+) generated, (\d+) passed", output)[0])
    assert generated == passed > 1000, output
    assert (await open_api.get("/clients/me")).status == 200
