"""What token endpoints do wrong, what it means for accounts, and that nothing secret is shown on the way."""

import contextlib
import gc
import itertools
import logging
import threading

import pytest
from sqlalchemy import Engine, text

from mailfleet.errors import SettingsError
from mailfleet_schema.dialects import dialect_named
from mailfleet_workers.accounts.oauth.issued import UNSAID_S
from tests.integration.oauth.fleet import REFRESHING, SECRET, ago, process, rows, token, why
from tests.integration.smtp.dialogue import Dialogue, Peer
from tests.stage.token_endpoint import Says, TokenEndpoint, document, numbered
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            document(400, error="invalid_grant", error_description="canary-token x"),
            "token refused: invalid_grant",
        ),
        (document(401, error="invalid_client"), "token refused: invalid_client"),
        (
            document(
                400, error="invalid_grant", error_description="AADSTS700082: The refresh token has expired"
            ),
            "token refused: invalid_grant AADSTS700082",
        ),
        (document(400, error="temporarily_unavailable"), "token not renewed: temporarily_unavailable"),
        (Says(503, b"<html>"), "token not renewed: status 503"),
        (Says(429, b"", {"Retry-After": "120"}), "token not renewed: status 429"),
        (
            Says(302, b"", {"Location": "https://localhost/"}),
            "token not renewed: status 302, and no answer of OAuth",
        ),
        (Says(200, b"canary"), "token not renewed: status 200, and no answer of OAuth"),
        (Says(200, b"[" * 60_000), "token not renewed: status 200, and no answer of OAuth"),
        (Says(200, b"x" * 70_000), "token not renewed: an answer that is too long"),
        (document(token="canary"), "token not renewed: an answer without a token"),
        (document(access_token="a b"), "token not renewed: an answer without a token"),
    ],
)
def test_what_goes_wrong_is_said_once_to_all(
    engine: Engine, endpoint: TokenEndpoint, said: Says, reason: str
) -> None:
    """The reason is in the row, nobody asks again at once, and nothing of the answer's text is shown."""
    endpoint.answer = lambda _: said
    client = endpoint.client()
    assert [why(process(engine), client) for _ in range(3)] == [reason] * 3
    assert len(endpoint.asked) == 1
    (row,) = rows(engine)
    assert (row.reason, row.sealed) == (reason, None)
    rest_s = 120 if said.status == 429 else 5 if "refused" in reason else 30
    assert row.held_s == pytest.approx(rest_s, abs=4)
    endpoint.answer = numbered()
    ago(engine, "refreshing_until", 121)
    assert token(process(engine), client) == "canary-token-2"
    assert rows(engine)[0].reason is None


def test_an_endpoint_that_does_not_answer_is_given_up(engine: Engine, endpoint: TokenEndpoint) -> None:
    """Within the timeout, however it is silent."""
    endpoint.hold.clear()
    client = endpoint.client(timeout_s=0.3)
    assert why(process(engine), client) in {
        "token not renewed: no answer within 0.3 s",
        "token not renewed: no answer in time",
    }


def test_an_endpoint_that_dawdles_is_broken_off(engine: Engine, endpoint: TokenEndpoint) -> None:
    """One byte at a time is within the timeout of a socket, and not within ours; no thread stays behind."""
    over = threading.Event()

    def dawdle(peer: Peer) -> None:
        peer.encrypt()
        peer.hear("POST")
        with contextlib.suppress(OSError):
            for byte in itertools.cycle(b"HTTP/1.1 200 OK"):
                peer.say_bytes(bytes([byte]))
                if over.wait(0.05):
                    break

    with Dialogue(dawdle) as server:
        client = endpoint.client(token_url=f"https://localhost:{server.port}/", timeout_s=1.0)
        tokens = process(engine)
        assert why(tokens, client) == "token not renewed: no answer within 1 s"
        wait_until(lambda: tokens._issuer.lost == 0, 10, lambda: "its thread still reads")
        over.set()
    tokens.close()


def test_nobody_there(endpoint: TokenEndpoint) -> None:
    """A refused connection is said as what it is."""
    client = endpoint.client(token_url="https://127.0.0.1:1/token")
    assert why(process(None), client) == "token not renewed: Connection refused"


@pytest.mark.parametrize("certificate", ["expired", "elsewhere", "selfsigned"])
def test_a_certificate_that_does_not_verify_gets_no_secret(certificate: str) -> None:
    """The request is not even sent."""
    with TokenEndpoint(certificate=certificate) as endpoint:
        assert why(process(None), endpoint.client()).startswith("token not renewed: certificate: ")
        assert endpoint.asked == []


def test_a_missing_secret_is_said_before_anybody_is_asked(engine: Engine, endpoint: TokenEndpoint) -> None:
    """As for a password, by the setting's name."""
    with pytest.raises(SettingsError, match="CLIENT_SECRET"):
        process(engine, {"OTHER": "x"}).token("tenant", endpoint.client())
    assert endpoint.asked == []


def test_the_clients_secret_may_travel_in_a_header(endpoint: TokenEndpoint) -> None:
    """RFC 6749 2.3.1: encoded as in a form, and then not in the body."""
    client = endpoint.client(client_auth="basic", client_id="a:b", scope="smtp offline")
    assert token(process(None, {"CLIENT_SECRET": "p:q r"}), client)
    assert endpoint.headers[0]["Authorization"] == "Basic YSUzQWI6cCUzQXErcg=="
    assert endpoint.asked == [{"grant_type": "client_credentials", "scope": "smtp offline"}]


@pytest.mark.parametrize("said", [None, "soon", 0, -5, True, "1e999", "nan"])
def test_a_life_that_is_not_said_is_short(engine: Engine, endpoint: TokenEndpoint, said: object) -> None:
    """Half an hour, where there is no number of seconds above 0."""
    endpoint.answer = lambda _: document(access_token="t", expires_in=said)
    assert token(process(engine), endpoint.client()) == "t"
    left_s = rows(engine)[0].left_s
    assert left_s == pytest.approx({"1e999": 30 * 86400, True: 1}.get(said, UNSAID_S), abs=10)


def test_no_secret_is_readable_in_rows_logs_and_errors(
    engine: Engine, endpoint: TokenEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the token, nor the refresh tokens, nor the client's secret: not in a row, a log, a repr or an exception."""
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda n: document(
        access_token=f"canary-token-{n}", expires_in=3600, refresh_token="canary-refresh-1"
    )
    client, tokens = endpoint.client(**REFRESHING), process(engine)
    found = tokens.token("tenant", client)
    ago(engine, "expires_at", 3600)
    for said in (document(400, error=SECRET), Says(200, b"{canary-token-9")):
        endpoint.answer = lambda _, said=said: said  # type: ignore[misc]
        why(process(engine), client)
        ago(engine, "refreshing_until", 60)
    shown = repr(found) + repr(client) + repr(rows(engine)) + caplog.text
    with engine.connect() as connection:
        table = dialect_named(engine.dialect.name).format("SELECT * FROM {oauth_token}")
        shown += repr(
            [
                [bytes(v) if isinstance(v, memoryview) else v for v in row]
                for row in connection.execute(text(table))
            ]
        )
    shown += "".join(repr(o) for o in gc.get_objects() if issubclass(type(o), BaseException))
    assert "canary" not in shown.replace(SECRET, "canary")
