"""Processes that share tokens, as far as a test needs them: what one has, what it gets, and their rows."""

import random
from typing import Any

from sqlalchemy import Engine, text

from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.statements import oauth_token
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.rows import DatabaseRows
from mailfleet_workers.accounts.oauth.tokens import NoToken, Token, Tokens
from mailfleet_workers.secret import Secret

SECRET = "canary-client-secret"
ENVIRON = {"CLIENT_SECRET": SECRET, "REFRESH": "canary-refresh-0"}
REFRESHING: dict[str, Any] = {"grant": "refresh_token", "refresh_token": Secret("env:REFRESH")}


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def process(engine: Engine | None, environ: dict[str, str] | None = None, **more: Any) -> Tokens:
    """What one process has of it."""
    rows = None if engine is None else DatabaseRows(engine)
    return Tokens(environ or ENVIRON, rows, **{"rng": random.Random(1), **more})


def token(tokens: Tokens, client: OAuthClient, account: str = "tenant") -> str:
    found = tokens.token(account, client)
    assert isinstance(found, Token), found
    return found.value.reveal({})


def why(tokens: Tokens, client: OAuthClient) -> str:
    found = tokens.token("tenant", client)
    assert isinstance(found, NoToken), found
    return found.why


def ago(engine: Engine, column: str, seconds: float) -> None:
    d = dialect_named(engine.dialect.name)
    then = d.plus(column, "-CAST(:seconds AS DOUBLE PRECISION)")
    with engine.begin() as connection:
        connection.execute(
            text(d.format(f"UPDATE {{oauth_token}} SET {column} = {then}")), {"seconds": seconds}
        )


def rows(engine: Engine) -> list[oauth_token.StoredToken]:
    with engine.connect() as connection:
        return oauth_token.beginning(connection, "")
