"""Logs as JSON lines on stderr. Never a text, a key, a message of an exception or a path of a request.

An error is logged by its type, what the system called it, and the place in this package where it came up.
"""

from __future__ import annotations

import errno
import io
import logging
import re
import sys
import time
import traceback
from typing import Any, Final

import msgspec

from latebolt.errors import InvalidInput, errno_of
from latebolt.serve.patient_lines import PatientLines

logger = logging.getLogger("latebolt.serve")

_LEVELS: Final = ("debug", "info", "warning", "error")


# What JSON lets through and a terminal obeys or cannot show: DEL, C1 controls (one of them begins escape
# sequences), ends of lines other than LF, and marks that turn the direction of writing.
_UNSEEN: Final = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def _escape(character: re.Match[str]) -> str:
    return f"\\u{ord(character.group()):04x}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line.update(error_fields(record.exc_info[1]))
        return _UNSEEN.sub(_escape, msgspec.json.encode(line).decode())


def _lines_lost(count: int) -> logging.LogRecord:
    fields = {"fields": {"lines": count}}
    return logger.makeRecord(
        logger.name, logging.WARNING, __file__, 0, "log_lines_lost", (), None, extra=fields
    )


def _handler() -> logging.Handler:
    try:
        return PatientLines(sys.stderr.fileno(), _lines_lost)
    except (AttributeError, io.UnsupportedOperation):  # no stderr, or one that a program has put in its place
        return logging.StreamHandler(sys.stderr)


def set_up(level: str) -> None:
    """Send the logs of the server, of the library and of uvicorn to stderr as JSON lines.

    Raises:
        InvalidInput: there is no such level.
    """
    if level not in _LEVELS:
        raise InvalidInput(f"--log-level should be one of {', '.join(_LEVELS)}, got {level!r}.")
    handler = _handler()
    handler.setFormatter(_JsonLines())
    for name in ("latebolt", "uvicorn"):
        target = logging.getLogger(name)
        target.handlers, target.propagate = [handler], False
        target.setLevel(level.upper())
    # Requests are logged by the guard, with their ids; uvicorn's own lines would hold paths.
    logging.getLogger("uvicorn.access").disabled = True
    errors = logging.getLogger("uvicorn.error")
    errors.setLevel(max(logging.WARNING, logging.getLogger("uvicorn").level))


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """One line."""
    logger.log(level, name, extra={"fields": fields})


def error_fields(error: BaseException) -> dict[str, Any]:
    """What a log says of an error: its type, the system's name for it, the innermost place in latebolt."""
    places = [
        f"{frame.f_globals.get('__name__')}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).startswith("latebolt.")
    ]
    number = errno_of(error)
    system = {} if number is None else {"errno": errno.errorcode.get(number, str(number))}
    return {"error": type(error).__name__, **system, "at": places[-1] if places else ""}
