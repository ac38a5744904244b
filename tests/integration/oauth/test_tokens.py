"""Tokens of one process and of several, at a real token endpoint, through a real database."""

import random
import threading
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, text

from mailfleet_schema.dialects import dialect_named
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.tokens import NoToken, Token, Tokens
from mailfleet_workers.secret import Secret
from tests.integration.oauth.fleet import ENVIRON, REFRESHING, SECRET, Clock, ago, process, rows, token, why
from tests.stage.token_endpoint import Says, TokenEndpoint, document, numbered
from tests.waiting import wait_until


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
    assert len(endpoint.asked) == 4


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


def test_a_row_that_begins_anew_is_another_token(engine: Engine, endpoint: TokenEndpoint) -> None:
    """Somebody removed it, and its generations count from 1 again: what a process remembers of the first is not mistaken for it."""
    clock, client = Clock(), endpoint.client()
    tokens = process(engine, clock=clock)
    assert token(tokens, client) == "canary-token-1"
    with engine.begin() as connection:
        connection.execute(text(dialect_named(engine.dialect.name).format("DELETE FROM {oauth_token}")))
    assert token(process(engine), client) == "canary-token-2"
    clock.now += 3600
    assert token(tokens, client) == "canary-token-2"
    assert len(endpoint.asked) == 2


def test_a_process_whose_clock_is_fast_believes_the_row(engine: Engine, endpoint: TokenEndpoint) -> None:
    """The database says how long a token is good."""
    clock, client = Clock(), endpoint.client()
    tokens = process(engine, clock=clock)
    for _ in range(2):
        assert token(tokens, client) == "canary-token-1"
        clock.now += 3600
    assert len(endpoint.asked) == 1


def test_a_lease_that_was_lost_meanwhile_leaves_the_row_to_its_heir(
    engine: Engine, endpoint: TokenEndpoint
) -> None:
    """Whoever slept with the lease does not write over what came after it, and has what is there."""
    client = endpoint.client()

    def overtaken(number: int) -> Says:
        if number == 1:
            ago(engine, "refreshing_until", 60)
            assert token(process(engine), client) == "canary-token-2"
        return numbered()(number)

    endpoint.answer = overtaken
    assert token(process(engine), client) == "canary-token-2"
    assert [row.generation for row in rows(engine)] == [1]
