"""The databases of tests as Django knows them: one alias for each engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import django
from django.conf import settings
from django.db import connections
from sqlalchemy import Engine

if not settings.configured:
    settings.configure(
        DATABASES={}, USE_TZ=True, DEFAULT_FROM_EMAIL="Shop <shop@example.com>", LOGGING_CONFIG=None
    )
    django.setup()


@contextmanager
def known_to_django(engine: Engine) -> Iterator[str]:
    """*engine*'s database under an alias, until the end of the block."""
    url = engine.url
    kind = "sqlite3" if url.get_backend_name() == "sqlite" else "postgresql"
    table: dict[str, Any] = {
        "ENGINE": f"django.db.backends.{kind}",
        "NAME": url.database,
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": url.host or url.query.get("host", ""),
        "PORT": url.port or "",
    }
    alias = f"database-{uuid4().hex}"
    connections.settings |= {alias: connections.configure_settings({"default": {}, alias: table})[alias]}
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]
