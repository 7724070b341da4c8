"""Guarded execution of plugin code at startup: timeouts, and restoring process-wide state."""

from __future__ import annotations

import asyncio.events
import gc
import locale
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from typing import Any

log = logging.getLogger("pegboard.plugins")

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)
_LOGGERS = (
    *("pegboard", "pegboard.access", "pegboard.auth", "pegboard.openapi", "pegboard.plugins"),
    *("aiohttp", "aiohttp.server", "aiohttp.web", "asyncio", "asyncpg", "gunicorn", "gunicorn.error"),
)


class TookTooLong(BaseException):
    """Interrupt code of a plugin that takes too long; not an `Exception`, so that the plugin does not catch it."""


class Stopped(KeyboardInterrupt):
    """Stop the start because of a signal; never mistaken for an error of a plugin."""


def is_stop_request(error: BaseException) -> bool:
    """Return whether `error` comes from a signal that stops the process, and not from a plugin."""
    if isinstance(error, Stopped):
        return True
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _loggers() -> list[logging.Logger]:
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]


def _read_logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    own_loggers = [logging.getLogger(name) for name in _LOGGERS]
    return (
        (root.level, tuple(root.handlers), tuple(root.filters), logging.root.manager.disable),
        # `logging.config` by default disables the loggers of all other plugins, too.
        frozenset(logger for logger in _loggers() if logger.disabled),
        tuple(
            (logger, logger.level, logger.disabled, logger.propagate, tuple(logger.handlers)) for logger in own_loggers
        ),
    )


def _restore_logging(state: tuple[Any, ...]) -> None:
    (level, handlers, filters, disabled), disabled_loggers, own_loggers = state
    root = logging.getLogger()
    root.handlers[:], root.filters[:] = handlers, filters
    root.setLevel(level)
    logging.disable(disabled)
    for logger in _loggers():
        logger.disabled = logger in disabled_loggers
    for logger, own_level, is_disabled, propagate, own_handlers in own_loggers:
        logger.disabled, logger.propagate = is_disabled, propagate
        logger.handlers[:] = own_handlers
        logger.setLevel(own_level)


def _read_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _restore_handlers(state: Mapping[int, Any]) -> None:
    for number, handler in state.items():
        # A handler that was installed from C is None, and cannot be restored.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return partial(getattr, owner, name), partial(setattr, owner, name)


_PROCESS_STATE: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "the logging configuration": (_read_logging, _restore_logging),
    "the signal handlers": (_read_handlers, _restore_handlers),
    # Not by its getter, which is deprecated in Python 3.14.
    "the event loop policy": _attribute(asyncio.events, "_event_loop_policy"),
    "sys.excepthook": _attribute(sys, "excepthook"),
    "sys.unraisablehook": _attribute(sys, "unraisablehook"),
    "threading.excepthook": _attribute(threading, "excepthook"),
    "sys.stderr": _attribute(sys, "stderr"),
    "the working directory": (os.getcwd, os.chdir),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the default socket timeout": (socket.getdefaulttimeout, socket.setdefaulttimeout),
    "the garbage collector": (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    "the locale": (partial(locale.setlocale, locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL)),
}
"""The process-wide state that plugins must not change: for each part a getter and a setter."""


@contextmanager
def bounded(name: str, seconds: float) -> Iterator[None]:
    """Run the block on behalf of the plugin `name`, for at most `seconds`, and restore the state of the process.

    Raises `TookTooLong` in the block when the time is up. That interrupts Python code, sleeps and system calls, but no
    loop in C; the limit applies on the main thread only. The block prints to standard error, since standard output
    belongs to the command that runs.
    """
    before = {what: read() for what, (read, _) in _PROCESS_STATE.items()}
    try:
        with redirect_stdout(sys.stderr), _time_limit(seconds):
            yield
    finally:
        _restore(name, before)


def _restore(name: str, before: Mapping[str, Any]) -> None:
    for what, (read, restore) in _PROCESS_STATE.items():
        changed = True
        with suppress(Exception):
            changed = read() != before[what]
        if changed:
            restore(before[what])
            log.warning("plugin %s changed %s, which is global to the process: it was restored", name, what)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise TookTooLong(f"it took more than {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, interrupt)
    # Repeatedly, for code that catches every exception.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
