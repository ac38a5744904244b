"""Sealed tokens: who can open them, and who cannot."""

from dataclasses import replace

import pytest

from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import Issued
from mailfleet_workers.accounts.oauth.seal import Seal
from mailfleet_workers.secret import Secret

CLIENT = OAuthClient(
    "app", token_url="https://x/", client_secret=Secret("env:S"), refresh_token=Secret("env:R"), scope="a"
)
ENVIRON = {"S": "canary-secret", "R": "canary-refresh"}
ISSUED = Issued(Secret.literal("canary-token"), 3600.0, Secret.literal("canary-next"))


def test_what_was_sealed_is_opened_by_the_same_secrets() -> None:
    """In another process too: the key comes from nothing else."""
    sealed = Seal.of("tenant", CLIENT, ENVIRON).close(ISSUED)
    found = Seal.of("tenant", CLIENT, dict(ENVIRON)).open(sealed)
    assert found is not None
    assert found.refresh_token is not None
    opened = (found.access_token.reveal({}), found.lifetime_s, found.refresh_token.reveal({}))
    assert opened == ("canary-token", 3600.0, "canary-next")
    bare = replace(ISSUED, refresh_token=None)
    assert Seal.of("a", CLIENT, ENVIRON).open(Seal.of("a", CLIENT, ENVIRON).close(bare)) == bare


@pytest.mark.parametrize(
    ("account", "client", "environ"),
    [
        ("other", CLIENT, ENVIRON),
        ("tenant", CLIENT, ENVIRON | {"S": "canary-secret2"}),
        ("tenant", CLIENT, ENVIRON | {"R": "canary-refresh2"}),
        ("tenant", CLIENT, {"S": "canary-secretcanary-", "R": "refresh"}),
        ("tenant", replace(CLIENT, client_id="app2"), ENVIRON),
        ("tenant", replace(CLIENT, scope="b"), ENVIRON),
        ("tenant", replace(CLIENT, token_url="https://y/"), ENVIRON),
        ("tenant", replace(CLIENT, client_secret=None), ENVIRON),
    ],
)
def test_another_account_client_or_secret_has_another_row_and_key(
    account: str, client: OAuthClient, environ: dict[str, str]
) -> None:
    """None opens what another sealed, also not in its place."""
    ours, other = Seal.of("tenant", CLIENT, ENVIRON), Seal.of(account, client, environ)
    assert other.name != ours.name
    assert other.open(ours.close(ISSUED)) is None
    assert replace(ours, name=other.name).open(ours.close(ISSUED)) is None


def test_what_was_changed_is_not_opened() -> None:
    """Not one bit of it, nor a part."""
    seal = Seal.of("tenant", CLIENT, ENVIRON)
    sealed = seal.close(ISSUED)
    assert all(
        seal.open(sealed[:n] + bytes([sealed[n] ^ 1]) + sealed[n + 1 :]) is None for n in range(len(sealed))
    )
    assert all(seal.open(sealed[:n]) is None for n in range(len(sealed)))
    assert seal.open(b"") is None


def test_nothing_is_readable() -> None:
    """The same token is sealed differently each time; neither bytes, name nor repr show a part of it or of a secret."""
    seal = Seal.of("tenant", CLIENT, ENVIRON)
    one, two = seal.close(ISSUED), seal.close(ISSUED)
    assert one != two
    assert b"canary" not in one + two
    assert "canary" not in repr(seal) + seal.name + repr(ISSUED)
    assert seal.name.startswith("tenant/")
