"""The metrics of requests, logins, pools, plugins and the process, of one worker or of all of them."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from yarl import URL

from pegboard import Resource, Schema, TableResource, errors, fields
from pegboard.api.context import Context
from pegboard.hosting.discovery import Plugin, State
from pegboard.telemetry import exposition, sharing
from pegboard.telemetry.families import DURATIONS, FAMILIES, LAGS, Snapshot, cumulative
from tests.conftest import Api, Serve, plugin

NDJSON = {"Accept": "application/x-ndjson"}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0; q=0.5, text/plain; version=0.0.4; q=0.3"}


class Note(Schema):
    text = fields.String(required=True)


class Notes(TableResource):
    """Notes."""

    schema = Note
    verbs = "GET", "HEAD", "POST"


class Slow(Resource):
    """Waits until it is released."""

    schema = Note
    verbs = ("GET",)
    go: asyncio.Event

    async def list(self, context: Context) -> list[dict[str, Any]]:
        await self.go.wait()
        raise errors.Busy


@pytest.fixture(scope="module")
async def metered(serve: Serve) -> Api:
    Slow.go = asyncio.Event()
    broken = Plugin("broken", "pegboard-broken", "2", State.FAILED, "it is broken")
    api = await serve([plugin("notes", Notes), plugin("slow", Slow), broken])
    await api.service.clients.add("nobody", "without grants", [])
    await api.service.clients.add("scraper", "reads metrics", ["metrics:GET"])
    return api


async def scrape(api: Api) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return every sample by its name and labels."""
    response = await api.get("/metrics")
    assert response.status == 200
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parse_text(response.body.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


async def value(api: Api, name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    wanted = labels.items()
    return sum(
        number
        for labels_of_sample, number in (await scrape(api)).get(name, {}).items()
        if wanted <= dict(labels_of_sample).items()
    )


async def test_metrics_require_their_grant(metered: Api) -> None:
    assert (await metered.as_client("", "").get("/metrics")).status == 401
    assert (await metered.as_client("nobody", "without grants").get("/metrics")).status == 403
    scraper = metered.as_client("scraper", "reads metrics")
    assert (await scraper.get("/metrics")).status == 200
    assert (await scraper.head("/metrics")).body == b""
    assert (await scraper.get("/notes")).status == 403


async def test_both_formats_are_valid_and_equivalent(metered: Api) -> None:
    await metered.get("/notes")
    text, modern = await metered.get("/metrics"), await metered.get("/metrics", headers=OPENMETRICS)
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert modern.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (await metered.get("/metrics", headers={"Accept": "image/png"})).status == 406
    names = {family.name: family.type for family in parse_text(text.body.decode())}
    assert names == {family.name: family.type for family in parse_openmetrics(modern.body.decode())}
    assert names == {family.name.removesuffix("_total"): family.kind for family in FAMILIES}


async def test_requests_are_counted_by_resource_template_method_and_status(metered: Api) -> None:
    async def count(**labels: str) -> list[float]:
        names = ("requests_total", "request_duration_seconds_count", "response_bytes_total")
        return [await value(metered, f"pegboard_{name}", **labels) for name in names]

    before = await count(resource="notes")
    made = await metered.post("/notes", {"text": "one"})
    item = f"/notes/{made.json['id']}"
    responses = [
        made,
        await metered.get(item),
        await metered.get(item),
        await metered.get(f"/notes/{made.json['id'][:-4]}0000"),
    ]
    await metered.head(item)
    after = await count(resource="notes")
    assert after[0] - before[0] == after[1] - before[1] == 5
    assert after[2] - before[2] == sum(len(response.body) for response in responses)
    assert (await count(resource="notes", template="/notes/{id}", method="GET", status="200"))[0] == 2
    assert (await count(resource="notes", template="/notes/{id}", method="GET", status="404"))[0] == 1
    assert (await count(resource="notes", template="/notes", method="POST", status="201"))[0] == 1


async def test_labels_are_bounded_for_any_request(metered: Api) -> None:
    before = await scrape(metered)
    for number in range(5):
        await metered.get(f"/nothing-{number}/at-all?q={number}")
        await metered.request("PROPFIND", "/notes")
        await metered.get(f"/notes/no-id-{number}")
        await metered.as_client(f"user-{number}", "and password").get("/notes")
    after = await scrape(metered)
    new = after["pegboard_requests_total"].keys() - before["pegboard_requests_total"].keys()
    kinds = {tuple(dict(labels)[name] for name in ("resource", "template", "method", "status")) for labels in new}
    assert kinds <= {
        ("pegboard", "unknown", "GET", "404"),
        ("notes", "/notes/{id}", "GET", "404"),
        ("notes", "/notes", "GET", "401"),
        ("notes", "/notes", "other", "501"),
    }
    assert await value(metered, "pegboard_requests_total", method="other", status="501") == 5
    text = (await metered.get("/metrics")).body.decode()
    assert not [word for word in ("nothing-", "no-id", "user-", "scraper", "PROPFIND") if word in text]


async def test_malformed_requests_are_counted_separately(metered: Api) -> None:
    url = URL(metered.url)
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: much\r\n\r\n"):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        await reader.read()
        writer.close()
    assert await value(metered, "pegboard_requests_refused_total", status="400") == 1
    assert await value(metered, "pegboard_requests_refused_total", status="417") == 1


async def test_a_duration_is_counted_in_its_bucket(metered: Api) -> None:
    await metered.get("/notes")
    samples = (await scrape(metered))["pegboard_request_duration_seconds_bucket"]
    buckets = {
        dict(labels)["le"]: number
        for labels, number in samples.items()
        if ("template", "/notes") in labels and ("method", "GET") in labels and ("status", "200") in labels
    }
    assert [float(bound) for bound in buckets] == [*DURATIONS, math.inf]
    numbers = list(buckets.values())
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 1


async def test_requests_in_progress_and_aborted_ones_are_counted(metered: Api) -> None:
    aborted = await value(metered, "pegboard_requests_aborted_total")
    waiting = asyncio.create_task(metered.get("/slow"))
    # The scrape itself is one.
    async with asyncio.timeout(10):
        while await value(metered, "pegboard_requests_in_progress") < 2:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)
    Slow.go.set()
    assert (await waiting).status == 503
    assert await value(metered, "pegboard_requests_in_progress") == 1
    assert await value(metered, "pegboard_requests_total", resource="slow", status="503") == 1
    assert await value(metered, "pegboard_requests_aborted_total") == aborted


async def test_an_export_is_counted_with_the_bytes_sent(metered: Api) -> None:
    await metered.post("/notes", [{"text": "x" * 1000}] * 20)
    before = await value(metered, "pegboard_response_bytes_total", template="/notes", method="GET")
    response = await metered.get("/notes", headers=NDJSON)
    assert response.status == 200
    assert await value(metered, "pegboard_response_bytes_total", template="/notes", method="GET") - before > 20_000


async def test_logins_are_counted_by_outcome(metered: Api) -> None:
    async def outcomes() -> dict[str, float]:
        return {
            dict(labels)["outcome"]: number
            for labels, number in (await scrape(metered))["pegboard_authentications_total"].items()
        }

    await metered.service.clients.add("known", "right password", ["notes:GET"])
    before = await outcomes()
    client = metered.as_client("known", "right password")
    for _ in range(3):
        assert (await client.get("/notes")).status == 200
    await metered.as_client("", "").get("/notes")
    for _ in range(5):
        assert (await metered.as_client("known", "wrong password").get("/notes")).status == 401
    assert (await metered.as_client("known", "wrong again").get("/notes")).status == 429
    await metered.as_client("", "").get("/notes", headers={"Authorization": "Basic !"})
    after = await outcomes()
    differences = {name: after[name] - before[name] for name in after}
    # The last scrape was authenticated from the cache, too.
    assert differences == {"remembered": 3, "verified": 1, "failed": 5, "throttled": 1, "malformed": 1, "missing": 1}
    assert await value(metered, "pegboard_credentials_remembered") >= 2


async def test_components_report_their_state(metered: Api) -> None:
    samples = await scrape(metered)
    states = {
        (dict(labels)["plugin"], dict(labels)["state"]): number
        for labels, number in samples["pegboard_plugin_state"].items()
    }
    assert {key for key, number in states.items() if number} == {
        ("notes", "ready"),
        ("slow", "ready"),
        ("broken", "failed"),
    }
    assert len(states) == 3 * len(State)
    assert samples["pegboard_migrations"][("plugin", "notes"), ("state", "applied")] == 1
    assert samples["pegboard_migrations"][("plugin", "notes"), ("state", "failed")] == 0
    for pool in ("read", "write"):
        key = (("pool", pool),)
        assert 1 <= samples["pegboard_pool_connections"][key] <= samples["pegboard_pool_connections_limit"][key] == 10
        assert samples["pegboard_pool_waiting"][key] == 0
    assert samples["pegboard_database_up"][()] == samples["pegboard_workers"][()] == 1
    assert samples["pegboard_process_cpu_seconds_total"][()] > 0
    assert samples["pegboard_process_resident_memory_bytes"][()] > 10_000_000
    assert 3 < samples["pegboard_process_open_fds"][()] <= samples["pegboard_process_max_fds"][()]
    assert list(samples["pegboard_info"]) == [(("version", metered.service.specification.version),)]


async def test_an_exhausted_pool_is_visible(serve: Serve) -> None:
    api = await serve([plugin("notes", Notes)], pool_size=1, pool_timeout=0.2)
    assert (await api.get("/notes")).status == 200
    async with api.service.database.write.connection():
        assert (await api.post("/notes", {"text": "one"})).status == 503
        assert await value(api, "pegboard_database_up") == 0
    assert await value(api, "pegboard_pool_timeouts_total", pool="write") >= 1
    assert await value(api, "pegboard_pool_waits_total", pool="write") >= 1


async def test_a_blocked_event_loop_is_visible(metered: Api) -> None:
    before = await value(metered, "pegboard_loop_lag_seconds_sum")
    time.sleep(1.0)  # noqa: ASYNC251 - it blocks deliberately
    async with asyncio.timeout(10):
        while await value(metered, "pegboard_loop_lag_seconds_sum") - before < 0.4:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.05)


