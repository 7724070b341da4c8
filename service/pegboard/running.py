"""How the service runs: in one process, or in several under gunicorn, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as GunicornWorker

from pegboard.app import SERVICE, Service, create_app
from pegboard.discovery import Plugin
from pegboard.server import Runner
from pegboard.settings import Settings

log = logging.getLogger("pegboard")

Discover = Callable[[], Sequence[Plugin]]

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_BEAT = 1.0


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


class Workers(BaseApplication):
    """Serve in several processes; gunicorn starts them, replaces those that die and stops them."""

    def __init__(
        self, settings: Settings, discover: Discover, listening: socket.socket, announce: Callable[[], None]
    ) -> None:
        self.settings = settings
        self.discover = discover
        self._listening = listening.detach()
        self._announce = announce
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what it needs to know."""
        options = {
            "bind": f"fd://{self._listening}",
            "workers": self.settings.workers,
            "worker_class": Worker,
            "logger_class": _Log,
            "graceful_timeout": int(self.settings.shutdown_timeout) + 5,
            "control_socket_disable": True,
            "proc_name": "pegboard",
            "when_ready": lambda _: self._announce(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)


class Worker(GunicornWorker):
    """Be one of the processes that serve."""

    app: Workers

    def load_wsgi(self) -> None:
        """Load nothing: what is served is made on the loop."""

    def init_signals(self) -> None:
        """Undo what the arbiter does with signals; those that say stop are for the loop."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # The arbiter sends it on to have logs opened again, and there are none that it opened.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until told to stop."""
        run(self._serve())

    async def _serve(self) -> None:
        app = self.app
        beating = asyncio.get_running_loop().create_task(self._beat())
        # What is required was there at the start; where it is gone, one who comes later serves the rest, unready.
        await serve(app.settings, app.discover(), self.sockets[0], lambda _: None)
        beating.cancel()

    async def _beat(self) -> None:
        """Show the arbiter that this process is well, as long as there is an arbiter."""
        while os.getppid() == self.ppid:
            self.notify()
            await asyncio.sleep(_BEAT)
        log.warning("the process that started this one is gone")
        os.kill(os.getpid(), signal.SIGTERM)


class _Log(Logger):
    """Hand gunicorn's messages to the log of the service."""

    def setup(self, cfg: Config) -> None:
        """Open no log of its own."""
        self.error_log.propagate = True
