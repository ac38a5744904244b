"""One request to a token endpoint (RFC 6749 4.4.2, 6), over TLS that is verified; no redirect is followed, no proxy of the environment asked."""

import base64
import http.client
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus, urlencode, urlsplit

from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import Issue, Unavailable, read_reply
from mailfleet_workers.secret import Secret

#: An answer is no longer, in bytes.
MOST = 65_536


#: Hears of the connection before it is used, so that somebody else can break it off.
Opened = Callable[[http.client.HTTPConnection], object]


def ask(
    client: OAuthClient, environ: Mapping[str, str], refresh_token: Secret | None, opened: Opened
) -> Issue:
    """What the endpoint of *client* says. May take longer than `timeout_s` where a server dawdles; the caller contains that.

    *refresh_token* is the one to use, None for a grant without. Raises SettingsError where a secret is missing.
    """
    assert client.token_url is not None  # noqa: S101 - the caller has a provider otherwise
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
        "Connection": "close",
    }
    fields: dict[str, str] = {"grant_type": client.grant}
    if refresh_token is not None:
        fields["refresh_token"] = refresh_token.reveal(environ)
    if client.scope is not None:
        fields["scope"] = client.scope
    secret = None if client.client_secret is None else client.client_secret.reveal(environ)
    if client.client_auth == "basic" and secret is not None:
        # RFC 6749 2.3.1: both are encoded as in a form before they are put together.
        pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    else:
        fields["client_id"] = client.client_id
        if secret is not None:
            fields["client_secret"] = secret
    parts = urlsplit(client.token_url)
    try:
        context = ssl.create_default_context(cafile=client.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except OSError:
        return Unavailable("oauth.ca_file cannot be read")
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=client.timeout_s, context=context
    )
    opened(connection)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body=urlencode(fields).encode(), headers=headers)
        answer = connection.getresponse()
        body = answer.read(MOST + 1)
        if len(body) > MOST:
            return Unavailable("an answer that is too long")
        return read_reply(answer.status, body, _seconds(answer.getheader("Retry-After")))
    except (OSError, http.client.HTTPException) as error:
        return Unavailable(_words(error))
    finally:
        connection.close()


def _words(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message}"
        case TimeoutError():
            return "no answer in time"
        case OSError() if error.strerror:
            return error.strerror
        case _:
            # The text of others may quote what was read.
            return type(error).__name__


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
