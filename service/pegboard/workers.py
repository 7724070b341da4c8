"""Several processes that serve on one socket, under gunicorn."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as GunicornWorker

from pegboard import running
from pegboard.hosting.discovery import Plugin
from pegboard.settings import Settings, SettingsError
from pegboard.telemetry import sharing

log = logging.getLogger("pegboard")

Discover = Callable[[Settings], Sequence[Plugin]]

_BEAT = 1.0


def prepare(settings: Settings, discover: Discover) -> None:
    """Bring the database up to date before any process serves; raises `StartError` where a required plugin is out."""
    _apart(_prepare, settings, discover)


def _apart(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a process of its own, and raise what it raises.

    What is imported there is not in the processes that are forked later, which so have the newest after SIGHUP.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as apart:
        apart.submit(function, *arguments).result()


def _prepare(settings: Settings, discover: Discover) -> None:
    running.run(running.prepare(settings, discover(settings)))


class Workers(BaseApplication):
    """Serve in several processes; gunicorn starts them, replaces those that die and stops them.

    On SIGHUP, `read_settings` is asked again and new processes take the place of the old, which end in order.
    """

    def __init__(
        self,
        read_settings: Callable[[], Settings],
        discover: Discover,
        listening: socket.socket,
        announce: Callable[[], None],
    ) -> None:
        self.settings = read_settings()
        self.discover = discover
        self.read_settings = read_settings
        self._listening = listening.detach()
        self._announce = announce
        self.counts = Path(mkdtemp(prefix="pegboard-"))
        """The folder in which the workers tell each other what they have counted."""
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what it needs to know."""
        options = {
            "bind": f"fd://{self._listening}",
            "workers": self.settings.workers,
            "worker_class": Worker,
            "logger_class": _Log,
            "graceful_timeout": int(self.settings.drain_seconds + self.settings.shutdown_timeout) + 5,
            "control_socket_disable": True,
            "proc_name": "pegboard",
            "child_exit": lambda _, worker: sharing.end(self.counts, worker.age),
            "on_exit": lambda _: rmtree(self.counts, ignore_errors=True),
            "when_ready": lambda _: self._announce(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def reload(self) -> None:
        """Take the settings as they are now; raises `SettingsError` for those with which no process could serve."""
        importlib.invalidate_caches()
        fresh = self.read_settings()
        try:
            _apart(running.check, fresh)
        except BrokenExecutor:
            raise SettingsError("A middleware in PEGBOARD_MIDDLEWARES ends the process that imports it.") from None
        self.settings = fresh
        super().reload()

    def run(self) -> None:
        """Serve until told to stop."""
        _Arbiter(self).run()


class _Arbiter(Arbiter):
    """Look after the processes; where a terminal started them, they end with it."""

    def handle_hup(self) -> None:
        """Put new processes in the place of the old; settings that cannot be used leave everything as it was."""
        if running.ends_with_its_terminal():
            raise StopIteration
        try:
            super().handle_hup()
        except SettingsError as error:
            log.error("the settings are unchanged: %s", error)


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
        try:
            running.run(self._serve())
        except SettingsError as error:
            log.error("this process cannot serve: %s", error)
            # The arbiter starts another one at once.
            time.sleep(_BEAT)
            raise SystemExit(1) from None

    async def _serve(self) -> None:
        app = self.app
        beating = asyncio.get_running_loop().create_task(self._beat())
        # What is required was there at the start; where it is gone, one who comes later serves the rest, unready.
        plugins, shared = self._discovered(), sharing.Shared(app.counts, self.age)
        await running.serve(app.settings, plugins, self.sockets[0], lambda _: None, app.read_settings, shared)
        beating.cancel()

    def _discovered(self) -> Sequence[Plugin]:
        """Return the plugins, however long the arbiter would wait for a sign of life and an import takes."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_BEAT):
                self.notify()

        threading.Thread(target=beat, daemon=True).start()
        try:
            return self.app.discover(self.app.settings)
        finally:
            over.set()

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
