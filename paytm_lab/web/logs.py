"""Structured logs: a JSON object a line, with the trace and payment that it is about, and never a
secret.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from paytm_lab.web import tracing

# Field names under which a record may carry more than its text.
FIELDS = ("service", "payment_id", "user_id", "method", "route", "status", "ms")
_SECRETS = re.compile(
    r"eyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JWT
    r"|\$argon2\w*\$\S+"  # a password's hash
    r"|(?i:bearer)\s+\S+"
    r"|(?i:password|refresh_token|authorization)[\"']?\s*[:=]\s*[\"']?[^\s\"',}]+"
)


def without_secrets(text: str) -> str:
    return _SECRETS.sub("[secret]", text)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(text),
        }
        trace_id = tracing.trace_id_of(tracing.current.get())
        if trace_id:
            line["trace_id"] = trace_id
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        return msgspec.json.encode(line, enc_hook=str).decode()


def to_stream(level: str, stream: TextIO | None = None) -> None:
    """Send all logs there (stderr) as JSON lines, in place of what was set before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Its access log says less than ours, and would say it twice.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # starts and ends are said by us
