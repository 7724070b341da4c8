"""The log: one line an event, as readable text or as JSON."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from os import getpid
from time import time
from types import TracebackType
from typing import Any, TextIO

import asyncpg
import orjson

from pegboard.http.request import RequestState
from pegboard.http.tracecontext import trace_id

access = logging.getLogger("pegboard.access")
"""One line for each request, at level info; what it tells stands in `extra` under `fields`."""

_CHATTY = ("asyncio", "gunicorn.error")
_PLAIN = (int, float, bool, type(None))
_NUMBERS = (int, float)
_LETTERS = re.compile(r"[A-Za-z0-9._/{}*:@+-]+").fullmatch

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter, ABC):
    """Write a record as one line, whatever is in it: nothing that comes from a client can begin another.

    Never raises. Of what PostgreSQL says in an error, its details are left out: they hold what is stored.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        fields = getattr(record, "fields", None)
        fields = fields if isinstance(fields, dict) else {}
        failure = self.formatException(record.exc_info) if record.exc_info else ""
        return self.line(record, _message(record), fields, failure)

    @abstractmethod
    def line(self, record: logging.LogRecord, message: str, fields: dict[str, Any], failure: str) -> str:
        """Return the line that tells all of this; `failure` is a traceback, or empty."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: D102 - as logging calls it
        try:
            with _without_details(ei[1]):
                return "".join(traceback.format_exception(*ei)).rstrip("\n")
        except Exception:
            return f"{ei[0].__name__ if ei[0] else 'an error'}, without further details"


class JsonFormatter(LineFormatter):
    """Write a record as one JSON object: `time`, `level`, `logger`, `message`, and the fields of a request."""

    def line(self, record: logging.LogRecord, message: str, fields: dict[str, Any], failure: str) -> str:
        """Return the object, its strings without what is not to be seen."""
        entry = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            **fields,
        }
        if failure:
            entry["exception"] = failure
        try:
            line = orjson.dumps(entry).decode()
        except TypeError:
            line = ""
        # Nearly every line is told as it stands: JSON escapes line ends, and what else is not to be seen is rare.
        if line and line.isprintable():
            return line
        return orjson.dumps({_shown(name): _plain(value) for name, value in entry.items()}).decode()


class TextFormatter(LineFormatter):
    """Write a record as a line to read; the lines of an exception follow it, indented, so that they look like none."""

    def line(self, record: logging.LogRecord, message: str, fields: dict[str, Any], failure: str) -> str:
        """Return the line, and those of the exception."""
        line = f"{_moment(record)} {record.levelname.lower():7} {record.name}: {_sayable(message)}"
        if fields:
            line += "".join(
                [
                    f" {name}={value if type(value) in _NUMBERS or _is_plain(value) else _word(value)}"
                    for name, value in fields.items()
                    if value != ""
                ]
            )
        return line + "".join(f"\n  {_sayable(part)}" for part in failure.split("\n")) if failure else line


FORMATS: Mapping[str, Callable[[], LineFormatter]] = {"text": TextFormatter, "json": JsonFormatter}


class AccessRecord(logging.LogRecord):
    """Be the record of one request: what all of them share is not looked up again for each."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(_SHARED)
        now = time()
        self.fields = fields
        self.process = getpid()
        self.created = now
        self.msecs = float(int(now * 1000) % 1000)
        self.relativeCreated = (now - _SHARED["created"]) * 1000 + _SHARED["relativeCreated"]


class _Handler(logging.StreamHandler[TextIO]):
    """Write each line at once; standard error is never held back, so that it need not be flushed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


_SHARED = logging.LogRecord(access.name, logging.INFO, __file__, 0, "request", (), None, "tell").__dict__


def configure(level: str, form: str) -> None:
    """Send the log to standard error from `level` on, in the form `text` or `json`."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def tell(state: RequestState, method: str, status: int, seconds: float, size: int) -> None:
    """Log one request, answered with `status` and `size` bytes of body after so many seconds."""
    fields = {
        "method": method,
        "template": state.path.template,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes": size,
        "client": state.client.username if state.client is not None else "",
        "request": state.id,
        "plugin": state.path.plugin,
    }
    if state.traceparent is not None:
        fields["trace_id"] = trace_id(state.traceparent)
    access.handle(AccessRecord(fields))


def _moment(record: logging.LogRecord) -> str:
    """Return when it was, in UTC: `2015-02-15T05:21:07.123Z`, since within a second much happens."""
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()[:-6]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # Its arguments do not fit: it is told without them, and not with a traceback that shows them.
        return str(record.msg)


def _plain(value: object) -> object:
    """Return `value` as JSON can say it; a text of several lines keeps them."""
    if isinstance(value, str):
        return "\n".join(map(_sayable, value.split("\n")))
    small = isinstance(value, _PLAIN) and not (isinstance(value, int) and abs(value) >= 2**53)
    return value if small else _shown(value)


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and _LETTERS(value) is not None


def _word(value: object) -> str:
    """Return `value` as it can stand behind `name=`: what has spaces or worse, as a user name may, in quotes."""
    if not isinstance(value, str):
        value = _shown(value)
    plain = value.isprintable() and " " not in value and '"' not in value and "=" not in value
    return value if plain else orjson.dumps(_sayable(value)).decode()


def _shown(value: object) -> str:
    try:
        return _sayable(str(value))
    except Exception:
        return f"a {type(value).__name__}"


def _sayable(text: str) -> str:
    """Return `text` with all that is not to be seen escaped: control characters, line ends, lone surrogates.

    The marks that turn the direction of text round are among them: with them a line shows what it does not say.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])


@contextmanager
def _without_details(error: BaseException | None) -> Iterator[None]:
    """Keep the details that PostgreSQL gives of `error`, and of those it comes from, out of what is written here."""
    details = [(each, each.detail) for each in _chain(error) if isinstance(each, asyncpg.PostgresError) and each.detail]
    for each, _ in details:
        each.detail = "(left out)"
    try:
        yield
    finally:
        for each, detail in details:
            each.detail = detail


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return `error` and all that it comes from or holds."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or any(each is known for known in found):
            continue
        found.append(each)
        waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return found
