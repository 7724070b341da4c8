"""The ten most common errors of plugin authors, each reported in one short line with its location and fix."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pegboard.api.declared import table_spec
from pegboard.hosting.checks.declaration import problem
from pegboard.hosting.discovery import discover
from tests import projects
from tests.conftest import Api, Serve, plugin
from tests.hosting.test_bulkheads import wait_until
from tests.hosting.test_declaration import declared
from tests.hosting.test_overrides import PRELUDE
from tests.installed import VALID, Site, only, site

__all__ = ("site",)

STARTUP: list[tuple[str, str, str]] = [
    ("Thinks", VALID, "has no Thinks: did you mean Things? Correct the entry point and install again"),
    ("Books", VALID, "has no Books: correct the entry point and install again"),
    ("Things", "import {package}.other\n" + VALID, "a circular import: move it into the function that needs it"),
    (
        "Things",
        VALID + "    async def update(self, context, data): return {{}}\n",
        "the action update has the wrong parameters: write async def update(self, context, id, data)",
    ),
    (
        "Things",
        VALID.replace("schema = Thing", "schema = Thing()"),
        "set schema to a subclass of pegboard.Schema, not to an instance: schema = Thing",
    ),
    (
        "Things",
        VALID + "    async def before_commit(self, change): ...\n",
        "before_commit has the wrong parameters: write async def before_commit(self, context, change)",
    ),
]


@pytest.mark.parametrize(("target", "code", "message"), STARTUP)
def test_an_error_at_startup_has_its_location_and_fix(site: Site, target: str, code: str, message: str) -> None:
    package = site.install("pegboard-wrong", "", "wrong", target=target)
    folder = site.folder / package
    (folder / "__init__.py").write_text(code.format(package=package) if "{package}" in code else code)
    (folder / "other.py").write_text(f"from {package} import Things\n")
    error = only(discover(site.points())).error
    assert error is not None
    assert message in error
    assert len(error) < 300


def test_two_plugins_of_one_name_are_reported_with_both_fixes(site: Site) -> None:
    site.install("pegboard-one", VALID, "things")
    site.install("pegboard-two", VALID, "things")
    for found in discover(site.points()):
        assert found.error is not None
        assert "2 distributions claim the name 'things'; uninstall all but one, or mount the new one by" in found.error
        assert len(found.error) < 300


def test_an_entry_point_that_was_added_without_reinstalling_is_reported(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        '[project]\nname = "pegboard-things"\n[project.entry-points."pegboard.resources"]\nthings = "things:Things"\n'
    )
    (site.folder / "pyproject.toml").write_text(lines)
    monkeypatch.chdir(site.folder)
    result = projects.Site(site.folder, monkeypatch).pegboard("check")
    assert result.exit_code == 1
    message = "things: pyproject.toml declares things = 'things:Things', which is not installed: run pip install -e ."
    assert message in result.stderr.splitlines()


RUNNING = f"""{PRELUDE}
import time

class Things(Table):
    verbs = "GET", "POST", "PUT"
    async def create(self, context, data):
        if data["name"] == "blocks": time.sleep(0.5)
        if data["name"] == "not awaited": return super().create(context, data)
        if data["name"] == "nothing": return None
        if data["name"] == "another": return {{"name": 1}}
        return await super().create(context, data)
    async def before_commit(self, context, change):
        if change.after["name"] == "hook": raise LookupError("a hook")
