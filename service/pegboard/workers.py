"""Several processes that serve on one socket, under gunicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as GunicornWorker

from pegboard import running
from pegboard.discovery import Plugin
from pegboard.settings import Settings

log = logging.getLogger("pegboard")

Discover = Callable[[], Sequence[Plugin]]

_BEAT = 1.0


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
        running.run(self._serve())

    async def _serve(self) -> None:
        app = self.app
        beating = asyncio.get_running_loop().create_task(self._beat())
        # What is required was there at the start; where it is gone, one who comes later serves the rest, unready.
        await running.serve(app.settings, app.discover(), self.sockets[0], lambda _: None)
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
