"""`pegboard serve --reload`: new code is served without failing requests, and errors wait for a fix."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from aiohttp import encode_basic_auth

from pegboard.postgres.embedded import dsn_of
from tests.cli.test_cli import SCRIPT, Service, environment, pegboard
from tests.projects import HEAD

PASSWORD = "a long password"
BOOKS = """
class Book(Schema):
    title = fields.String(required=True)


class Books(TableResource):
    '''First edition.'''

    schema = Book
    verbs = "GET",
"""


def install(site: Path, name: str) -> Path:
    info = site / f"pegboard_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: pegboard-{name}\nVersion: 1.0\n")
    package = site / f"pegboard_{name}"
    package.mkdir()
    (package / "__init__.py").write_text(HEAD + BOOKS)
    # Written last, so that everything exists once the plugin is discovered.
    (info / "entry_points.txt").write_text(f"[pegboard.resources]\n{name} = pegboard_{name}:Books\n")
    return package


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    install(site, "books")
    return site


@pytest.fixture(scope="module")
def service(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        service = Service(tmp_path_factory.mktemp("service") / "data", "--reload", admin_password=PASSWORD)
    yield service
    [serving] = service.children()
    assert service.end(signal.SIGTERM) == 0
    assert not serving.is_running()
    assert not (service.folder / "postgres/postmaster.pid").exists()


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def summary(service: Service, name: str = "books") -> str | None:
    resources = service.request("GET", "/", PASSWORD)[1]["resources"]
    return next((resource["summary"] for resource in resources if resource["name"] == name), None)


def shows(service: Service, edition: str) -> bool:
    return summary(service) == edition


def postmaster(service: Service) -> str:
    return (service.folder / "postgres/postmaster.pid").read_text().splitlines()[0]


def test_new_code_is_served_without_failing_requests(service: Service, site: Path) -> None:
    failed: list[BaseException] = []
    over = Event()

    def ask() -> None:
        while not over.is_set():
            connection = HTTPConnection("127.0.0.1", service.port, timeout=30)
            try:
                connection.request("GET", "/books", headers={"Authorization": encode_basic_auth("admin", PASSWORD)})
                # Until its plugins are mounted, a starting service responds with 503.
                if connection.getresponse().status not in (200, 503):
                    raise HTTPException("another response")
            except (OSError, HTTPException) as error:
                failed.append(error)
            finally:
                connection.close()

    asking = Thread(target=ask)
    asking.start()
    database = postmaster(service)
    try:
        for edition in ("Other edition.", "Third edition."):
            (site / "pegboard_books/__init__.py").write_text(HEAD + BOOKS.replace("First edition.", edition))
            wait_until(partial(shows, service, edition))
    finally:
        over.set()
        asking.join()
    assert failed == []
    assert postmaster(service) == database


def test_an_error_is_shown_until_it_is_fixed(service: Service, site: Path) -> None:
    module = site / "pegboard_books/__init__.py"
    sound = module.read_text()
    module.write_text(sound + "def broken(:\n")
    service.wait_for_line(re.compile(r"cannot be loaded: SyntaxError: .* line \d+"), lambda: service.err)
    assert service.request("GET", "/contacts", PASSWORD)[0] == 200
    module.write_text(sound)
    wait_until(lambda: service.request("GET", "/books", PASSWORD)[0] == 200)


def test_any_changed_file_of_a_plugin_triggers_a_reload(service: Service, site: Path) -> None:
    (site / "pegboard_books/page.html").write_text("<p>")
    service.wait_for_line(re.compile(r"Restarting: .*/page\.html has changed"), lambda: service.err)


def test_a_newly_installed_plugin_is_mounted(service: Service, site: Path) -> None:
    install(site, "films")
    wait_until(lambda: summary(service, "films") == "First edition.")


def test_reload_requires_a_single_process(tmp_path: Path) -> None:
    code, _, err = pegboard(tmp_path / "data", "serve", "--reload", "--workers", "2")
    assert (code, "Error: --reload cannot be combined with --workers." in err) == (2, True)


def test_reload_waits_for_a_change_if_the_service_cannot_start(service: Service, tmp_path: Path) -> None:
    stderr = tmp_path / "stderr"
    asked = environment(service.folder, plugins_required="nothing", database_url=dsn_of(service.folder) or "")
    with stderr.open("wb") as err:
        process = subprocess.Popen(
            [SCRIPT, "serve", "--port", "0", "--reload"], env=asked, stdout=subprocess.DEVNULL, stderr=err
        )
    wait_until(lambda: "waiting for a change" in stderr.read_text())
    assert "a required plugin is not available: nothing: not installed" in stderr.read_text()
    process.terminate()
    assert process.wait(30) == 0
