"""How the service runs in one process until it is told to stop, or to begin anew."""

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
from pegboard.hosting.guard import Stopped
from pegboard.settings import Settings, SettingsError
from pegboard.telemetry import tracing
from pegboard.telemetry.sharing import Shared

log = logging.getLogger("pegboard")

T = TypeVar("T")

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_FIRST_INHERITED = 3  # as sd_listen_fds(3) has it


class StartError(Exception):
    """Say in one line why the service cannot start."""


def end_on_signals() -> None:
    """Let a signal that comes before anything is served end the process in order: raise `Stopped`."""

    def stop(*_: object) -> None:
        raise Stopped

    for number in _STOPPING:
        signal.signal(number, stop)


def ignore_signals() -> None:
    """Let nothing interrupt the end, which has begun."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def ends_with_its_terminal() -> bool:
    """Return whether SIGHUP says that somebody's terminal was closed, and not that the service is to begin anew."""
    return sys.stdin is not None and sys.stdin.isatty()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the fastest loop there is, and return what it returns."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`, or the one that this process was given.

    A socket is given as systemd does it (sd_listen_fds(3)), by `begin_anew` too. Raises `StartError`.
    """
    given = _given()
    if given is not None:
        return given
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        # Python adds the address in brackets, which stands there already.
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from error


def _given() -> socket.socket | None:
    """Return the socket that this process was given to listen on, if there is one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    many = os.environ.pop("LISTEN_FDS", "")
    del os.environ["LISTEN_PID"]
    if many != "1":
        raise StartError(f"the service listens on exactly one inherited socket, but LISTEN_FDS has {many or 'none'}")
    try:
        given = socket.socket(fileno=_FIRST_INHERITED)
        given.getsockname()
    except OSError as error:
        raise StartError(f"cannot listen on the inherited socket: {error.strerror}") from error
    os.set_inheritable(_FIRST_INHERITED, False)
    return given


def begin_anew(listening: socket.socket) -> NoReturn:
    """Replace this process by a new one of the same command, which listens on the same socket.

    Whoever connects meanwhile waits for it.
    """
    give(listening.fileno())
    os.set_inheritable(_FIRST_INHERITED, True)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def give(descriptor: int) -> None:
    """Let this process find a socket to `listen` on."""
    if descriptor != _FIRST_INHERITED:
        os.dup2(descriptor, _FIRST_INHERITED)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")


def runner_of(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return what starts and stops `app`; the log has its own lines of requests."""
    return web.AppRunner(app, shutdown_timeout=settings.shutdown_timeout, access_log=None)


async def prepare(settings: Settings, plugins: Sequence[Plugin]) -> None:
    """Bring the database up to date before any process serves; raises `StartError` where a required plugin is out."""
    runner = runner_of(create_app(settings, plugins), settings)
    try:
        await runner.setup()
        require(runner.app[SERVICE])
    finally:
        await runner.cleanup()


async def serve(
    settings: Settings,
    plugins: Sequence[Plugin],
    listening: socket.socket,
    started: Callable[[Service], None],
    read_settings: Callable[[], Settings],
    shared: Shared | None = None,
) -> socket.socket | None:
    """Serve on `listening` until a signal says stop; what was accepted by then is answered.

    `started` is called once requests can be taken; what it raises ends the service. `shared` is there where other
    processes serve as well. Returns None; after SIGHUP the socket, on which the service is to `begin_anew`, and which
    has waiting whoever has connected meanwhile. Where `read_settings` then fails, or names what is not installed,
    it goes on as it is.
    """
    kept = None
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (*_STOPPING, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    runner = runner_of(create_app(settings, plugins, shared=shared), settings)
    try:
        await runner.setup()
        started(runner.app[SERVICE])
        await web.SockSite(runner, listening).start()
        told = await _told(signals, read_settings)
        log.info("stopping after %s", told.name)
        if told == signal.SIGHUP and not ends_with_its_terminal():
            kept = listening.dup()
        elif told == signal.SIGTERM and settings.drain_seconds:
            await _drain(runner, settings.drain_seconds, signals)
    finally:
        await runner.cleanup()
    return kept


def check(settings: Settings) -> None:
    """Raise `SettingsError` where what `settings` name is not there, without which no process could serve."""
    extensions.check(settings.middlewares)
    if settings.tracing:
        tracing.check()


async def _told(signals: asyncio.Queue[signal.Signals], read_settings: Callable[[], Settings]) -> signal.Signals:
    """Wait for the signal that ends this; one to begin anew does not, while there are no settings to do it with."""
    while True:
        told = await signals.get()
        if told != signal.SIGHUP or ends_with_its_terminal():
            return told
        try:
            check(read_settings())
        except SettingsError as error:
            log.error("the settings are unchanged: %s", error)
        else:
            return told


async def _drain(runner: web.AppRunner, seconds: float, signals: asyncio.Queue[signal.Signals]) -> None:
    """Go on serving, and let balancers see that they should look elsewhere; a further signal ends that."""
    runner.app[SERVICE].drain()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await signals.get()


def require(service: Service) -> None:
    """Raise `StartError` where a required plugin is out."""
    missing = service.missing()
    if missing:
        faults = {plugin.name: plugin.fault or plugin.state for plugin in service.plugins}
        told = "; ".join(f"{name}: {faults.get(name, 'not installed')}" for name in missing)
        raise StartError(f"a required plugin is not available: {told}")
