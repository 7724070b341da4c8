"""The command: starts both services, checks their responses, measures them alternately and prints the results."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil

from benchmarks import measure, report, services
from benchmarks.load import Job, Load
from benchmarks.operations import OPERATIONS, Operation, WrongResponse, ready
from benchmarks.services import NotServing, Service
from pegboard.postgres.embedded import EmbeddedError

_SERVICES = ("bare", "pegboard")
_BEFORE = "before"
_COMMAND = f"{shlex.quote(str(Path(sys.executable).with_name('pegboard')))} serve --port {{port}}"


def main() -> None:
    """Measure as the command line asks."""
    options = _options()
    names = [options.only] if options.only else list(_SERVICES)
    if options.against:
        names.append(_BEFORE)
    operations = [operation for operation in OPERATIONS if operation.name in options.operations]
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pegboard-benchmark-")))
            # If root runs this, PostgreSQL runs as another user, who needs access.
            folder.chmod(0o711)
            database = stack.enter_context(services.database(folder / "postgresql", names))
            _log(f"PostgreSQL {database.version}; {options.rows:,} rows for each service")
            started = [
                stack.enter_context(
                    services.bare_service(database.dsns[name], folder, options.rows)
                    if name == "bare"
                    else services.pegboard_service(
                        database.dsns[name],
                        folder,
                        options.rows,
                        shlex.split(options.command),
                        name,
                        options.against if name == _BEFORE else None,
                    )
                )
                for name in names
            ]
            runs = _measure(options, operations, started, database.process)
    except (EmbeddedError, NotServing, WrongResponse, LookupError) as error:
        sys.exit(str(error))
    heading = _heading(options, database.version)
    print(f"{heading}\n\n{report.table(runs)}")
    if options.against:
        print(f"\n{report.change(runs, _BEFORE, _SERVICES[1])}")
    if options.json:
        results = {"about": heading, "runs": report.plain(runs)}
        options.json.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    if failures := [run for run in runs if run.outcome.failures]:
        sys.exit("\n".join(f"{run.service} failed to {run.operation}: {run.outcome.failures}" for run in failures))


def _measure(
    options: argparse.Namespace,
    operations: Sequence[Operation],
    started: Sequence[Service],
    database: psutil.Process,
) -> list[report.Run]:
    requests = {
        (operation.name, service.name): ready(operation, service.client, options.rows)
        for operation in operations
        for service in started
    }
    _log("All responses checked.")
    runs = []
    for operation in operations:
        for number in range(options.rounds):
            # A B, then B A, so that neither always runs second.
            for service in started if number % 2 == 0 else started[::-1]:
                job = Job(
                    port=service.client.port,
                    requests=requests[operation.name, service.name],
                    status=operation.status,
                    connections=min(options.connections, operation.connections or options.connections),
                    seconds=options.seconds,
                    warmup=min(0.5, options.seconds),
                )
                run = _run(operation, service, number, job, database)
                rate = report.number(run.outcome.rate)
                _log(f"{operation.name} {number + 1}/{options.rounds} {service.name}: {rate}/s")
                runs.append(run)
    # In the order in which the services were started.
    return sorted(runs, key=lambda run: [service.name for service in started].index(run.service))


def _run(operation: Operation, service: Service, number: int, job: Job, database: psutil.Process) -> report.Run:
    with Load(job) as load:
        server_before, database_before = measure.cpu_seconds(service.process), measure.cpu_seconds(database)
        outcome = load.run()
        server_after, database_after = measure.cpu_seconds(service.process), measure.cpu_seconds(database)
    return report.Run(
        operation=operation.name,
        service=service.name,
        round=number,
        outcome=outcome,
        server_cpu=server_after - server_before,
        database_cpu=database_after - database_before,
        peak_memory=measure.peak_bytes(service.process),
    )


def _heading(options: argparse.Namespace, version: str) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {platform.python_implementation()} {platform.python_version()}, "
        f"PostgreSQL {version}, {os.cpu_count()} CPUs; {options.rows:,} rows, {options.connections} connections, "
        f"one worker; medians of {options.rounds} rounds of {options.seconds:g} s."
    )


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    names = [operation.name for operation in OPERATIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=_rows, default=100_000, help="rows in each table (%(default)s)")
    parser.add_argument("--connections", type=_count, default=64, help="connections at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time of a run (%(default)s)")
    parser.add_argument("--rounds", type=_count, default=7, help="runs of each service and operation (%(default)s)")
    parser.add_argument("--operations", nargs="+", choices=names, default=names, help="which to measure (all)")
    parser.add_argument("--only", choices=_SERVICES, help="measure one service alone")
    parser.add_argument(
        "--command", default=_COMMAND, help="how the service is started, in a temporary folder (%(default)s)"
    )
    parser.add_argument(
        "--against", type=_checkout, metavar="PATH", help="also measure the service of another checkout"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run to this file")
    return parser.parse_args()


def _count(text: str, least: int = 1) -> int:
    number = int(text)
    if number < least:
        raise ValueError(f"must be {least} or more")
    return number


def _checkout(text: str) -> Path:
    return Path(text).resolve(strict=True)


def _rows(text: str) -> int:
    return _count(text, least=2)


if __name__ == "__main__":
    main()
