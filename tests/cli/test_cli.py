"""The installed console script: services are started, killed and restarted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from aiohttp import encode_basic_auth

from tests.projects import Site

SCRIPT = Path(sys.executable).with_name("pegboard")
ADMINISTRATOR = re.compile(r"The administrator is admin with the password (\S+)")
SERVES = re.compile(r"Pegboard \d+\.\d+\.\d+ serves on http://127\.0\.0\.1:(\d+)")
ADA = {"name": "Ada", "email": "ada@example.org"}


def environment(folder: Path, **settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    variables = {f"PEGBOARD_{name.upper()}": value for name, value in settings.items()}
    # Loading the CA certificates takes a fifth of the start-up time of a process.
    return plain | {"PEGBOARD_DATA_DIR": str(folder), "SSL_CERT_FILE": os.devnull} | variables


def pegboard(folder: Path, *arguments: str, stdin: str = "", **settings: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [SCRIPT, *arguments],
        env=environment(folder, **settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Service:
    """A service in its own process, whose output is redirected to files."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder = folder
        self.output_folder = folder.parent
        with (self.output_folder / "stdout").open("wb") as out, (self.output_folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [SCRIPT, "serve", "--port", "0", *arguments],
                env=environment(folder, **settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.port = int(self.wait_for_line(SERVES)[1])

    @property
    def out(self) -> str:
        return (self.output_folder / "stdout").read_text()

    @property
    def err(self) -> str:
        return (self.output_folder / "stderr").read_text()

    def wait_for_line(self, pattern: re.Pattern[str], read: Callable[[], str] | None = None) -> re.Match[str]:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            match = pattern.search(read() if read else self.out)
            if match:
                return match
            assert self.process.poll() is None, self.err
            time.sleep(0.02)
        pytest.fail(f"no {pattern.pattern!r} in {self.out!r}, {self.err!r}")

    def request(self, method: str, path: str, password: str | None = None, body: Any = None) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": "application/json"}
        if password:
            headers["Authorization"] = encode_basic_auth("admin", password)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content) if content else None

    def children(self) -> list[psutil.Process]:
        """Return the worker processes."""
        processes = psutil.Process(self.process.pid).children()
        workers = []
        for child in processes:
            # Exclude processes that have just ended.
            with suppress(psutil.NoSuchProcess):
                workers += [child] if child.name() != "postgres" else []
        return workers

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the data of a service that was started once, and the password it printed."""
    folder = tmp_path_factory.mktemp("seed") / "data"
    service = Service(folder)
    password = service.wait_for_line(ADMINISTRATOR)[1]
    assert service.request("POST", "/contacts", password, ADA)[0] == 201
    assert service.end(signal.SIGTERM) == 0
    return folder, password


@pytest.fixture
def folder(seed: tuple[Path, str], tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    if os.geteuid() == 0:
        subprocess.run(["cp", "-a", seed[0], copy], check=True)
    else:
        shutil.copytree(seed[0], copy)
    return copy


@pytest.fixture
def password(seed: tuple[Path, str]) -> str:
    return seed[1]


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def begin(*arguments: str, **settings: str) -> Service:
        started.append(Service(folder, *arguments, **settings))
        return started[-1]

    yield begin
    for service in started:
        if service.process.poll() is None:
            service.end(signal.SIGTERM)


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "postgres/postmaster.pid").read_text().splitlines()[0]))


def contact_names(service: Service, password: str) -> list[str]:
    status, page = service.request("GET", "/contacts", password)
    assert status == 200
    return [item["name"] for item in page["items"]]


def error_line(result: tuple[int, str, str]) -> str:
    """Return the single line of a failed command's error message."""
    code, out, err = result
    assert (code, out) == (1, ""), (out, err)
    [line] = err.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def test_the_first_start_prints_the_password_and_the_address(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    lines = service.out.splitlines()
    assert [bool(pattern.fullmatch(line)) for pattern, line in zip((ADMINISTRATOR, SERVES), lines, strict=True)] == [
        True,
        True,
    ]
    assert service.request("GET", "/contacts", service.wait_for_line(ADMINISTRATOR)[1])[0] == 200
    assert service.request("GET", "/contacts", "another password")[0] == 401
    assert service.end(signal.SIGINT) == 0
    assert service.wait_for_line(ADMINISTRATOR)[1] not in service.err


def test_a_second_start_keeps_the_data_and_prints_no_password(start: Callable[..., Service], password: str) -> None:
    service = start()
    assert not ADMINISTRATOR.search(service.out)
    assert contact_names(service, password) == ["Ada"]


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGINT), ("2", signal.SIGTERM)])
def test_a_signal_stops_the_service_and_its_postgres(
    start: Callable[..., Service], folder: Path, number: signal.Signals, workers: str
) -> None:
    service = start("--workers", workers)
    database = postmaster(folder)
    assert service.request("GET", "/health") == (200, {"status": "ok"})
    assert service.end(number) == 0
    assert not database.is_running() or database.status() == psutil.STATUS_ZOMBIE
    assert not (folder / "postgres/postmaster.pid").exists()
    assert "Traceback" not in service.err


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_post_that_is_half_sent_when_the_service_stops_is_served(
    start: Callable[..., Service], password: str, workers: str, framing: str
) -> None:
    service = start("--workers", workers)
    body = json.dumps({"name": "Half", "email": "half@example.org"}).encode()
    length = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
    if framing == "chunked":
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    lines = "POST /contacts HTTP/1.1", "Host: a", "Content-Type: application/json", length
    head = "\r\n".join((*lines, f"Authorization: {encode_basic_auth('admin', password)}", "", "")).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(head + body[:20])
        idle = [HTTPConnection("127.0.0.1", service.port, timeout=10) for _ in range(8)]
        for connection in idle:
            connection.request("GET", "/health")
            connection.getresponse().read()
        service.process.send_signal(signal.SIGTERM)
        # The service closes idle connections when it waits for nothing but the requests that have begun to arrive.
        for connection in idle:
            assert connection.sock.recv(1) == b""
            connection.close()
        client.sendall(body[20:])
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.startswith(b"HTTP/1.1 201 "), received
    assert service.process.wait(20) == 0
    assert "Traceback" not in service.err


