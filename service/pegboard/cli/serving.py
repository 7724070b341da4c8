"""`pegboard serve` and `healthcheck`: the service in this process or several, and whether it answers."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from typing import Any

import click

from pegboard import running
from pegboard.app import Service
from pegboard.cli import reloading, surroundings
from pegboard.cli.console import setting_option
from pegboard.settings import Settings
from pegboard.telemetry import logs

# Where a service is reached that listens on every address.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_HEALTH_TIMEOUT = 3.0


@click.command()
@setting_option("host")
@setting_option("port")
@setting_option("workers")
@click.option("--reload", "reloads", is_flag=True, help="Restart whenever the code changes; for development.")
def serve(reloads: bool, **options: Any) -> None:
    """Serve the API until interrupted."""
    if reloads and options["workers"] is not None:
        raise click.UsageError("--reload runs one process; leave --workers out.")
    running.stop_on_signals()
    given = {name: value for name, value in options.items() if value is not None}
    settings = dataclasses.replace(surroundings.settings(), **given)
    logs.configure(settings.log_level, settings.log_format)
    with running.listen(settings.host, settings.port) as listening, surroundings.database(settings) as settings:
        if reloads:
            reloading.serve(settings, listening)
        address = _address(listening)
        kept = _serve(settings, given, listening, lambda: _announce(address))
    if kept is not None:
        running.restart(kept)


def _serve(
    settings: Settings, given: Mapping[str, Any], listening: socket.socket, announce: Callable[[], None]
) -> socket.socket | None:
    """Serve until told to stop; return the socket on which this process is to begin anew, if it is."""

    def read_settings() -> Settings:
        fresh = dataclasses.replace(surroundings.settings(), **given)
        # An embedded database stays where it is.
        return dataclasses.replace(fresh, database_url=fresh.database_url or settings.database_url)

    if settings.workers == 1:

        def started(service: Service) -> None:
            running.check_required_plugins(service)
            announce()

        plugins = surroundings.plugins(settings)
        return running.run(running.serve(settings, plugins, listening, started, read_settings))
    # Only here, since gunicorn is more than a single process should hold in memory.
    from pegboard import workers

    workers.prepare(settings, surroundings.plugins)
    workers.Workers(read_settings, surroundings.plugins, listening, announce).run()
    return None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(address: str) -> None:
    click.echo(f"Pegboard {version('pegboard')} serves on {address}")


@click.command()
def healthcheck() -> None:
    """Ask the service on this machine for its health: status 0 if it serves, 1 if it does not."""
    settings = surroundings.settings()
    host = _LOOPBACK.get(settings.host, settings.host)
    # Not urllib: it would ask a proxy that the environment names.
    connection = HTTPConnection(host, settings.port, timeout=_HEALTH_TIMEOUT)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise click.ClickException(f"no service responds on {host}:{settings.port}: {reason}") from error
    finally:
        connection.close()
    if status != 200:
        raise click.ClickException(f"{host}:{settings.port} responded with status {status}")
    click.echo("ok")
