"""The log: one line an event, as readable text or as JSON."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from pegboard import rendering

access = logging.getLogger("pegboard.access")
"""One line for each request, at level info; what it tells stands in `extra` under `fields`."""


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
            line += "".join(f" {name}={value}" for name, value in fields.items() if value != "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


FORMATS = {"text": TextFormatter, "json": JsonFormatter}


def configure(level: str, form: str) -> None:
    """Send the log to standard error from `level` on, in the form `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _sayable(text: str) -> str:
    """Return `text` on one line, without what UTF-8 cannot say."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")