# Several workers -------------------------------------------------------------------------------------------------

REQUESTS = ("pegboard_requests_total", "notes", "/notes", "GET", "200")
DURATION = ("pegboard_request_duration_seconds", "notes", "/notes", "GET", "200")


def snapshot(requests: int, connections: int = 1) -> Snapshot:
    return {
        REQUESTS: [requests],
        DURATION: [requests, *[0] * len(DURATIONS), 0.5],
        ("pegboard_pool_connections", "read"): [connections],
        ("pegboard_migrations", "notes", "applied"): [3],
        ("pegboard_info", "1"): [1],
    }


def test_counts_of_workers_are_added(tmp_path: Path) -> None:
    first, second = sharing.SharedMetrics(tmp_path, 1), sharing.SharedMetrics(tmp_path, 2)
    first.publish(snapshot(5))
    second.publish(snapshot(7, 4))
    assert first.read() == second.read()
    assert first.read() == {
        REQUESTS: [12],
        DURATION: [12, *[0] * len(DURATIONS), 1.0],
        ("pegboard_pool_connections", "read"): [5],
        ("pegboard_migrations", "notes", "applied"): [3],
        ("pegboard_info", "1"): [1],
    }


def test_counters_of_ended_workers_are_kept_and_gauges_dropped(tmp_path: Path) -> None:
    shared = sharing.SharedMetrics(tmp_path, 1)
    shared.publish(snapshot(5))
    for worker in (2, 3, 4):
        sharing.SharedMetrics(tmp_path, worker).publish(snapshot(worker, 9))
        sharing.merge_ended(tmp_path, worker)
    sharing.merge_ended(tmp_path, 5)  # One that never published anything.
    assert shared.read() == snapshot(5) | {REQUESTS: [14], DURATION: [14, *[0] * len(DURATIONS), 2.0]}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1.json", "ended.json"]
    assert not [key for key in cumulative(snapshot(1)) if key not in (REQUESTS, DURATION)]


