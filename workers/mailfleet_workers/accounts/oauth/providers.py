"""Where tokens come from that no token endpoint gives: entry points of the group `mailfleet.token_providers`.

```toml
[project.entry-points."mailfleet.token_providers"]
vault = "crm.mail_tokens:provide"
```
`provide(request)` is given a mapping of strings (`account`, `client_id`, `grant`, and where they are set `scope`, `client_secret`,
`refresh_token`) and returns what a token endpoint would say: `{"access_token": "…", "expires_in": 3600}`, or `{"error": "invalid_grant"}`.
What it raises is a failure for now; its text is not shown, because it may hold anything.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import Issue, Unavailable, read_document
from mailfleet_workers.secret import Secret

GROUP = "mailfleet.token_providers"

Provide = Callable[[Mapping[str, str]], Mapping[str, object]]
#: The provider of a name, None where none is installed.
Find = Callable[[str], Provide | None]


def installed(name: str) -> Provide | None:
    """The provider *name* of this installation; raises what importing it raises."""
    found: Provide | None = next((point.load() for point in entry_points(group=GROUP, name=name)), None)
    return found


def known(name: str) -> bool:
    """Whether provider *name* is installed; imports nothing."""
    return bool(entry_points(group=GROUP, name=name))


def ask(
    account: str, client: OAuthClient, environ: Mapping[str, str], refresh_token: Secret | None, find: Find
) -> Issue:
    """What the provider of *client* says. May raise or hang; the caller contains that."""
    assert client.provider is not None  # noqa: S101 - the caller has an endpoint otherwise
    provide = find(client.provider)
    if provide is None:
        return Unavailable(f"provider {client.provider} is not installed here")
    request = {"account": account, "client_id": client.client_id, "grant": client.grant}
    if client.scope is not None:
        request["scope"] = client.scope
    if client.client_secret is not None:
        request["client_secret"] = client.client_secret.reveal(environ)
    if refresh_token is not None:
        request["refresh_token"] = refresh_token.reveal(environ)
    answer: object = provide(request)
    return (
        read_document(answer) if isinstance(answer, Mapping) else Unavailable("an answer that is no mapping")
    )
