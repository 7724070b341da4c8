"""How the service runs: in one process, or in several under gunicorn, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web
from gunicorn.app.base import BaseApplication

from pegboard import logs
from pegboard.app import SERVICE, create_app
from pegboard.discovery import Plugin
from pegboard.server import Runner
from pegboard.settings import Settings

log = logging.getLogger("pegboard")

Announce = Callable[[], None]
Discover = Callable[[], Sequence[Plugin]]

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StartError(Exception):
    """Say in one line why the service cannot start."""


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
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


async def serve(settings: Settings, plugins: Sequence[Plugin], listening: socket.socket, announce: Announce) -> None:
    """Serve on `listening` until SIGINT or SIGTERM; what was accepted by then is answered.

    `announce` is called once requests are taken. Raises `StartError` where a required plugin is out.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.add_signal_handler(number, stop.set)
    runner = Runner(create_app(settings, plugins), settings)
    try:
        await setup(runner)
        await web.SockSite(runner, listening).start()
        announce()
        await stop.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()


async def setup(runner: Runner) -> None:
    """Start the application of `runner`; raises `StartError` where a required plugin is out."""
    await runner.setup()
    service = runner.app[SERVICE]
    missing = service.missing()
    if missing:
        faults = {plugin.name: plugin.fault or plugin.state for plugin in service.plugins}
        told = "; ".join(f"{name}: {faults.get(name, 'not installed')}" for name in missing)
        raise StartError(f"a required plugin is out: {told}")


class Workers(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Serve in several processes; gunicorn starts them, replaces those that die and stops them."""

    def __init__(self, settings: Settings, discover: Discover, listening: socket.socket, announce: Announce) -> None:
        self._settings = settings
        self._discover = discover
        self._listening = listening
        self._announce = announce
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what it needs to know."""
        options = {
            "bind": f"fd://{self._listening.fileno()}",
            "workers": self._settings.workers,
            "worker_class": "aiohttp.GunicornUVLoopWebWorker",
            "graceful_timeout": int(self._settings.shutdown_timeout) + 5,
            "loglevel": "warning",
            "proc_name": "pegboard",
            "when_ready": lambda _: self._announce(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[[], Awaitable[Runner]]:
        """Return what makes the runner of a worker, inside it."""

        async def make() -> Runner:
            logs.configure(self._settings.log_level, self._settings.log_format)
            return Runner(create_app(self._settings, self._discover()), self._settings)

        return make
