"""The log: one line an event, as readable text or as JSON."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from time import perf_counter

from pegboard import rendering
from pegboard.web.http import Request, Response

access = logging.getLogger("pegboard.access")
"""One line for each request, at level info; what it tells stands in `extra` under `fields`."""

_CHATTY = ("asyncio", "gunicorn.error")


class JsonFormatter(logging.Formatter):
    """Write a record as one JSON object: `time`, `level`, `logger`, `message`, and the fields of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; text that JSON cannot say is escaped, so that no record is lost."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _sayable(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = _sayable(self.formatException(record.exc_info))
        return rendering.dumps(entry).decode()


class TextFormatter(logging.Formatter):
    """Write a record as a line to read; an exception's lines follow it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        moment = rendering.instant(datetime.fromtimestamp(record.created, UTC))
        line = f"{moment} {record.levelname.lower():7} {record.name}: {_sayable(record.getMessage())}"
        fields = getattr(record, "fields", None)
        if fields:
            line += "".join(f" {name}={_word(value)}" for name, value in fields.items() if value != "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


FORMATS = {"text": TextFormatter, "json": JsonFormatter}


def configure(level: str, form: str) -> None:
    """Send the log to standard error from `level` on, in the form `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def tell(request: Request, response: Response) -> None:
    """Log one request with its answer; of an answer that is streamed, the time until it begins."""
    fields = {
        "method": request.method,
        "template": request.template,
        "status": response.status,
        "ms": round((perf_counter() - request.received) * 1000, 1),
        "client": request.client.username if request.client is not None else "",
        "request": request.id,
        "plugin": request.plugin,
    }
    access.info("request", extra={"fields": fields})


def _word(value: object) -> object:
    """Return `value` as it can stand behind `name=`: what has spaces or worse, as a user name may, in quotes."""
    return value if not isinstance(value, str) or (value.isprintable() and " " not in value) else repr(value)


def _sayable(text: str) -> str:
    """Return `text` on one line, without what UTF-8 cannot say."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")
