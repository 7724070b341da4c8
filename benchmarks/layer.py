"""The HTTP layer alone: a constant item through all middlewares, compared with another version of the service.

`python -m benchmarks.layer --against PATH` measures this checkout and the one at PATH alternately, with default
settings and the log in a file. Without `--against`, it compares this checkout with an aiohttp handler that returns the
same bytes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles

import aiohttp

from benchmarks import measure, services
from benchmarks.client import Request
from benchmarks.load import Job, Load
from benchmarks.services import PASSWORD, Service

_ROOT = Path(__file__).resolve().parent.parent
_PATH = "/constant/0192f0c1-7b3a-7c55-9d3e-5f1c2b7a9e04"
_PLUGIN = """
import sys
from datetime import UTC, datetime

from pegboard import Resource, Schema, fields

# Not public, so its module differs between versions.
Representation = next(
    vars(module)["Representation"]
    for name, module in [*sys.modules.items()]
    if name.startswith("pegboard.") and "Representation" in vars(module)
)
BODY = b'{"id":"0192f0c1-7b3a-7c55-9d3e-5f1c2b7a9e04","name":"constant","email":"constant@example.org"}'
SHOWN = Representation(BODY, "2c1f7a90b35d8e64", datetime(2026, 1, 1, tzinfo=UTC))


class ConstantSchema(Schema):
    name = fields.String()


class Constant(Resource):
    schema = ConstantSchema
    verbs = ("GET",)

    async def retrieve(self, context, id):
        return SHOWN

    if hasattr(Resource, "represent"):

        def represent(self, item, query):
            return item

    else:

        def __init__(self):
            self.serializer.represent = lambda item, query: item
"""
_PLAIN = """
import sys

import uvloop
from aiohttp import web

BODY = b'{"id":"0192f0c1-7b3a-7c55-9d3e-5f1c2b7a9e04","name":"constant","email":"constant@example.org"}'
HEADERS = {
    "Content-Type": "application/json",
    "ETag": '"2c1f7a90b35d8e64"',
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Accept-Encoding",
    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "X-Request-Id": "2c1f7a90b3-1",
    "X-Content-Type-Options": "nosniff",
}


async def retrieve(request):
    return web.Response(body=BODY, headers=HEADERS)


app = web.Application()
app.router.add_get("/constant/{id}", retrieve)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, loop=uvloop.new_event_loop())
"""


def main() -> None:
    """Run the measurement."""
    options = _options()
    trees = [Path(options.against).resolve(), _ROOT] if options.against else [_ROOT]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pegboard-benchmark-")))
        folder.chmod(0o711)
        names = [f"layer{number}" for number in range(len(trees))]
        database = stack.enter_context(services.database(folder / "postgresql", names))
        plugin = _install_plugin(folder / "plugin")
        started = [
            stack.enter_context(_serve_checkout(tree, database.dsns[name], folder / name, plugin))
            for tree, name in zip(trees, names, strict=True)
        ]
        if not options.against:
            started.insert(0, stack.enter_context(_serve_plain(folder)))
        costs = _measure(started, options.rounds, options.seconds)
    _report([service.name for service in started], costs, options)


def _install_plugin(folder: Path) -> Path:
    """Write the plugin to `folder` as an installed distribution."""
    about = folder / "pegboard_constant-1.dist-info"
    about.mkdir(parents=True)
    (folder / "pegboard_constant.py").write_text(_PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pegboard-constant\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pegboard.resources]\nconstant = pegboard_constant:Constant\n")
    return folder


@contextmanager
def _serve_checkout(tree: Path, dsn: str, folder: Path, plugin: Path) -> Iterator[Service]:
    """Run the service of a checkout."""
    folder.mkdir()
    port = services.free_port()
    environment = {
        "PYTHONPATH": f"{tree / 'service'}:{plugin}",
        "PEGBOARD_DATABASE_URL": dsn,
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "PEGBOARD_PLUGINS": "constant",
        "PEGBOARD_PORT": str(port),
    }
    command = [sys.executable, "-c", "from pegboard.cli import main; main()", "serve"]
    with services.served(str(tree), command, environment, port, folder, folder / "log", _PATH) as service:
        yield service


@contextmanager
def _serve_plain(folder: Path) -> Iterator[Service]:
    """Run an aiohttp handler that returns the same bytes, without middlewares."""
    port = services.free_port()
    command = [sys.executable, "-c", _PLAIN, str(port)]
    name = f"aiohttp {aiohttp.__version__}"
    with services.served(name, command, {}, port, folder, folder / "plain.log", _PATH) as service:
        yield service


def _measure(started: Sequence[Service], rounds: int, seconds: float) -> list[list[float]]:
    """Return the CPU time of each service for a request in each round, in microseconds."""
    costs: list[list[float]] = [[] for _ in started]
    for number in range(rounds):
        order = list(enumerate(started))
        for index, service in order if number % 2 == 0 else order[::-1]:
            request = service.client.encode(Request("GET", _PATH))
            job = Job(service.client.port, [request], 200, 16, seconds, 0.2)
            with Load(job) as load:
                before = measure.cpu_seconds(service.process)
                outcome = load.run()
                used = measure.cpu_seconds(service.process) - before
            if outcome.failures:
                sys.exit(f"{service.name} failed: {outcome.failures}")
            costs[index].append(used / outcome.requests * 1e6)
    return costs


def _report(names: Sequence[str], costs: Sequence[Sequence[float]], options: argparse.Namespace) -> None:
    print(f"CPU µs a request, 16 connections, {options.rounds} rounds of {options.seconds:g} s; quartiles:")
    for name, values in zip(names, costs, strict=True):
        print(f"  {name}: {_quartiles(values)}")
    for name, values in zip(names[1:], costs[1:], strict=True):
        ratios = [cost / base for cost, base in zip(values, costs[0], strict=True)]
        print(f"  {name} / {names[0]}: {_quartiles(ratios)}")


def _quartiles(values: Sequence[float]) -> str:
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer", description=__doc__)
    parser.add_argument("--against", metavar="PATH", help="another checkout to compare with this one")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time of a run (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
