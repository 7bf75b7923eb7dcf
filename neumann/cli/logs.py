"""The server's messages: one line each on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys

from neumann.config import LogConfig
from neumann.format.times import time_text


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def begin(config: LogConfig) -> None:
    """Send all messages of this process from `config.level` up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.format == "json" else _Text())
    logging.basicConfig(handlers=[handler], level=config.level.upper(), force=True)


def _time(record: logging.LogRecord) -> str:
    return time_text(int(record.created * 1_000_000_000))
