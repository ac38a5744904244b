"""A process that wants a token, as a worker does: `python -m tests.integration.oauth.asker DATABASE TOKEN_URL TIMEOUT MARGIN`.

It says what it got on its standard output.
"""

import os
import sys

from sqlalchemy import make_url

from mailfleet_schema.engine import open_engine
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.rows import DatabaseRows
from mailfleet_workers.accounts.oauth.tokens import Token, Tokens
from mailfleet_workers.secret import Secret
from tests.integration.smtp.dialogue import AUTHORITY


def main(database: str, token_url: str, timeout_s: str, margin_s: str) -> None:
    client = OAuthClient(
        "app-1",
        token_url=token_url,
        client_secret=Secret("env:CLIENT_SECRET"),
        grant="client_credentials",
        ca_file=AUTHORITY,
        timeout_s=float(timeout_s),
    )
    engine = open_engine(make_url(database))
    tokens = Tokens(os.environ, DatabaseRows(engine), margin_s=float(margin_s))
    found = tokens.token("tenant", client)
    print(found.value.reveal({}) if isinstance(found, Token) else found.why, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
