"""Tokens of one process and of several, at a real token endpoint, through a real database."""

import contextlib
import gc
import itertools
import logging
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from mailfleet.errors import SettingsError
from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.statements import oauth_token
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import UNSAID_S
from mailfleet_workers.accounts.oauth.rows import DatabaseRows
from mailfleet_workers.accounts.oauth.tokens import NoToken, Token, Tokens
from mailfleet_workers.secret import Secret
from tests.integration.smtp.dialogue import Dialogue, Peer
from tests.stage.token_endpoint import Says, TokenEndpoint, document, numbered
from tests.waiting import wait_until

SECRET = "canary-client-secret"
ENVIRON = {"CLIENT_SECRET": SECRET, "REFRESH": "canary-refresh-0"}
REFRESHING: dict[str, Any] = {"grant": "refresh_token", "refresh_token": Secret("env:REFRESH")}


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as endpoint:
        yield endpoint


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


def test_one_refresh_for_twenty_threads_of_five_processes(engine: Engine, endpoint: TokenEndpoint) -> None:
    """All of them need a token at once and get the same one; the endpoint was asked once."""
    client, processes = endpoint.client(), [process(engine) for _ in range(5)]
    found: list[str] = []
    gate = threading.Barrier(20)

    def want(tokens: Tokens) -> None:
        gate.wait()
        found.append(token(tokens, client))

    endpoint.hold.clear()
    threads = [threading.Thread(target=want, args=(processes[n % 5],)) for n in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(endpoint.asked), 10, lambda: "nobody asked")
    endpoint.hold.set()
    for thread in threads:
        thread.join(30)
    assert found == ["canary-token-1"] * 20
    assert endpoint.asked == [
        {"grant_type": "client_credentials", "client_id": "app-1", "client_secret": SECRET}
    ]


def test_a_process_that_comes_later_uses_what_is_there(engine: Engine, endpoint: TokenEndpoint) -> None:
    """From the row, sealed; and then from its memory, without a look at the database."""
    client = endpoint.client()
    assert token(process(engine), client) == "canary-token-1"
    late = process(engine)
    assert token(late, client) == "canary-token-1"
    with engine.begin() as connection:
        connection.execute(text(dialect_named(engine.dialect.name).format("DELETE FROM {oauth_token}")))
    assert token(late, client) == "canary-token-1"
    assert len(endpoint.asked) == 1


def test_other_secrets_are_another_row(engine: Engine, endpoint: TokenEndpoint) -> None:
    """Workers with old and with new secrets do not take each other's tokens, or write over them; accounts neither."""
    client = endpoint.client()
    old, new = process(engine), process(engine, {"CLIENT_SECRET": "canary-new-secret"})
    assert [token(old, client), token(new, client)] == ["canary-token-1", "canary-token-2"]
    assert token(process(engine), client) == "canary-token-1"
    assert token(old, client, "other") == "canary-token-3"
    assert [one.name.partition("/")[0] for one in rows(engine)].count("tenant") == 2


def test_a_token_that_ends_soon_is_renewed_early_by_one(engine: Engine, endpoint: TokenEndpoint) -> None:
    """In its last minutes one process renews it; who comes meanwhile has the old one at once."""
    client = endpoint.client()
    assert token(process(engine), client) == "canary-token-1"
    ago(engine, "expires_at", 3600 - 100)
    endpoint.hold.clear()
    early: list[str] = []
    renewing = threading.Thread(target=lambda: early.append(token(process(engine), client)))
    renewing.start()
    wait_until(lambda: len(endpoint.asked) == 2, 10, lambda: str(endpoint.asked))
    assert token(process(engine), client) == "canary-token-1"
    endpoint.hold.set()
    renewing.join(30)
    assert early == ["canary-token-2"]
    assert token(process(engine), client) == "canary-token-2"
    assert len(endpoint.asked) == 2


def test_an_early_renewal_that_fails_changes_nothing_yet(engine: Engine, endpoint: TokenEndpoint) -> None:
    """The token is good for some minutes: it is used, and the endpoint is left alone for a while."""
    client = endpoint.client()
    assert token(process(engine), client) == "canary-token-1"
    ago(engine, "expires_at", 3600 - 100)
    endpoint.answer = lambda _: Says(503, b"busy")
    assert [token(process(engine), client) for _ in range(3)] == ["canary-token-1"] * 3
    assert len(endpoint.asked) == 2
    ago(engine, "expires_at", 95)
    assert why(process(engine), client) == "token not renewed: status 503"
    assert len(endpoint.asked) == 2


def test_the_end_of_a_token_is_known_without_the_database(endpoint: TokenEndpoint) -> None:
    """By the clock of the process: good until its last minutes, renewed in them, and not used after."""
    clock, client = Clock(), endpoint.client()
    tokens = process(None, clock=clock)
    assert token(tokens, client) == "canary-token-1"
    clock.now += 3600 - 301
    assert token(tokens, client) == "canary-token-1"
    clock.now += 200
    assert token(tokens, client) == "canary-token-2"
    endpoint.answer = lambda _: Says(500, b"")
    clock.now += 3600 - 60
    assert token(tokens, client) == "canary-token-2"
    clock.now += 50
    assert why(tokens, client) == "token not renewed: status 500"


