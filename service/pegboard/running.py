"""How the service runs in one process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web

from pegboard.app import SERVICE, Service, create_app
from pegboard.discovery import Plugin
from pegboard.settings import Settings
from pegboard.web.server import Runner

log = logging.getLogger("pegboard")

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


class StartError(Exception):
    """Say in one line why the service cannot start."""


def end_on_signals() -> None:
    """Let a signal that comes before anything is served end the process in order, with status 0."""
    for number in _STOPPING:
        signal.signal(number, lambda *_: sys.exit(0))


def ignore_signals() -> None:
    """Let nothing interrupt the end, which has begun."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`; raises `StartError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        # Python adds the address in brackets, which stands there already.
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from error


async def prepare(settings: Settings, plugins: Sequence[Plugin]) -> None:
    """Bring the database up to date before any process serves; raises `StartError` where a required plugin is out."""
    runner = Runner(create_app(settings, plugins), settings)
    try:
        await runner.setup()
        require(runner.app[SERVICE])
    finally:
        await runner.cleanup()


async def serve(
    settings: Settings, plugins: Sequence[Plugin], listening: socket.socket, started: Callable[[Service], None]
) -> None:
    """Serve on `listening` until a signal says stop; what was accepted by then is answered.

    `started` is called once requests can be taken; what it raises ends the service.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.add_signal_handler(number, stop.set)
    runner = Runner(create_app(settings, plugins), settings)
    try:
        await runner.setup()
        started(runner.app[SERVICE])
        await web.SockSite(runner, listening).start()
        await stop.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()


def require(service: Service) -> None:
    """Raise `StartError` where a required plugin is out."""
    missing = service.missing()
    if missing:
        faults = {plugin.name: plugin.fault or plugin.state for plugin in service.plugins}
        told = "; ".join(f"{name}: {faults.get(name, 'not installed')}" for name in missing)
        raise StartError(f"a required plugin is out: {told}")
