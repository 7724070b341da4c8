"""The rules and the dashboard in `deploy`, tested with a real Prometheus that scrapes real services."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pegboard.telemetry.families import FAMILIES
from tests.conftest import ADMIN, PASSWORD, basic, new_database

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/pegboard.rules.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/pegboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

missing = shutil.which("prometheus") is None and "CI" not in os.environ
needs_prometheus = pytest.mark.skipif(missing, reason="Prometheus is not installed: apt-get install prometheus")


@dataclass(frozen=True)
class Rule:
    name: str
    expr: str


def rules() -> list[Rule]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [Rule(rule.get("alert") or rule["record"], rule["expr"]) for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Return every expression of the rules and the dashboard, by its location."""
    found = {f"rule {rule.name}": rule.expr for rule in rules()}
    for panel in PANELS:
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


def as_grafana(expr: str) -> str:
    """Return an expression of the dashboard as Grafana evaluates it."""
    return re.sub(r"\$(job|instance|resource)\b", ".*", expr).replace("$__rate_interval", "1m")


# Static checks, without a service -------------------------------------------------------------------------------


def test_every_expression_uses_existing_metrics() -> None:
    names = {"up", *(rule.name for rule in rules())}
    for family in FAMILIES:
        parts = ("_bucket", "_sum", "_count") if family.buckets else ("",)
        names |= {family.name + part for part in parts}
    labels = {family.name: {*family.labels, "job", "instance", "le"} for family in FAMILIES}
    for location, expr in expressions().items():
        named = re.findall(r"\b(?:pegboard_\w+|job:\w+:\w+|up)\b(?=[\[{ )]|$)", re.sub(r'"[^"]*"', '""', expr))
        assert named, location
        assert set(named) <= names, location
        for name, matchers in re.findall(r"(pegboard_\w+)\{([^}]*)\}", expr):
            allowed = labels[re.sub(r"_(bucket|sum|count)$", "", name)]
            assert set(re.findall(r"(\w+)=", matchers)) <= allowed, location


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert [family.name for family in FAMILIES if family.name not in shown] == []


def test_the_dashboard_has_the_structure_required_by_grafana() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert 0 < panel["gridPos"]["w"] <= 24 - panel["gridPos"]["x"]
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_down = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_across or apart_down
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == variables
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in PANELS for target in panel["targets"])


def test_every_alert_has_a_severity_and_documentation() -> None:
    alerts = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
    ]
    page = (ROOT / "docs/observability.md").read_text()
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
    assert re.findall(r"^\| (Pegboard\w+) \|", page, re.MULTILINE) == [rule["alert"] for rule in alerts]