def test_processes_renew_at_different_times(endpoint: TokenEndpoint) -> None:
    """Chance decides when in the second half of the last five minutes: none waits to the end, not all go together."""
    clock, client = Clock(), endpoint.client()
    endpoint.answer = lambda _: document(access_token="t", expires_in=3600)
    many = [Tokens(ENVIRON, clock=clock, rng=random.Random(seed)) for seed in range(20)]
    for tokens in many:
        token(tokens, client)
    counts: list[int] = []
    for _ in range(6):
        clock.now += 3300 if not counts else 30
        for tokens in many:
            token(tokens, client)
        counts.append(len(endpoint.asked) - 20)
    assert counts[0] == 0
    assert counts[-1] == 20
    assert len(set(counts)) > 3


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
        (contained,) = tokens._contained.values()
        wait_until(lambda: contained.lost == 0, 10, lambda: "its thread still reads")
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


def test_refresh_tokens_that_change_are_kept_sealed(engine: Engine, endpoint: TokenEndpoint) -> None:
    """Each refresh sends what the one before brought; an answer that brings none leaves it as it is."""
    endpoint.answer = lambda n: document(
        access_token=f"t{n}", expires_in=3600, **({} if n == 2 else {"refresh_token": f"canary-refresh-{n}"})
    )
    client = endpoint.client(**REFRESHING)
    for n in (1, 2, 3):
        assert token(process(engine), client) == f"t{n}"
        ago(engine, "expires_at", 3600)
    sent = [one["refresh_token"] for one in endpoint.asked]
    assert sent == ["canary-refresh-0", "canary-refresh-1", "canary-refresh-1"]


def test_the_first_refresh_token_is_tried_when_the_last_is_refused(
    engine: Engine, endpoint: TokenEndpoint
) -> None:
    """Once, within the same refresh; where that is refused too, that is what is said."""
    client = endpoint.client(**REFRESHING)
    endpoint.answer = lambda _: document(access_token="t1", expires_in=3600, refresh_token="canary-refresh-1")
    assert token(process(engine), client) == "t1"
    ago(engine, "expires_at", 3600)
    endpoint.answer = lambda n: (
        document(400, error="invalid_grant") if n == 2 else document(access_token="t2", expires_in=60)
    )
    assert token(process(engine), client) == "t2"
    assert [one["refresh_token"][-1] for one in endpoint.asked] == ["0", "1", "0"]
    ago(engine, "expires_at", 3600)
    endpoint.answer = lambda _: document(400, error="invalid_grant")
    assert why(process(engine), client) == "token refused: invalid_grant"
    assert len(endpoint.asked) == 5


def test_a_rejected_token_is_replaced_once(engine: Engine, endpoint: TokenEndpoint) -> None:
    """By one refresh, whoever rejects it; a new token that is rejected is not to blame."""
    client, one, other = endpoint.client(), process(engine), process(engine)
    found = one.token("tenant", client)
    assert isinstance(found, Token)
    assert token(other, client) == "canary-token-1"
    for tokens in (one, other):
        assert not tokens.rejected("tenant", client, found)
        assert tokens.rejected("tenant", client, replace(found, age_s=61))
    assert {token(tokens, client) for tokens in (one, other)} == {"canary-token-2"}
    assert token(process(engine), client) == "canary-token-2"
    assert len(endpoint.asked) == 2
    assert one.rejected("tenant", client, replace(found, generation=1))


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


def test_own_providers_are_shared_in_the_same_way(engine: Engine) -> None:
    """Told what the account has, asked once for all; what they raise is a failure for now, whose text nobody sees."""
    told: list[dict[str, str]] = []

    def provide(request: Any) -> dict[str, object]:
        told.append(dict(request))
        if request["account"] == "broken":
            raise RuntimeError("canary-text")
        return {"access_token": "from-vault", "expires_in": 600}

    client = OAuthClient("app-1", provider="vault", client_secret=Secret("env:CLIENT_SECRET"), scope="smtp")
    known = {"vault": provide}
    assert token(process(engine, find=known.get), client) == "from-vault"
    assert token(process(engine, find=known.get), client) == "from-vault"
    assert told == [
        {
            "account": "tenant",
            "client_id": "app-1",
            "grant": "refresh_token",
            "scope": "smtp",
            "client_secret": SECRET,
        }
    ]
    failed = process(engine, find=known.get).token("broken", client)
    assert failed == NoToken("token not renewed: RuntimeError")
    absent = process(engine).token("other", client)
    assert absent == NoToken("token not renewed: provider vault is not installed here")


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