def test_a_signal_during_startup_stops_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen([SCRIPT, "serve", "--port", "0"], env=environment(tmp_path / "data"))
    end = time.monotonic() + 30
    while not (tmp_path / "data/lock").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(30) == 0
    assert not (tmp_path / "data/postgres/postmaster.pid").exists()


def test_acknowledged_writes_survive_a_kill(start: Callable[..., Service], folder: Path, password: str) -> None:
    service = start()
    for number in range(20):
        status, _ = service.request("POST", "/contacts", password, {"name": "B", "email": f"b{number}@example.org"})
        assert status == 201
    service.end(signal.SIGKILL)
    again = start()
    assert contact_names(again, password) == ["Ada", *["B"] * 20]


def test_a_second_service_on_the_same_data_is_refused(start: Callable[..., Service], folder: Path) -> None:
    service = start()
    error = error_line(pegboard(folder, "serve", "--port", "0"))
    assert error == f"the data folder {folder} is in use by another service (pid {service.process.pid})"
    assert service.request("GET", "/health")[0] == 200


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = error_line(pegboard(tmp_path / "data", "serve", "--port", str(port)))
    assert error == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"prot": "80"},
            "PEGBOARD_PROT is not a setting of the service or of an installed plugin. Did you mean PEGBOARD_PORT?",
        ),
        ({"port": "many"}, "PEGBOARD_PORT must be an integer from 0 to 65535, not 'many'."),
        (
            {"plugins_required": "contacts,nothing"},
            "a required plugin is not available: nothing: not installed",
        ),
        (
            {"plugins_required": "nothing", "workers": "2"},
            "a required plugin is not available: nothing: not installed",
        ),
        *(
            (
                {"middlewares": "tennant", "workers": workers},
                "PEGBOARD_MIDDLEWARES names tennant, which no installed package has in pegboard.middlewares.",
            )
            for workers in ("1", "2")
        ),
        ({"host": "no.such.host.invalid"}, re.compile(r"cannot listen on no\.such\.host\.invalid:0: .+")),
    ],
)
def test_startup_errors_are_reported_in_one_line(
    folder: Path, settings: dict[str, str], expected: str | re.Pattern[str]
) -> None:
    arguments = () if "port" in settings else ("--port", "0")
    error = error_line(pegboard(folder, "serve", *arguments, log_level="critical", **settings))
    assert re.fullmatch(expected if isinstance(expected, re.Pattern) else re.escape(expected), error)
    assert not (folder / "postgres/postmaster.pid").exists()


