"""`pegboard serve` and `healthcheck`: runs the service with one or more processes, and checks its health."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from typing import Any

import click

from pegboard import running
from pegboard.app import Service
from pegboard.cli import environment, reloading
from pegboard.cli.console import setting_option
from pegboard.settings import Settings, linked_names
from pegboard.telemetry import logs

log = logging.getLogger("pegboard")

# The address at which to reach a service that listens on all addresses.
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
        raise click.UsageError("--reload cannot be combined with --workers.")
    running.stop_on_signals()
    overrides = {name: value for name, value in options.items() if value is not None}
    settings = dataclasses.replace(environment.load_settings(), **overrides)
    logs.configure(settings.log_level, settings.log_format)
    ignored = sorted(linked_names(os.environ))
    if ignored:
        log.debug("ignored the variables that Kubernetes or Docker have added: %s", ", ".join(ignored))
    with running.listen(settings.host, settings.port) as listening, environment.database(settings) as settings:
        if reloads:
            reloading.serve(settings, listening)
        address = _address(listening)
        inherited = _serve(settings, overrides, listening, lambda: _announce(address))
    if inherited is not None:
        running.restart(inherited)


def _serve(
    settings: Settings, overrides: Mapping[str, Any], listening: socket.socket, announce: Callable[[], None]
) -> socket.socket | None:
    """Serve until stopped; return the listening socket if the process is to restart."""

    def read_settings() -> Settings:
        reloaded = dataclasses.replace(environment.load_settings(), **overrides)
        # The embedded database keeps running.
        return dataclasses.replace(reloaded, database_url=reloaded.database_url or settings.database_url)

    if settings.workers == 1:

        def started(service: Service) -> None:
            running.check_required_plugins(service)
            announce()

        plugins = environment.load_plugins(settings)
        return running.run(running.serve(settings, plugins, listening, started, read_settings))
    # Imported here, so that a single process does not load gunicorn.
    from pegboard import workers

    workers.prepare(settings, environment.load_plugins)
    workers.Workers(read_settings, environment.load_plugins, listening, announce).run()
    return None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(address: str) -> None:
    click.echo(f"Pegboard {version('pegboard')} serves on {address}")


@click.command()
def healthcheck() -> None:
    """Check the health of the service on this machine: status 0 if it serves, 1 if it does not."""
    settings = environment.load_settings()
    host = _LOOPBACK.get(settings.host, settings.host)
    # Not urllib, which would use a proxy from the environment.
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
