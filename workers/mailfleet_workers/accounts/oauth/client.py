"""What a worker knows of an OAuth client (RFC 6749 1.1): where its tokens come from, and where its secrets are kept."""

from dataclasses import dataclass, field
from typing import Literal

from mailfleet_workers.secret import Secret

Grant = Literal["refresh_token", "client_credentials"]
ClientAuth = Literal["body", "basic"]


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """Values only. Either `token_url` (https) or `provider`, an entry point's name, says where tokens come from.

    At least one of `client_secret` and `refresh_token` is there: what is stored is sealed with them. `client_auth` says where
    the client's secret goes, in the request's body or in its header (RFC 6749 2.3.1). `ca_file` None: the system's
    certificate authorities. `timeout_s` is for a whole refresh.
    """

    client_id: str
    token_url: str | None = None
    provider: str | None = None
    client_secret: Secret | None = field(default=None, repr=False)
    refresh_token: Secret | None = field(default=None, repr=False)
    scope: str | None = None
    grant: Grant = "refresh_token"
    client_auth: ClientAuth = "body"
    ca_file: str | None = None
    timeout_s: float = 10.0

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The references that have to be there."""
        return tuple(one for one in (self.client_secret, self.refresh_token) if one is not None)