def test_a_worker_that_has_ended_is_not_counted_twice(tmp_path: Path) -> None:
    shared = sharing.SharedMetrics(tmp_path, 1)
    shared.publish(snapshot(5))
    file = tmp_path / "2.json"
    sharing.SharedMetrics(tmp_path, 2).publish(snapshot(7))
    left = file.read_bytes()
    sharing.merge_ended(tmp_path, 2)
    # As seen by a reader between the two steps.
    file.write_bytes(left)
    assert shared.read()[REQUESTS] == [12]


def test_counts_of_another_version_are_ignored(tmp_path: Path) -> None:
    shared = sharing.SharedMetrics(tmp_path, 1)
    shared.publish({("pegboard_unheard_of",): [1], **snapshot(5)})
    assert shared.read() == snapshot(5)


def test_a_label_can_contain_any_text() -> None:
    nasty = 'a"b\\c\nd é'
    for media_type, parse in ((exposition.TEXT, parse_text), (exposition.OPENMETRICS, parse_openmetrics)):
        families = parse(exposition.write({("pegboard_info", nasty): [1]}, media_type).decode())
        assert [sample.labels for family in families for sample in family.samples] == [{"version": nasty}]


NUMBERS = (0, 1, 0.1, 1e-7, 123456.0, 123456789, 2**53, 1.5e300)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_formatted_exactly(number: float) -> None:
    written: Snapshot = {
        ("pegboard_workers",): [number],
        ("pegboard_requests_aborted_total",): [number],
        ("pegboard_loop_lag_seconds",): [0] * len(LAGS) + [7, number],
    }
    for media_type, parse in ((exposition.TEXT, parse_text), (exposition.OPENMETRICS, parse_openmetrics)):
        samples = [
            sample for family in parse(exposition.write(written, media_type).decode()) for sample in family.samples
        ]
        values = {sample.name: sample.value for sample in samples}
        assert values == {
            "pegboard_workers": number,
            "pegboard_requests_aborted_total": number,
            "pegboard_loop_lag_seconds_bucket": 7,
            "pegboard_loop_lag_seconds_count": 7,
            "pegboard_loop_lag_seconds_sum": number,
        }


def test_the_metrics_library_is_loaded_only_when_needed() -> None:
    code = "import sys, pegboard.app, pegboard.cli; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
