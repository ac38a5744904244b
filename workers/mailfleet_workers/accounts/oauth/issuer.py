"""Asking for a token, at a token endpoint or an own provider, within a time limit and whatever it does."""

import http.client
import threading
from collections.abc import Mapping
from dataclasses import replace

from mailfleet_workers.accounts.oauth import endpoint, providers
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import Issue, Issued, Refused, Unavailable
from mailfleet_workers.contained import Containment, Overdue, Raised, Returned
from mailfleet_workers.secret import Secret
from mailfleet_workers.webhooks.posting import break_off


class Issuer:
    """One process's; thread-safe. *find* finds own providers."""

    def __init__(self, environ: Mapping[str, str], find: providers.Find = providers.installed) -> None:
        self._environ = environ
        self._find = find
        self._lock = threading.Lock()
        #: By provider, "" for token endpoints: who hangs keeps only its own accounts waiting.
        self._contained: dict[str, Containment] = {}

    @property
    def lost(self) -> int:
        """How many requests were given up and have not ended."""
        with self._lock:
            return sum(one.lost for one in self._contained.values())

    def ask(self, account: str, client: OAuthClient, following: Secret | None) -> Issue:
        """One refresh for *account*, within the timeout of *client*. Never raises.

        *following* is the refresh token that the server gave last, None where it gave none; one that it goes on to take is
        in what was issued, as is the next.
        """
        asking: list[http.client.HTTPConnection] = []

        def once(refresh_token: Secret | None) -> Issue:
            if client.provider is not None:
                return providers.ask(account, client, self._environ, refresh_token, self._find)
            return endpoint.ask(client, self._environ, refresh_token, asking.append)

        def call() -> Issue:
            if client.grant != "refresh_token" or following is None:
                return once(client.refresh_token)
            match once(following):
                case Issued(refresh_token=None) as issued:
                    return replace(issued, refresh_token=following)
                case Refused(why) if why.startswith("invalid_grant"):
                    # Servers that change them may still know the first.
                    return once(client.refresh_token)
                case found:
                    return found

        outcome = self._containment(client).run(call, client.timeout_s)
        for connection in asking:
            # A server may say one byte at a time: no timeout of a socket ends that.
            break_off(connection)
        match outcome:
            case Returned(value=issue):
                return issue
            case Raised(error=error):
                # Its text may hold anything, a token even.
                return Unavailable(type(error).__name__)
            case Overdue(after_s=None):
                return Unavailable("earlier requests still hang")
            case Overdue():
                return Unavailable(f"no answer within {client.timeout_s:g} s")

    def _containment(self, client: OAuthClient) -> Containment:
        name = client.provider or ""
        with self._lock:
            if name not in self._contained:
                self._contained[name] = Containment(f"mailfleet-oauth-{name}".rstrip("-"))
            return self._contained[name]

    def close(self) -> None:
        """End the threads that wait for work."""
        with self._lock:
            contained = list(self._contained.values())
        for one in contained:
            one.close()
