"""Code of a plugin that runs at the start: the time it has, and what of the process it must leave as it was."""

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
    """Cut off code of a plugin that runs at the start; no `except Exception` of its own stops it."""


class Stopped(KeyboardInterrupt):
    """End the start, because a signal has asked for it: no plugin's fault, and so never taken for one."""


def is_asked_for(error: BaseException) -> bool:
    """Tell whether whoever runs the process ends it by `error`, which a plugin could have raised as well."""
    if isinstance(error, Stopped):
        return True
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _loggers() -> list[logging.Logger]:
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]


def _logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    ours = [logging.getLogger(name) for name in _LOGGERS]
    return (
        (root.level, tuple(root.handlers), tuple(root.filters), logging.root.manager.disable),
        # `logging.config` disables the loggers of all other plugins, too, unless it is told not to.
        frozenset(logger for logger in _loggers() if logger.disabled),
        tuple((logger, logger.level, logger.disabled, logger.propagate, tuple(logger.handlers)) for logger in ours),
    )


def _set_logging(state: tuple[Any, ...]) -> None:
    (level, handlers, filters, disabled), silent, ours = state
    root = logging.getLogger()
    root.handlers[:], root.filters[:] = handlers, filters
    root.setLevel(level)
    logging.disable(disabled)
    for logger in _loggers():
        logger.disabled = logger in silent
    for logger, own_level, off, propagates, own_handlers in ours:
        logger.disabled, logger.propagate = off, propagates
        logger.handlers[:] = own_handlers
        logger.setLevel(own_level)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _set_handlers(state: Mapping[int, Any]) -> None:
    for number, handler in state.items():
        # Set by C, there is nothing that could be put back.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return partial(getattr, owner, name), partial(setattr, owner, name)


_KEPT: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "the logging configuration": (_logging, _set_logging),
    "the signal handlers": (_handlers, _set_handlers),
    # Not by its getter, which Python 3.14 warns of.
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
"""What belongs to all of the process, each with what reads it and what puts it back."""


@contextmanager
def bounded(name: str, seconds: float) -> Iterator[None]:
    """Run what is inside for the plugin `name`: for at most `seconds`, and without lasting traces on the process.

    Raises `TookTooLong` into what is inside when its time is over, which reaches Python code, sleeps and system calls,
    but no loop within C; on another thread than the main one there is no such bound. What is printed inside goes to
    standard error, since standard output belongs to the command that runs.
    """
    before = {what: read() for what, (read, _) in _KEPT.items()}
    try:
        with redirect_stdout(sys.stderr), _alarm(seconds):
            yield
    finally:
        _put_back(name, before)


def _put_back(name: str, before: Mapping[str, Any]) -> None:
    for what, (read, put_back) in _KEPT.items():
        changed = True
        with suppress(Exception):
            changed = read() != before[what]
        if changed:
            put_back(before[what])
            log.warning("plugin %s changed %s, which is global to the process: it was restored", name, what)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def cut(*_: object) -> None:
        raise TookTooLong(f"it took more than {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, cut)
    # Again and again, for code that catches everything.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
