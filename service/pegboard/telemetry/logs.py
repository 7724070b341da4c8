"""The log: one line per event, as text or as JSON."""

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
"""The logger of requests: one record for each, at level info, with its data in the attribute `fields`."""

_CHATTY = ("asyncio", "gunicorn.error")
_JSON_TYPES = (int, float, bool, type(None))
_NUMBERS = (int, float)
_UNQUOTED = re.compile(r"[A-Za-z0-9._/{}*:@+-]+").fullmatch

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter, ABC):
    """Format a record as one line, whatever it contains: data from a client can never start another line.

    Never raises. The details of PostgreSQL's errors are omitted: they contain stored data.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        fields = getattr(record, "fields", None)
        fields = fields if isinstance(fields, dict) else {}
        failure = self.formatException(record.exc_info) if record.exc_info else ""
        return self.line(record, _message(record), fields, failure)

    @abstractmethod
    def line(self, record: logging.LogRecord, message: str, fields: dict[str, Any], failure: str) -> str:
        """Return the line for a record with these parts; `failure` is a traceback, or empty."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: D102 - as logging calls it
        try:
            with _without_details(ei[1]):
                return "".join(traceback.format_exception(*ei)).rstrip("\n")
        except Exception:
            return f"{ei[0].__name__ if ei[0] else 'an error'}, without further details"


class JsonFormatter(LineFormatter):
    """Format a record as one JSON object: `time`, `level`, `logger`, `message`, and the fields of a request."""

    def line(self, record: logging.LogRecord, message: str, fields: dict[str, Any], failure: str) -> str:
        """Return the object, with unprintable characters escaped in its strings."""
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
        # Nearly every line needs no more escaping: JSON escapes line ends, and other unprintable characters are rare.
        if line and line.isprintable():
            return line
        return orjson.dumps({_text(name): _json_value(value) for name, value in entry.items()}).decode()


class TextFormatter(LineFormatter):
    """Format a record as a line of text; the lines of a traceback follow it, indented to distinguish them."""

    def line(self, record: logging.LogRecord, message: str, fields: dict[str, Any], failure: str) -> str:
        """Return the line, followed by those of the traceback."""
        line = f"{_moment(record)} {record.levelname.lower():7} {record.name}: {_escaped(message)}"
        if fields:
            line += "".join(
                [
                    f" {name}={value if type(value) in _NUMBERS or _needs_no_quotes(value) else _quoted(value)}"
                    for name, value in fields.items()
                    if value != ""
                ]
            )
        return line + "".join(f"\n  {_escaped(part)}" for part in failure.split("\n")) if failure else line


FORMATS: Mapping[str, Callable[[], LineFormatter]] = {"text": TextFormatter, "json": JsonFormatter}


class AccessRecord(logging.LogRecord):
    """Represent the record of one request; the attributes that all requests share are computed only once."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(_SHARED)
        now = time()
        self.fields = fields
        self.process = getpid()
        self.created = now
        self.msecs = float(int(now * 1000) % 1000)
        self.relativeCreated = (now - _SHARED["created"]) * 1000 + _SHARED["relativeCreated"]


class _Handler(logging.StreamHandler[TextIO]):
    """Write each line immediately, without a flush: standard error is not buffered."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line for a record."""
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


_SHARED = logging.LogRecord(access.name, logging.INFO, __file__, 0, "request", (), None, "log_request").__dict__


def configure(level: str, form: str) -> None:
    """Write the log to standard error, from `level` on, in the format `text` or `json`."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def log_request(state: RequestState, method: str, status: int, seconds: float, size: int) -> None:
    """Log one request: the `status` of its response, its body's `size` in bytes, and its duration in `seconds`."""
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
    """Return the time of a record in UTC: `2015-02-15T05:21:07.123Z`, with milliseconds to order events."""
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()[:-6]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # Its arguments do not match: it is logged without them, as a traceback would show them.
        return str(record.msg)


def _json_value(value: object) -> object:
    """Return `value` as a value that JSON can represent; text keeps its line ends."""
    if isinstance(value, str):
        return "\n".join(map(_escaped, value.split("\n")))
    small = isinstance(value, _JSON_TYPES) and not (isinstance(value, int) and abs(value) >= 2**53)
    return value if small else _text(value)


def _needs_no_quotes(value: object) -> bool:
    return isinstance(value, str) and _UNQUOTED(value) is not None


def _quoted(value: object) -> str:
    """Return `value` for use after `name=`: in quotes if it has spaces or special characters, as a user name may."""
    if not isinstance(value, str):
        value = _text(value)
    plain = value.isprintable() and " " not in value and '"' not in value and "=" not in value
    return value if plain else orjson.dumps(_escaped(value)).decode()


def _text(value: object) -> str:
    try:
        return _escaped(str(value))
    except Exception:
        return f"a {type(value).__name__}"


def _escaped(text: str) -> str:
    """Return `text` with unprintable characters escaped: control characters, line ends, lone surrogates.

    They include the marks that change the direction of text, by which a line could display something else.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])


@contextmanager
def _without_details(error: BaseException | None) -> Iterator[None]:
    """Remove the details of PostgreSQL's errors from `error` and its causes for the duration of the context."""
    details = [(each, each.detail) for each in _chain(error) if isinstance(each, asyncpg.PostgresError) and each.detail]
    for each, _ in details:
        each.detail = "[redacted]"
    try:
        yield
    finally:
        for each, detail in details:
            each.detail = detail


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return `error`, its causes, and the errors in its groups."""
    chain: list[BaseException] = []
    pending = [error]
    while pending:
        each = pending.pop()
        if each is None or any(each is visited for visited in chain):
            continue
        chain.append(each)
        pending += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return chain