def test_variables_of_kubernetes_stop_no_command_and_are_logged_once(
    start: Callable[..., Service], folder: Path, password: str
) -> None:
    variables = {"service_host": "10.0.0.1", "port": "tcp://10.0.0.1:80", "db_port_5432_tcp": "tcp://10.0.0.2:5432"}
    service = start("--workers", "2", log_level="debug", **variables)
    assert contact_names(service, password) == ["Ada"]
    names = "PEGBOARD_DB_PORT_5432_TCP, PEGBOARD_PORT, PEGBOARD_SERVICE_HOST"
    assert service.err.count(names) == 1
    for command in (("migrate", "--status"), ("plugins",), ("client", "list"), ("check",)):
        code, out, err = pegboard(folder, *command, **variables)
        assert (code, "PEGBOARD" in out + err) == (0, False), err


def test_an_option_accepts_the_values_of_its_setting(tmp_path: Path) -> None:
    code, _, err = pegboard(tmp_path / "data", "serve", "--workers", "0")
    assert code == 2
    assert err.splitlines()[-1] == "Error: Invalid value for '--workers': '0': it must be an integer from 1 to 256."


def test_a_worker_that_dies_is_replaced(start: Callable[..., Service], password: str) -> None:
    service = start("--workers", "2")
    end = time.monotonic() + 20
    while len(service.children()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    first = service.children()
    assert len(first) == 2
    first[0].kill()
    while {child.pid for child in service.children()} <= {child.pid for child in first} and time.monotonic() < end:
        time.sleep(0.05)
    replaced = service.children()
    assert len(replaced) == 2
    assert first[1] in replaced
    assert contact_names(service, password) == ["Ada"]
    first[1].kill()
    assert contact_names(service, password) == ["Ada"]


OTHER_PASSWORD = (
    "the client admin has another password than PEGBOARD_ADMIN_PASSWORD, which applies only to a new database: "
    "to change it, run pegboard client passwd admin"
)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_changed_administrator_password_in_the_settings_is_logged_once(
    start: Callable[..., Service], folder: Path, password: str, workers: str
) -> None:
    service = start("--workers", workers, admin_password="a third horse")
    assert contact_names(service, password) == ["Ada"]
    assert service.request("GET", "/contacts", "a third horse")[0] == 401
    assert service.err.count(OTHER_PASSWORD) == 1
    service.end(signal.SIGTERM)
    assert pegboard(folder, "client", "passwd", "admin", stdin="a third horse\n")[0] == 0
    again = start("--workers", workers, admin_password="a third horse")
    assert contact_names(again, "a third horse") == ["Ada"]
    assert OTHER_PASSWORD not in again.err


def test_the_first_start_with_workers_prints_the_password_once(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", "--workers", "2")
    [password] = ADMINISTRATOR.findall(service.out)
    assert contact_names(service, password) == []
    assert service.end(signal.SIGTERM) == 0
    assert len(service.out.splitlines()) == 2


def test_workers_end_with_their_parent_process(start: Callable[..., Service], password: str) -> None:
    service = start("--workers", "2")
    workers = service.children()
    service.end(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert contact_names(start("--workers", "2"), password) == ["Ada"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_reloads_settings_and_plugins_without_failing_requests(
    start: Callable[..., Service], password: str, tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(site))
    limit = tmp_path / "limit"
    limit.write_text("1KiB")
    service = start("--workers", workers, max_body_file=str(limit), shutdown_timeout="5")
    large = {"name": "Grace", "email": "grace@example.org", "notes": "x" * 2_000}
    assert service.request("POST", "/contacts", password, large)[0] == 413
    limit.write_text("nonsense")
    service.process.send_signal(signal.SIGHUP)
    service.wait_for_line(
        re.compile("the settings are unchanged: The content of PEGBOARD_MAX_BODY"), lambda: service.err
    )
    assert service.request("POST", "/contacts", password, large)[0] == 413
    assert service.request("GET", "/notes", password)[0] == 404
    limit.write_text("4KiB")
    install_notes(site)
    service.process.send_signal(signal.SIGHUP)
    statuses: list[int] = []
    while not statuses or statuses[-1] == 413:
        statuses.append(service.request("POST", "/contacts", password, large)[0])
    assert set(statuses) <= {413, 201}
    while service.request("GET", "/notes", password)[0] == 404:
        assert service.request("GET", "/contacts", password)[0] == 200
    assert service.request("GET", "/notes", password) == (200, {"items": [], "next": None, "prev": None})
    assert service.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_with_invalid_settings_keeps_the_running_workers(
    start: Callable[..., Service], password: str, tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, traced = install_tenant(tmp_path, monkeypatch), tmp_path / "traced"
    traced.write_text("false")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nowhere")
    service = start("--workers", workers, middlewares_file=str(named), tracing_file=str(traced))
    wait_for_tenant(service, int(workers))
    serving = service.children()
    error_response = (400, {"errors": [{"message": "X-Tenant is missing", "code": 10016}]})
    assert service.request("GET", "/contacts", password) == error_response
    for name, reason in (
        ("tennant", r"PEGBOARD_MIDDLEWARES names tennant, .+ Did you mean tenant\?"),
        ("leaves", r"PEGBOARD_MIDDLEWARES: leaves:leaves cannot be imported: SystemExit: 0\."),
        # A single process tries it itself.
        *[("crashes", r"A middleware in PEGBOARD_MIDDLEWARES ends the process that imports it\.")] * (workers == "2"),
    ):
        named.write_text(f"tenant,{name}")
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_line(re.compile(f"the settings are unchanged: {reason}\n"), lambda: service.err)
        assert service.request("GET", "/contacts", password) == error_response
    named.write_text("tenant")
    traced.write_text("true")
    service.process.send_signal(signal.SIGHUP)
    service.wait_for_line(re.compile("the settings are unchanged: There is no exporter nowhere"), lambda: service.err)
    assert service.children() == serving
    assert "Traceback" not in service.err
    traced.write_text("false")
    named.write_text("")
    service.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while service.request("GET", "/contacts", password) == error_response and time.monotonic() < end:
        time.sleep(0.05)
    assert contact_names(service, password) == ["Ada"]


def test_a_worker_with_a_missing_middleware_is_restarted_with_a_delay(
    start: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = install_tenant(tmp_path, monkeypatch)
    service = start("--workers", "2", middlewares_file=str(named))
    wait_for_tenant(service, 2)
    about = tmp_path / "site" / "tenants-1.dist-info"
    about.rename(tmp_path / about.name)
    service.children()[0].kill()
    line = "this process cannot serve: PEGBOARD_MIDDLEWARES names tenant, "
    service.wait_for_line(re.compile(line), lambda: service.err)
    time.sleep(0.5)
    assert service.err.count(line) == 1
    assert "Traceback" not in service.err
    assert service.request("GET", "/contacts")[0] == 400
    assert service.end(signal.SIGTERM) == 0


def install_tenant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a middleware, and one whose import exits the process; return the file that names the first."""
    site = folder / "site"
    info = site / "tenants-1.dist-info"
    info.mkdir(parents=True)
    (site / "tenants.py").write_text(
        "import sys\n\nfrom aiohttp import web\n\nprint('tenants is imported', file=sys.stderr)\n\n"
        "@web.middleware\nasync def tenant(request, handler):\n"
        "    raise web.HTTPBadRequest(text='X-Tenant is missing')\n"
    )
    (site / "leaves.py").write_text("raise SystemExit(0)\n")
    (site / "crashes.py").write_text("import os\n\nos._exit(3)\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tenants\nVersion: 1\n")
    points = "tenant = tenants:tenant\nleaves = leaves:leaves\ncrashes = crashes:crashes\n"
    (info / "entry_points.txt").write_text(f"[pegboard.middlewares]\n{points}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(site), os.environ.get("PYTHONPATH", ""))).rstrip(os.pathsep))
    named = folder / "middlewares"
    named.write_text("tenant")
    return named


def wait_for_tenant(service: Service, workers: int) -> None:
    """Wait until all workers have the middleware; if there are several, another process has tried it before."""
    each = "tenants is imported.*?" * (workers + (workers > 1))
    service.wait_for_line(re.compile(each, re.DOTALL), lambda: service.err)


def install_notes(site: Path) -> None:
    """Install a plugin like pip, next to a running service."""
    (site / "notes.py").write_text(
        "from pegboard import Schema, TableResource, fields\n\n"
        "class Note(Schema):\n    text = fields.String()\n\n"
        'class Notes(TableResource):\n    schema = Note\n    verbs = "GET", "POST"\n'
    )
    info = site / "notes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: notes\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pegboard.resources]\nnotes = notes:Notes\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_draining_service_serves_but_is_not_ready(start: Callable[..., Service], password: str, workers: str) -> None:
    service = start("--workers", workers, drain_seconds="60")
    assert service.request("GET", "/ready")[0] == 200
    service.process.send_signal(signal.SIGTERM)
    while service.request("GET", "/ready")[0] == 200:
        pass
    status, body = service.request("GET", "/ready")
    assert (status, body["errors"][0]["code"]) == (503, 15004)
    connection = HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request("GET", "/contacts", headers={"Authorization": encode_basic_auth("admin", password)})
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (200, "close")
    connection.close()
    # The second signal is final.
    assert service.end(signal.SIGINT) == 0


def test_clients_can_be_managed_with_and_without_a_running_service(
    start: Callable[..., Service], folder: Path, password: str
) -> None:
    def client(*arguments: str, stdin: str = "") -> str:
        code, out, err = pegboard(folder, "client", *arguments, stdin=stdin)
        assert (code, err) == (0, "")
        return out

    assert client("add", "bob", "contacts:GET", stdin="a long password\n") == "bob was added.\n"
    service = start()
    assert client("list") == "admin\t*:*\nbob\tcontacts:GET\n"
    assert client("grant", "bob", "contacts:*", "*:GET") == "bob holds contacts:* *:GET.\n"
    assert client("passwd", "admin", stdin="another password\n") == "admin has a new password.\n"
    assert contact_names(service, "another password") == ["Ada"]
    assert service.request("GET", "/contacts", password)[0] == 401
    assert client("list") == "admin\t*:*\nbob\t*:GET contacts:*\n"
    service.end(signal.SIGTERM)
    assert client("remove", "bob") == "bob was removed.\n"
    assert client("list") == "admin\t*:*\n"


def test_a_failed_client_command_prints_the_reason(
    start: Callable[..., Service], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.setenv("PEGBOARD_DATA_DIR", str(folder))
    site = Site(tmp_path, monkeypatch)
    for arguments, stdin, expected in (
        (("add", "admin"), "a long password", "Another client already has this user name."),
        (("add", "bob"), "short", "A password must have at least 8 characters."),
        (("grant", "nobody", "*:GET"), "", "The client does not exist."),
        (("passwd", "nobody"), "a long password", "The client does not exist."),
        (("remove", "nobody"), "", "The client does not exist."),
        (("remove", "admin"), "", "The last active client that holds *:* must keep it and stay active."),
    ):
        assert site.expect_error("client", *arguments, stdin=stdin) == expected


def test_migrate_prints_applied_migrations(tmp_path: Path) -> None:
    code, out, _ = pegboard(tmp_path / "data", "migrate")
    assert code == 0
    assert re.search(r"^pegboard: applied 0001_\w+\.sql, .*^contacts: applied schema$", out, re.DOTALL | re.MULTILINE)
    code, out, _ = pegboard(tmp_path / "data", "migrate")
    assert code == 0
    assert {line.partition(": ")[2] for line in out.splitlines()} == {"nothing to do"}


def test_plugins_lists_installed_plugins(folder: Path) -> None:
    code, out, err = pegboard(folder, "plugins")
    assert (code, err) == (0, "")
    assert re.search(r"^contacts\tpegboard-contacts \d+\.\d+\.\d+\tready$", out, re.MULTILINE)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_healthcheck_reports_health_by_exit_status(start: Callable[..., Service], folder: Path, host: str) -> None:
    service = start()
    port = str(service.port)
    # Local requests do not use a proxy.
    asked = {**environment(folder, host=host, port=port), "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run([SCRIPT, "healthcheck"], env=asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    service.end(signal.SIGTERM)
    error = error_line(pegboard(folder, "healthcheck", host=host, port=port))
    assert error == f"no service responds on 127.0.0.1:{port}: Connection refused"


def test_a_hanging_or_different_service_is_not_healthy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert error_line(pegboard(tmp_path, "healthcheck", port=str(port))) == (
            f"no service responds on 127.0.0.1:{port}: timed out"
        )
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        server_thread = Thread(target=other.handle_request)
        server_thread.start()
        error = error_line(pegboard(tmp_path, "healthcheck", port=str(other.server_port)))
        server_thread.join()
    assert error == f"127.0.0.1:{other.server_port} responded with status 501"


@pytest.mark.parametrize("command", [("migrate",), ("plugins",), ("client", "list")])
def test_an_unavailable_database_is_reported(tmp_path: Path, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"postgresql://nobody:hush@127.0.0.1:{closed.getsockname()[1]}/nothing"
    error = error_line(pegboard(tmp_path / "data", *command, database_url=url))
    assert "hush" not in error


def test_each_request_is_logged_as_text(start: Callable[..., Service], password: str) -> None:
    service = start()
    service.request("GET", "/contacts/01a20a7d-e0d2-7088-b10c-89a399fa5ddd", password)
    line = service.wait_for_line(re.compile(r".* pegboard\.access: .*"), lambda: service.err)[0]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    pegboard\.access: request method=GET template=/contacts/\{id\} "
        r"status=404 ms=\d+\.\d bytes=\d+ client=admin request=[0-9a-f]+-\w+ plugin=contacts",
        line,
    )


def test_each_request_is_logged_as_json(start: Callable[..., Service], password: str) -> None:
    service = start(log_format="json")
    service.request("GET", "/health")
    service.wait_for_line(re.compile(r"pegboard\.access"), lambda: service.err)
    entries = [json.loads(line) for line in service.err.splitlines()]
    [entry] = [entry for entry in entries if entry["logger"] == "pegboard.access"]
    assert entry.keys() == {
        *("time", "level", "logger", "message"),
        *("method", "template", "status", "ms", "bytes", "client", "request", "plugin"),
    }
    assert (entry["template"], entry["status"], entry["client"]) == ("/health", 200, "")


def test_logging_can_be_turned_off(start: Callable[..., Service], password: str) -> None:
    service = start(log_level="warning")
    assert contact_names(service, password) == ["Ada"]
    assert "pegboard.access" not in service.err
