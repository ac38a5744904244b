"""Providers of installed packages: found by their entry point, imported only when they are asked."""

import sys
from pathlib import Path

import pytest

from mailfleet_workers.accounts.oauth import providers
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import Issued, Refused, Unavailable
from mailfleet_workers.accounts.oauth.issuer import Issuer
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.effective import missing

CODE = """
def provide(request):
    match request["account"]:
        case "good":
            return {"access_token": request["refresh_token"], "expires_in": 60}
        case "refused":
            return {"error": "invalid_grant"}
        case "nonsense":
            return "canary"
    raise SystemExit("canary")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package `shop_tokens` with the provider `vault`, and one that cannot be imported."""
    (tmp_path / "shop_tokens.py").write_text(CODE)
    metadata = tmp_path / "shop_tokens-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-tokens\nVersion: 1.0\n")
    points = "vault = shop_tokens:provide\nbroken = shop_tokens_absent:provide\n"
    (metadata / "entry_points.txt").write_text(f"[{providers.GROUP}]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))


def client(provider: str) -> OAuthClient:
    return OAuthClient("app", provider=provider, refresh_token=Secret("env:R"))


@pytest.mark.usefixtures("package")
def test_an_installed_provider_is_asked() -> None:
    """What it returns is read as a token endpoint's answer; what it raises is a failure for now, by its kind only."""
    issuer = Issuer({"R": "first"})
    found = issuer.ask("good", client("vault"), Secret.literal("second"))
    assert isinstance(found, Issued)
    assert (found.access_token.reveal({}), found.lifetime_s) == ("second", 60)
    assert issuer.ask("refused", client("vault"), None) == Refused("invalid_grant")
    assert issuer.ask("nonsense", client("vault"), None) == Unavailable("an answer that is no mapping")
    assert issuer.ask("raises", client("vault"), None) == Unavailable("SystemExit")
    assert issuer.ask("good", client("broken"), None) == Unavailable("ModuleNotFoundError")
    assert issuer.ask("good", client("none"), None) == Unavailable("provider none is not installed here")
    issuer.close()


@pytest.mark.usefixtures("package")
def test_config_check_finds_a_provider_that_is_not_installed() -> None:
    """And imports none for it."""
    account = {"host": "smtp.example.com", "username": "u"}
    oauth = {"client_id": "app", "refresh_token": "env:R"}
    settings = Settings.model_validate(
        {
            "accounts": {
                "default": account | {"oauth": oauth | {"provider": "vault"}},
                "news": account | {"oauth": oauth | {"provider": "valut"}},
            }
        }
    )
    sys.modules.pop("shop_tokens", None)
    (problem,) = missing(settings, {"R": "x"})
    assert (problem.key, problem.value) == ("accounts.news.oauth.provider", "valut")
    assert "shop_tokens" not in sys.modules
