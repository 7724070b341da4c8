"""Many broken plugins installed next to a valid one: each fails for its own reason, and only itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pytest

from pegboard.hosting import discovery
from pegboard.hosting.discovery import State
from tests.conftest import PASSWORD, Api, Serve, new_database
from tests.installed import VALID, Site, site

__all__ = ("site",)

LOAD_TIMEOUT = 0.5  # seconds until loading a plugin times out

WILD = """
import asyncio, gc, logging.config, os, signal, socket, sys, threading, warnings
print("garbage on standard output")
logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})
logging.disable(logging.CRITICAL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
sys.excepthook = threading.excepthook = lambda *_: None
sys.setrecursionlimit(3000)
socket.setdefaulttimeout(0.001)
os.chdir("/")
gc.disable()
thread = threading.Thread(target=threading.Event().wait, args=(60,), daemon=True)
thread.start()
"""

CODE = (
    VALID + "    from pegboard import ApiError\n"
    "    error_codes = (type('Own', (ApiError,), {}, number=101, status=409, message='x'),)\n"
)

# The code of each, and the expected error.
BROKEN: dict[str, tuple[str, str]] = {
    "raises": ("\n\n1 / 0", "ZeroDivisionError: division by zero (pegboard_raises_{n}, line 3)"),
    "exits": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "spins": ("while True: sum(range(100))", "TookTooLong: it took more than 0.5 s"),
    "sleeps": ("import time; time.sleep(60)", "TookTooLong"),
    "catches": (
        "import time\nwhile True:\n    try: time.sleep(60)\n    except Exception: pass",
        "TookTooLong",
    ),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "binary": ("\x00", "null bytes"),
    "classless": (VALID.replace("name =", "1 / 0; name ="), "ZeroDivisionError"),
    "undeclared": (VALID.replace('"GET", "POST"', '"GET"'), "set verbs to a tuple"),
    "unmade": (VALID + "    def __init__(self, *_): raise SystemExit('no')\n", "it cannot be mounted: SystemExit: no"),
    "unsettled": (VALID + "    def __init__(self, *_):\n        while True: sum(range(99))\n", "TookTooLong"),
    "ruleless": (VALID + "    filterable = ('nothing',)\n", "filterable names 'nothing', which is not a field"),
    "numberless": (CODE, "the error Own has the number 101: use one from 0 to 99"),
    "leads": (
        VALID.replace("name =", 'to = fields.Reference("raises"); name ='),
        "it refers to raises.raises, which does not exist: is the plugin raises ready?",
    ),
    "health": (VALID, "the name 'health' is not valid for a resource"),
    "Odd.Name": (VALID, "the name 'Odd.Name' is not valid for a resource"),
}


@pytest.fixture
def signals() -> Iterator[None]:
    """Handle SIGINT like a service, so that a KeyboardInterrupt is raised by a plugin."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


def dist_info(site: Site, package: str) -> Path:
    return site.folder / f"{package}-1.2.dist-info"


def install_all(site: Site) -> None:
    """Install every broken plugin, each in its own distribution."""
    for name, (code, _) in BROKEN.items():
        site.install(f"pegboard-{name.lower().replace('.', '-')}", code, name)
    site.install("pegboard-unmoved", VALID, "unmoved", _0001_make="CREATE TABLE things (")
    site.install("pegboard-left", VALID, "pair")
    site.install("pegboard-right", VALID, "pair")
    # A distribution of two plugins, one of which is valid.
    half = site.install("pegboard-half", VALID + "class Broken(Things):\n    verbs = 5\n", "sound")
    with (dist_info(site, half) / "entry_points.txt").open("a") as points:
        points.write(f"half = {half}:Broken\n")
    old = site.install("pegboard-old", VALID, "old")
    with (dist_info(site, old) / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: aiohttp\nRequires-Dist: Pegboard[embedded] (<0.0.1,>=0.0.0)\n")
    garbled = site.install("pegboard-garbled", VALID, "garbled")
    (dist_info(site, garbled) / "METADATA").write_bytes(b"\xff\xfe\x00")
    nameless = site.install("pegboard-nameless", VALID, "nameless")
    (dist_info(site, nameless) / "METADATA").unlink()
    unread = site.install("pegboard-unread", VALID, "unread")
    (dist_info(site, unread) / "entry_points.txt").write_bytes(b"[pegboard.resources]\n\xff = x:y\n")


FAILED = {*BROKEN, "unmoved", "pair", "half", "old", "garbled"}


async def load(api: Api, paths: tuple[str, ...], done: asyncio.Event) -> list[int]:
    """Request the paths, one after the other, until `done` is set; return the statuses."""
    statuses = []
    while not done.is_set():
        statuses += [(await api.get(path)).status for path in paths]
        contact = {"name": "A", "email": f"{uuid4().hex}@example.com"}
        statuses.append((await api.post("/contacts", contact)).status)
    return statuses


async def test_broken_plugins_fail_without_affecting_contacts(
    site: Site, serve: Serve, postgres: str, caplog: pytest.LogCaptureFixture, signals: None
) -> None:
    install_all(site)
    own = [point for point in discovery.installed() if point.module not in site.packages]
    plugins = discovery.discover([*site.points(), *own], seconds=LOAD_TIMEOUT)
    api = await serve(plugins, database_url=await new_database(postgres), plugin_load_timeout=LOAD_TIMEOUT)
    done = asyncio.Event()
    loads = [asyncio.ensure_future(load(api, ("/contacts", "/", "/health", "/sound"), done)) for _ in range(4)]
    for name in sorted(FAILED - {"health", "Odd.Name"}) * 2:
        for method in ("GET", "POST"):
            response = await api.request(method, f"/{name}", {} if method == "POST" else None)
            assert (response.status, response.errors, response.headers["Retry-After"]) == (
                503,
                [(15002, None)],
                "60",
            ), name
    rows = (await api.get("/plugins")).json["items"]
    document = await api.get("/openapi.json")
    assert document.status == (await api.get("/errors")).status == 200
    assert (await api.get("/docs", headers={"Accept": "text/html"})).status == 200
    done.set()
    statuses = [status for gathered in await asyncio.gather(*loads) for status in gathered]
    assert set(statuses) == {200, 201}
    assert len(statuses) > 40

    states = {row["name"]: row for row in rows}
    assert {name for name, row in states.items() if row["state"] != "ready"} == FAILED
    for name, (_, error) in BROKEN.items():
        package = next((p for p in site.packages if p.startswith(f"pegboard_{name}_")), "")
        expected = error.replace("{n}", package.rpartition("_")[2])
        assert expected in states[name]["fault"], name
        assert f"plugin {name} (" in caplog.text
    assert "0001_make" in states["unmoved"]["fault"]
    assert "set verbs to a tuple" in states["half"]["fault"]
    assert states["old"]["fault"] == (
        f"it requires pegboard <0.0.1,>=0.0.0, but this is {version('pegboard')}: install a release that supports it"
    )
    assert "its metadata cannot be read" in states["garbled"]["fault"]
    assert "pegboard_unread" in caplog.text
    assert {"/contacts", "/sound"} <= set(document.json["paths"])


def test_process_state_changed_by_an_import_is_restored(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    site.install("pegboard-wild", WILD + VALID, "wild")
    neighbours = logging.getLogger("pegboard_neighbour")
    before = (signal.getsignal(signal.SIGTERM), sys.excepthook, os.getcwd(), sys.getrecursionlimit())
    with caplog.at_level(logging.WARNING):
        (plugin,) = discovery.discover(site.points())
    assert plugin.state is State.READY
    assert (signal.getsignal(signal.SIGTERM), sys.excepthook, os.getcwd(), sys.getrecursionlimit()) == before
    # Like `logging.config`, which disables all existing loggers.
    assert not neighbours.disabled
    for what in (
        "the logging configuration",
        "the signal handlers",
        "sys.excepthook",
        "the working directory",
        "the event loop policy",
    ):
        assert f"plugin wild changed {what}" in caplog.text
    assert "garbage" not in capsys.readouterr().out


def test_creating_a_logger_during_the_import_is_allowed(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("pegboard-sound", f"import logging; logging.getLogger('{uuid4()}')\n{VALID}", "sound")
    with caplog.at_level(logging.WARNING):
        (plugin,) = discovery.discover(site.points())
    assert plugin.state is State.READY
    assert not caplog.records


def test_import_timeouts_apply_only_on_the_main_thread(site: Site) -> None:
    site.install("pegboard-slow", "import time; time.sleep(0.6)\n" + VALID, "slow")
    plugins: list[discovery.Plugin] = []
    thread = threading.Thread(target=lambda: plugins.extend(discovery.discover(site.points(), seconds=0.1)))
    thread.start()
    thread.join()
    assert [plugin.state for plugin in plugins] == [State.READY]


def run(site: Site, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command like an operator."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    variables = {f"PEGBOARD_{name.upper()}": value for name, value in settings.items()}
    environment = {**inherited, **variables, "PYTHONPATH": str(site.folder), "PEGBOARD_ADMIN_PASSWORD": PASSWORD}
    command = [str(Path(sys.executable).with_name("pegboard")), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_a_failed_required_plugin_stops_the_start_with_one_line(site: Site, postgres: str) -> None:
    site.install("pegboard-raises", "print('garbage'); 1 / 0", "raises")
    url = await new_database(postgres)
    listed = await asyncio.to_thread(run, site, "plugins", database_url=url)
    assert listed.returncode == 0
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [row[2] for row in rows if row[0] == "raises"] == ["failed"]
    assert "garbage" not in listed.stdout
    settings = {"database_url": url, "plugins_required": "raises,contacts", "log_level": "critical"}
    refused = await asyncio.to_thread(run, site, "serve", "--port", "0", **settings)
    assert refused.returncode == 1
    assert refused.stdout == ""
    (line,) = [line for line in refused.stderr.splitlines() if line != "garbage"]
    assert line.startswith("Error: a required plugin is not available: raises: ")
    assert "ZeroDivisionError: division by zero" in line


MAKING = """
CREATE TABLE late (
    id uuid PRIMARY KEY, name text NOT NULL, created_at timestamptz, updated_at timestamptz, "_version" bigint
);
"""


async def test_a_failed_migration_is_retried_by_the_command_only(site: Site, serve: Serve, postgres: str) -> None:
    url = await new_database(postgres)
    site.install("pegboard-late", VALID, "late", _0001_make=f"SELECT 1 FROM public.later; {MAKING}")
    api = await serve(discovery.discover(site.points()), database_url=url)
    assert [(await api.get("/late")).status for _ in range(3)] == [503] * 3
    await api.service.database.write.execute("CREATE TABLE public.later ()")
    assert (await api.get("/late")).status == 503
    assert await api.service.database.write.fetchval("SELECT to_regclass('late.late')") is None
    done = await asyncio.to_thread(run, site, "migrate", database_url=url)
    assert (done.returncode, "late: applied 0001_make" in done.stdout) == (0, True)


async def test_a_signal_during_the_import_of_a_plugin_stops_the_start(site: Site, postgres: str) -> None:
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)"
    site.install("pegboard-slow", code, "slow")
    url = await new_database(postgres)
    ended = await asyncio.to_thread(run, site, "serve", "--port", "0", database_url=url)
    assert (ended.returncode, ended.stdout) == (0, "")
