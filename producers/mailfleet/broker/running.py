"""Which embedded brokers run in this process, and for which database.

Kept apart from `embedded` so that a mailer can ask without loading dramatiq. A forked child starts with none: its
copies of the queues have no consumers.
"""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sqlalchemy import make_url

if TYPE_CHECKING:
    from mailfleet.broker.embedded import EmbeddedBroker

_running: "WeakValueDictionary[str, EmbeddedBroker]" = WeakValueDictionary()
_lock = threading.Lock()


def database_key(url: Any) -> str | None:
    """The same text for the same database, however its URL is written; None for one that lives in memory only.

    *url* is a text or SQLAlchemy's URL. Users, passwords and drivers do not count.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        name = (parsed.database or "").removeprefix("file:").partition("?")[0]
        return None if name in {"", ":memory:"} else f"sqlite:{Path(name).resolve()}"
    return f"{parsed.get_backend_name()}:{parsed.host or ''}:{parsed.port or ''}:{parsed.database or ''}"


def embedded_broker(database_url: Any) -> "EmbeddedBroker | None":
    """The embedded broker that runs in this process for *database_url* (text or URL), None if none does."""
    key = database_key(database_url)
    return None if key is None else running_for(key)


def running_for(key: str) -> "EmbeddedBroker | None":
    """The same for what `database_key` gave, at the price of a look into a dictionary."""
    return _running.get(key)


def announce(key: str, broker: "EmbeddedBroker") -> None:
    """Make *broker* the one for the database *key*. Raises ValueError while another one runs."""
    with _lock:
        if _running.get(key) not in {None, broker}:
            raise ValueError(f"an embedded broker for {key} runs in this process already")
        _running[key] = broker


def retract(key: str, broker: "EmbeddedBroker") -> None:
    """Forget *broker*, if it is the one for *key*."""
    with _lock:
        if _running.get(key) is broker:
            del _running[key]


def _after_fork() -> None:
    # A lock that another thread held at the fork would stay locked for ever.
    global _running, _lock
    _running, _lock = WeakValueDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
