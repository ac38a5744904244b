"""What worker processes write to standard error: one line for each event, as JSON or for people.

The formatter is ours and not a package's, because what it leaves out is the point: addresses are hidden, texts are cut
and their control characters escaped, and an exception is shown without what it may quote (`faults`). The loggers of other
packages are heard from WARNING on only, whatever the level: a database library that debugs prints rows.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from mailfleet_schema.topology import ACTOR
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.model import LogSettings
from mailfleet_workers.telemetry import addresses
from mailfleet_workers.telemetry.faults import describe

log = logging.getLogger(__name__)

#: Our own loggers; they have the level that is set.
OURS = ("mailfleet", "mailfleet_schema", "mailfleet_workers")
#: They have names of ours, but dramatiq writes there, and shows what a message brought.
_NOT_OURS = (f"mailfleet_workers.embedded.{ACTOR}", f"mailfleet_workers.fleet.worker.{ACTOR}")
#: Longer texts are cut, in characters; what an exception tells may be longer.
MAX_TEXT = 500
MAX_FAULT = 4000
#: Of longer lists only the beginning is shown.
MAX_ITEMS = 20
#: Not even looked at: hiding addresses costs by the length.
_MOST_READ = 20_000

_ENCODE = json.JSONEncoder(ensure_ascii=True).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says beside time and level: `event`, the record's own fields, and what went wrong."""
    fields: dict[str, Any] = {}
    message = _message(record)
    if message.isidentifier():
        fields["event"] = message
    else:
        # Somebody else's, or ours from a library that applications use.
        fields |= {"event": "message", "message": _plain(message)}
    for name, value in record.__dict__.items():
        if name not in _STANDARD and value is not None:
            fields[name] = _plain(value)
    fields["logger"] = record.name
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        fields |= {name: _text(told, MAX_FAULT) for name, told in describe(error).items()}
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong call of a logger must not cost the line, or print its arguments
        return f"unformatted: {record.msg!s:.100}"


def _text(value: str, most: int = MAX_TEXT) -> str:
    hidden = addresses.hide(value[:_MOST_READ])
    return hidden if len(hidden) <= most else hidden[: most - 1] + "…"


def _plain(value: object) -> Any:
    # Nearly every value is one of these, and every mail has a line.
    if type(value) is int or (type(value) is str and len(value) <= MAX_TEXT and _is_plain(value)):
        return value
    match value:
        case bool() | int():
            return value
        case float():
            return value if abs(value) < float("inf") else str(value)
        case Enum():
            return _plain(value.value)
        case str():
            return _text(value)
        case datetime():
            return value.isoformat()
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in list(value)[:MAX_ITEMS]]
        case Path():
            return _text(str(value))
        case BaseException():
            return type(value).__name__
        case _:
            # Whatever it is, it may hold a mail.
            return f"<{type(value).__name__}>"


def _is_plain(text: str) -> bool:
    return "@" not in text and "%40" not in text


def _instant(record: logging.LogRecord) -> str:
    second = int(record.created)
    return f"{_until_second(second)}.{int((record.created - second) * 1000):03}Z"


@lru_cache(maxsize=4)
def _until_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII: `time` (UTC), `level`, `event`, `app` if the process has one, the fields, `logger`, `pid`."""

    def __init__(self, app: str | None = None) -> None:
        super().__init__()
        self._always = {} if app is None else {"app": app}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _instant(record), "level": record.levelname.lower(), "event": ""}
        line |= self._always
        line |= fields_of(record)
        line["pid"] = os.getpid()
        return _ENCODE(line).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """A line for people: time (UTC), level, event, fields as `name=value`."""

    def __init__(self, app: str | None = None) -> None:
        super().__init__()
        self._always = {} if app is None else {"app": app}

    def format(self, record: logging.LogRecord) -> str:
        fields = self._always | fields_of(record)
        start = f"{_instant(record)} {record.levelname:<7} {fields.pop('event')}"
        return " ".join([start, *(f"{name}={_word(value)}" for name, value in fields.items())])


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in ' "=' for c in text) else text


def _told_by_dramatiq(record: logging.LogRecord) -> bool:
    """Every try during an outage is critical to dramatiq, in a sentence; here it is one event like others."""
    if not record.name.startswith("dramatiq.") or "encountered a connection error" not in str(record.msg):
        return True
    error = str(record.args[0]) if isinstance(record.args, tuple) and record.args else None
    log.warning("broker_lost", extra={"error": error})
    return False


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        # The usual one prints the record with its arguments.
        if logging.raiseExceptions:
            sys.stderr.write(f"log_failed logger={record.name}\n")


def configure(
    settings: LogSettings,
    *,
    app: str | None = None,
    environ: Mapping[str, str] | None = None,
    key: bytes | None = None,
    stream: TextIO | None = None,
) -> None:
    """Let this process log as *settings* say, and nothing else; what nobody caught is logged too.

    *key* is for hashes when none is set: processes that share one (a parent and its children) give an address the same
    word. Raises SettingsError when a key is set and cannot be read. May be called again.
    """
    environ = os.environ if environ is None else environ
    if settings.address_key is not None:
        key = Secret(settings.address_key, key="log.address_key").reveal(environ).encode()
    addresses.use(addresses.Addresses(settings.addresses, key or addresses.new_key()))
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.addFilter(_told_by_dramatiq)
    handler.setFormatter(JsonFormatter(app) if settings.format == "json" else TextFormatter(app))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(max(level, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    for name in _NOT_OURS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
    _collect_less()
    sys.excepthook = _uncaught
    threading.excepthook = _thread_died
    sys.unraisablehook = _unraisable


def _collect_less() -> None:
    """No line says where it was logged, and finding that out is half of its cost (Python's logging HOWTO, Optimization)."""
    logging._srcfile = None  # noqa: SLF001 - as the HOWTO says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("uncaught", exc_info=(kind, error, trace))


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        thread = args.thread.name if args.thread else None
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        log.critical("thread_died", extra={"thread_name": thread}, exc_info=trace)


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        log.error("unraisable", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
