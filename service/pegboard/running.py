"""How the service runs in one process, until a signal stops or restarts it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from aiohttp import web

from pegboard.app import SERVICE, Service, create_app
from pegboard.hosting import extensions
from pegboard.hosting.discovery import Plugin
from pegboard.hosting.startup_guard import Stopped
from pegboard.settings import Settings, SettingsError
from pegboard.telemetry import tracing
from pegboard.telemetry.sharing import SharedMetrics

_ARRIVAL = 0.1
"""The seconds in which the request of a new connection arrives; closed before, it would fail."""

log = logging.getLogger("pegboard")

T = TypeVar("T")

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_INHERITED_DESCRIPTOR = 3  # as in sd_listen_fds(3)


class StartError(Exception):
    """Report in one line why the service cannot start."""


def stop_on_signals() -> None:
    """Make the stop signals raise `Stopped`, so that one that comes before the service serves ends the process."""

    def stop(*_: object) -> None:
        raise Stopped

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)


def ignore_signals() -> None:
    """Ignore the stop signals, so that nothing interrupts the shutdown."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def has_terminal() -> bool:
    """Return whether the process has a terminal: then SIGHUP means that it was closed, and not a restart."""
    return sys.stdin is not None and sys.stdin.isatty()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on uvloop if it is installed, else on asyncio's own loop, and return its result."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`, or the one that this process inherited.

    A socket is inherited by the protocol of systemd (sd_listen_fds(3)), after `restart` too. Raises `StartError`.
    """
    inherited = _inherited_socket()
    if inherited is not None:
        return inherited
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        # Python appends the address in brackets, which the message already contains.
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from error


def _inherited_socket() -> socket.socket | None:
    """Return the socket that this process inherited to listen on, if there is one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.pop("LISTEN_FDS", "")
    del os.environ["LISTEN_PID"]
    if count != "1":
        raise StartError(f"the service listens on exactly one inherited socket, but LISTEN_FDS has {count or 'none'}")
    try:
        inherited = socket.socket(fileno=_INHERITED_DESCRIPTOR)
        inherited.getsockname()
    except OSError as error:
        raise StartError(f"cannot listen on the inherited socket: {error.strerror}") from error
    os.set_inheritable(_INHERITED_DESCRIPTOR, False)
    return inherited


def restart(listening: socket.socket) -> NoReturn:
    """Replace this process by a new one of the same command, which listens on the same socket.

    Clients that connect meanwhile wait for it.
    """
    pass_descriptor(listening.fileno())
    os.set_inheritable(_INHERITED_DESCRIPTOR, True)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def pass_descriptor(descriptor: int) -> None:
    """Make a socket the inherited one, on which the next call of `listen` listens."""
    if descriptor != _INHERITED_DESCRIPTOR:
        os.dup2(descriptor, _INHERITED_DESCRIPTOR)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")


def make_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return the runner of `app`, without aiohttp's access log: the service logs requests itself."""
    return web.AppRunner(app, shutdown_timeout=settings.shutdown_timeout, access_log=None)


async def prepare(settings: Settings, plugins: Sequence[Plugin]) -> None:
    """Migrate the database before any process serves; raises `StartError` if a required plugin is not ready."""
    runner = make_runner(create_app(settings, plugins), settings)
    try:
        await runner.setup()
        check_required_plugins(runner.app[SERVICE])
    finally:
        await runner.cleanup()


async def serve(
    settings: Settings,
    plugins: Sequence[Plugin],
    listening: socket.socket,
    started: Callable[[Service], None],
    read_settings: Callable[[], Settings],
    shared: SharedMetrics | None = None,
) -> socket.socket | None:
    """Serve on `listening` until a signal stops the service; requests accepted by then are completed.

    `started` is called once the service accepts requests; an exception from it stops the service. `shared` is passed
    if other processes serve as well. Returns None, but after SIGHUP the socket for `restart`, on which new connections
    wait. If `read_settings` then fails, or the settings name what is not installed, the service continues unchanged.
    """
    restart_socket = None
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (*_STOP_SIGNALS, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    runner = make_runner(create_app(settings, plugins, shared=shared), settings)
    try:
        await runner.setup()
        started(runner.app[SERVICE])
        await web.SockSite(runner, listening).start()
        received = await _wait_for_stop(signals, read_settings)
        log.info("stopping after %s", received.name)
        if received == signal.SIGHUP and not has_terminal():
            restart_socket = listening.dup()
        elif received == signal.SIGTERM and settings.drain_seconds:
            await _drain(runner, settings.drain_seconds, signals)
        await _stop_accepting(runner)
    finally:
        await runner.cleanup()
    return restart_socket


async def _stop_accepting(runner: web.AppRunner) -> None:
    """Stop accepting connections, and wait for the requests of those that were accepted just now."""
    for site in runner.sites:
        await site.stop()
    if runner.server is not None and runner.server.connections:
        await asyncio.sleep(_ARRIVAL)


def check_settings(settings: Settings) -> None:
    """Raise `SettingsError` if a middleware or an exporter that `settings` name is not installed."""
    extensions.check(settings.middlewares)
    if settings.tracing:
        tracing.check()


async def _wait_for_stop(
    signals: asyncio.Queue[signal.Signals], read_settings: Callable[[], Settings]
) -> signal.Signals:
    """Wait for a signal that stops or restarts the service; SIGHUP is ignored while the new settings are invalid."""
    while True:
        received = await signals.get()
        if received != signal.SIGHUP or has_terminal():
            return received
        try:
            check_settings(read_settings())
        except SettingsError as error:
            log.error("the settings are unchanged: %s", error)
        else:
            return received


async def _drain(runner: web.AppRunner, seconds: float, signals: asyncio.Queue[signal.Signals]) -> None:
    """Continue to serve for `seconds` while load balancers see the service as not ready; another signal ends that."""
    runner.app[SERVICE].drain()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await signals.get()


def check_required_plugins(service: Service) -> None:
    """Raise `StartError` if a required plugin is not ready."""
    missing = service.missing_plugins()
    if missing:
        reasons = {plugin.name: plugin.error or plugin.state for plugin in service.plugins}
        details = "; ".join(f"{name}: {reasons.get(name, 'not installed')}" for name in missing)
        raise StartError(f"a required plugin is not available: {details}")
