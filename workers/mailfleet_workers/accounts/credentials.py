"""What an account logs in with, looked up at the moment of the login: a password, or an access token.

For SMTP and for every other server that an account has a login at (IMAP's XOAUTH2 takes the same token).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mailfleet.errors import SettingsError
from mailfleet_workers.account import Account
from mailfleet_workers.accounts.oauth.tokens import NoToken, Token, Tokens
from mailfleet_workers.secret import Secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in, and with what: `secret` is a literal, to be revealed where it is sent and nowhere else.

    `kind` says for which mechanisms it is. Never to be sent without TLS.
    """

    username: str = field(repr=False)
    secret: Secret = field(repr=False)
    kind: Literal["password", "token"] = "password"
    token: Token | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class NoCredentials:
    """An account has a login and cannot use it now; `why` says it as the error of an `Answer`: `setting …`, `token …`."""

    why: str


class Logins:
    """The logins of one process; thread-safe. *environ* is where `env:` secrets are; *tokens* None: shared with nobody."""

    def __init__(self, environ: Mapping[str, str], tokens: Tokens | None = None) -> None:
        self._environ = environ
        self._tokens = Tokens(environ) if tokens is None else tokens

    def credentials_of(self, account: Account) -> Credentials | NoCredentials | None:
        """What *account* logs in with now; None where it does not log in. Never raises for what is missing.

        An access token may have to be renewed first, perhaps after somebody else who dies in it: that takes at most three
        times its timeout and ten seconds. Call it before a connection is opened. Nothing that it returns shows a secret by repr.
        """
        if account.username is None:
            return None
        try:
            if account.oauth is not None:
                match self._tokens.token(account.name, account.oauth):
                    case Token() as token:
                        return Credentials(account.username, token.value, "token", token)
                    case NoToken(why):
                        return NoCredentials(why)
            if account.password is None:
                return None
            password = account.password.reveal(self._environ)
        except SettingsError as error:
            return NoCredentials(f"setting {error}")
        return Credentials(account.username, Secret.literal(password, key=account.password.key))

    def rejected(self, account: Account, credentials: Credentials) -> bool:
        """A server refused *credentials*: whether others may do better at once, because these are an old token."""
        if account.oauth is None or credentials.token is None:
            return False
        try:
            return self._tokens.rejected(account.name, account.oauth, credentials.token)
        except SettingsError:
            return False

    def close(self) -> None:
        """End the threads of its tokens."""
        self._tokens.close()
