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

_HEARTBEAT = 1.0


def prepare(settings: Settings, discover: Discover) -> None:
    """Migrate the database before any process serves; raises `StartError` if a required plugin is not ready."""
    _in_subprocess(_prepare, settings, discover)


def _in_subprocess(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a subprocess, and raise what it raises.

    Workers forked later do not inherit what it imports: after SIGHUP they import the current version.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as executor:
        executor.submit(function, *arguments).result()


def _prepare(settings: Settings, discover: Discover) -> None:
    running.run(running.prepare(settings, discover(settings)))


class Workers(BaseApplication):
    """Serve in several processes: gunicorn starts and stops them, and replaces those that die.

    On SIGHUP, `read_settings` is called again, and new processes replace the old ones, which shut down gracefully.
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
        self.metrics_folder = Path(mkdtemp(prefix="pegboard-"))
        """The folder in which the workers share their metrics."""
        super().__init__()

    def load_config(self) -> None:
        """Set the options of gunicorn."""
        options = {
            "bind": f"fd://{self._listening}",
            "workers": self.settings.workers,
            "worker_class": Worker,
            "logger_class": _GunicornLogger,
            "graceful_timeout": int(self.settings.drain_seconds + self.settings.shutdown_timeout) + 5,
            "control_socket_disable": True,
            "proc_name": "pegboard",
            "child_exit": lambda _, worker: sharing.merge_ended(self.metrics_folder, worker.age),
            "on_exit": lambda _: rmtree(self.metrics_folder, ignore_errors=True),
            "when_ready": lambda _: self._announce(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def reload(self) -> None:
        """Read the settings again; raises `SettingsError` for settings with which no process could serve."""
        importlib.invalidate_caches()
        settings = self.read_settings()
        try:
            _in_subprocess(running.check_settings, settings)
        except BrokenExecutor:
            raise SettingsError("A middleware in PEGBOARD_MIDDLEWARES ends the process that imports it.") from None
        self.settings = settings
        super().reload()

    def run(self) -> None:
        """Serve until a signal stops the service."""
        _Arbiter(self).run()


class _Arbiter(Arbiter):
    """Supervise the workers, and stop them when the terminal that started them is closed."""

    def handle_hup(self) -> None:
        """Replace the workers by new ones; invalid settings leave everything unchanged."""
        if running.has_terminal():
            raise StopIteration
        try:
            super().handle_hup()
        except SettingsError as error:
            log.error("the settings are unchanged: %s", error)


class Worker(GunicornWorker):
    """Serve in one of the processes."""

    app: Workers

    def load_wsgi(self) -> None:
        """Load nothing: the application is created on the event loop."""

    def init_signals(self) -> None:
        """Undo the arbiter's signal handlers; the event loop handles the signals that stop the service."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # The arbiter forwards it to reopen log files, and a worker has none.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until a signal stops the worker."""
        try:
            running.run(self._serve())
        except SettingsError as error:
            log.error("this process cannot serve: %s", error)
            # The arbiter starts another worker at once.
            time.sleep(_HEARTBEAT)
            raise SystemExit(1) from None

    async def _serve(self) -> None:
        app = self.app
        heartbeats = asyncio.get_running_loop().create_task(self._send_heartbeats())
        # Required plugins were ready at the start; if one no longer is, a later worker serves the others, unready.
        plugins, shared = self._discover(), sharing.SharedMetrics(app.metrics_folder, self.age)
        await running.serve(app.settings, plugins, self.sockets[0], lambda _: None, app.read_settings, shared)
        heartbeats.cancel()

    def _discover(self) -> Sequence[Plugin]:
        """Return the plugins, with heartbeats sent meanwhile: an import may exceed the arbiter's timeout."""
        done = threading.Event()

        def send_heartbeats() -> None:
            while not done.wait(_HEARTBEAT):
                self.notify()

        threading.Thread(target=send_heartbeats, daemon=True).start()
        try:
            return self.app.discover(self.app.settings)
        finally:
            done.set()

    async def _send_heartbeats(self) -> None:
        """Send heartbeats while the arbiter lives; stop this process when it has died."""
        while os.getppid() == self.ppid:
            self.notify()
            await asyncio.sleep(_HEARTBEAT)
        log.warning("the parent process has ended")
        os.kill(os.getpid(), signal.SIGTERM)


class _GunicornLogger(Logger):
    """Pass gunicorn's messages to the log of the service."""

    def setup(self, cfg: Config) -> None:
        """Propagate messages to the root logger instead of opening a log."""
        self.error_log.propagate = True