"""


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    return await serve([plugin("things", declared(RUNNING), package="pegboard_things")], plugin_blocking=0.2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not awaited", "an action returned a coroutine: await it, as in return await super().create("),
        ("nothing", "an action returned None: return the item"),
        ("another", "an action returned {'name': 1}: return the item that super() returned"),
        ("hook", "a hook"),
    ],
)
async def test_an_error_in_a_request_is_logged_with_its_fix(
    api: Api, caplog: pytest.LogCaptureFixture, name: str, message: str
) -> None:
    response = await api.post("/things", {"name": name})
    assert (response.status, response.errors) == (500, [(15000, None)])
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().endswith("failed in things")
    assert record.exc_info is not None
    assert message in str(record.exc_info[1])


async def test_a_blocking_call_is_logged_with_its_location(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    response: Any = await api.post("/things", {"name": "blocks"})
    assert response.status == 201
    await wait_until(lambda: any("blocks" in message for message in caplog.messages))
    [message] = [message for message in caplog.messages if "blocks" in message]
    assert "things" in message
    assert len(message.partition("\n")[0]) < 300


NESTED_PASSWORDS = [
    "pins = fields.List(fields.Password())",
    "pins = fields.Dict(values=fields.Password())",
    "login = fields.Nested(Login)",
    "logins = fields.List(fields.Nested(Login))",
]


@pytest.mark.parametrize("line", NESTED_PASSWORDS)
def test_a_password_that_would_not_be_hashed_is_refused(line: str) -> None:
    login = "\nclass Login(Schema):\n    password = fields.Password()\n"
    item = f"{PRELUDE}{login}\nclass Item(Schema):\n    {line}\n\nclass Things(TableResource):\n    schema = Item\n"
    request = (
        f"{PRELUDE}{login}\nclass Request(Schema):\n    {line}\n\nclass Things(Table):\n"
        "    @operation(request=Request)\n    async def act(self, context, id, data): return await self.retrieve(context, id)\n"
    )
    for source in (item, request):
        assert "hashed only" in (problem(declared(source), "things") or "")


def test_the_bounds_of_a_password_are_not_those_of_its_hash() -> None:
    code = f"{PRELUDE}\nclass Item(Schema):\n    pin = fields.Password(validate=validate.Length(8, 20))\n"
    resource = declared(f"{code}\nclass Things(TableResource):\n    schema = Item\n")
    [column] = table_spec(resource, "things").columns
    assert (column.min_length, column.max_length) == (None, None)


ERROR = "    from pegboard import ApiError\n"


def test_an_error_of_another_distribution_is_not_declared(site: Site) -> None:
    owner = site.install("pegboard-owner", "from pegboard import ApiError\n" + VALID, "owners")
    (site.folder / owner / "__init__.py").write_text(
        "from pegboard import ApiError\nclass Own(ApiError, number=1, status=409, message='x'): pass\n"
        + VALID
        + "    error_codes = (Own,)\n"
    )
    site.install("pegboard-aaa", VALID + f"    from {owner} import Own\n    error_codes = (Own,)\n", "borrowers")
    plugins = {found.name: found for found in discover(site.points())}
    assert plugins["owners"].error is None
    assert plugins["borrowers"].error == (
        "the error Own belongs to pegboard-owner: raise it, but remove it from error_codes"
    )
    assert plugins["owners"].resource is not None
    assert plugins["owners"].resource.error_codes[0].code == plugins["owners"].first_code + 1


def test_two_errors_of_a_distribution_have_two_numbers(site: Site) -> None:
    errors_ = "".join(f"class {name}(ApiError, number=5, status=409, message='x'): pass\n" for name in ("One", "Two"))
    second = VALID.replace("class Things", "class Others") + "    error_codes = (Two,)\n"
    code = f"from pegboard import ApiError\n{errors_}{VALID}    error_codes = (One,)\n{second}"
    package = site.install("pegboard-things", code, "things")
    about = site.folder / f"{package}-1.2.dist-info" / "entry_points.txt"
    about.write_text(f"[pegboard.resources]\nthings = {package}:Things\nothers = {package}:Others\n")
    plugins = {found.name: found for found in discover(site.points())}
    assert plugins["others"].error is None
    assert plugins["things"].error == "the errors One and Two have the same number, 5: use another for one of them"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            VALID + ERROR + "    class Own(ApiError, code=777, status=409, message='x'): pass\n",
            "Own declares a code: declare a number from 0 to 99 instead",
        ),
        (
            VALID + "    from pegboard import errors\n    error_codes = (errors.NotFound,)\n",
            "error_codes contains NotFound, an error of the service, which needs no declaration: remove it",
        ),
        (VALID + "    async def __init__(self): pass\n", "__init__ must be a plain method: write def __init__(self)"),
    ],
)
def test_more_errors_at_startup(site: Site, code: str, message: str) -> None:
    site.install("pegboard-wrong", code, "wrong")
    assert message in (only(discover(site.points())).error or "")