@needs_prometheus
def test_the_rules_pass_their_tests() -> None:
    for arguments in (
        ("check", "rules", RULES.name),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "pegboard.rules.test.yml"),
    ):
        done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# With two workers, and Prometheus -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """Two workers of one service."""

    url: str
    process: subprocess.Popen[str]

    def children(self) -> set[int]:
        """Return the ids of the worker processes."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return set(map(int, pids.split()))

    async def get(self, path: str) -> str:
        # A new connection each time, which any worker may accept.
        async with (
            aiohttp.ClientSession(headers=basic(ADMIN, PASSWORD)) as session,
            session.get(self.url + path) as response,
        ):
            assert response.status == 200
            return await response.text()

    async def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        families = text_string_to_metric_families(await self.get("/metrics"))
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }

    async def value(self, name: str, **labels: str) -> float:
        return sum(
            value
            for labels_of_sample, value in (await self.samples(name)).items()
            if labels.items() <= dict(labels_of_sample).items()
        )


@pytest.fixture(scope="module")
async def workers(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("workers")
    others = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    environment = others | {
        "PEGBOARD_DATABASE_URL": await new_database(postgres),
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "TMPDIR": str(folder),
    }
    command = [str(Path(sys.executable).parent / "pegboard"), "serve", "--port", "0", "--workers", "2"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is fast
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        assert process.stdout
        line = await asyncio.to_thread(process.stdout.readline)
        assert "serves on" in line, (folder / "log").read_text()
        running = Running(line.split()[-1], process)
        await wait_for_workers(running, 2)
        yield running
        process.terminate()
    assert process.returncode == 0
    assert [file.name for file in folder.iterdir()] == ["log"]


async def wait_for_workers(running: Running, number: int) -> None:
    async with asyncio.timeout(30):
        while await running.value("pegboard_workers") != number:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.1)


async def count(running: Running) -> float:
    return await running.value("pegboard_requests_total", resource="contacts", status="200")


async def wait_for_count(running: Running, number: float) -> None:
    """Wait until all workers have published, and check that counters never decrease."""
    last = 0.0
    async with asyncio.timeout(15):
        while last < number:
            now = await count(running)
            assert last <= now <= number
            last = now


async def test_any_worker_reports_all_counts_even_after_one_is_killed(workers: Running) -> None:
    before = await count(workers)
    for _ in range(20):
        await workers.get("/contacts")
    await wait_for_count(workers, before + 20)
    await asyncio.sleep(1.2)  # All workers have published by then.
    killed, kept = workers.children()
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(30):
        while len(workers.children() - {killed, kept}) != 1:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.05)
    await wait_for_workers(workers, 2)
    assert await count(workers) == before + 20
    assert await workers.value("pegboard_pool_connections_limit", pool="read") == 20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def prometheus(workers: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Prometheus with our configuration, except for addresses and intervals, and return its URL."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(RULES, folder)
    settings = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms", "scrape_timeout": "250ms"}
    (scraping,) = settings["scrape_configs"]
    scraping["basic_auth"]["username"] = ADMIN
    scraping["static_configs"] = [{"targets": [workers.url.removeprefix("http://")]}]
    (folder / "password").write_text(PASSWORD)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        yield f"http://{address}"
        process.terminate()


async def evaluate(prometheus: str, session: aiohttp.ClientSession, expr: str) -> list[dict[str, Any]]:
    async with session.post(f"{prometheus}/api/v1/query", data={"query": expr}) as response:
        result = await response.json()
    assert result["status"] == "success", f"{expr}: {result}"
    samples: list[dict[str, Any]] = result["data"]["result"]
    return samples


SCRAPED = 'rate(pegboard_requests_total{job="pegboard", resource="contacts"}[1m]) > 0'
NAMES = [family.name + ("_count" if family.buckets else "") for family in FAMILIES]


@needs_prometheus
async def test_prometheus_scrapes_the_service_and_evaluates_every_expression(prometheus: str, workers: Running) -> None:
    host, port = workers.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"This is not a request.\r\n\r\n")  # Otherwise there would be no rejected request.
    async with aiohttp.ClientSession() as session:
        end = time.monotonic() + 30
        missing = [SCRAPED]
        while missing and time.monotonic() < end:
            await workers.get("/contacts")
            await asyncio.sleep(0.3)
            with suppress(aiohttp.ClientError):
                missing = [expr for expr in (SCRAPED, *NAMES) if not await evaluate(prometheus, session, expr)]
        assert not missing
        writer.close()
        (up,) = await evaluate(prometheus, session, 'up{job="pegboard"}')
        assert up["value"][1] == "1"
        # Queries for errors have no results.
        expected_empty = {f"rule {rule.name}" for rule in rules() if rule.name.startswith("Pegboard")}
        expected_empty |= {"panel Errors by resource A", "rule job:pegboard_slow:ratio_rate1h"}
        empty, end = {"all"}, time.monotonic() + 30
        while empty and time.monotonic() < end:
            # A rate exists once its metric was scraped twice.
            await asyncio.sleep(0.3)
            results = {
                location: await evaluate(prometheus, session, as_grafana(expr))
                for location, expr in expressions().items()
            }
            empty = {location for location in results if not results[location]} - expected_empty
        assert not empty
        async with session.get(f"{prometheus}/api/v1/alerts") as response:
            assert (await response.json())["data"]["alerts"] == []
