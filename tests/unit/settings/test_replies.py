"""Rules for replies in the settings: whose they are, what comes first, and what another account takes over."""

from datetime import UTC, datetime
from pathlib import Path

from mailfleet_workers.classify import Rules, rule_on
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.effective import effective
from mailfleet_workers.settings.replies import rules_of
from mailfleet_workers.settings.sources import load
from mailfleet_workers.smtp.base import Phase, Reply

FILE = """
[accounts.default]
host = "smtp.example.com"
[[accounts.default.replies]]
reason = "they mean our quota"
verdict = "wait"
scope = "account"
wait_s = 900
phase = ["rcpt"]
code = "5.."
text = "too bad"
[accounts.news]
from = "news@example.com"
[accounts.other]
host = "mail.example.net"
[[hosts."smtp.example.com".replies]]
reason = "their word for busy"
verdict = "retry"
text = "too bad|nap"
"""


def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "mailfleet.toml"
    path.write_text(FILE)
    return Settings.load({}, path)


def said(found: Settings, name: str, text: str) -> tuple[str, str, str]:
    account = found.accounts[name].account(name, None)
    rules = rules_of(found).under(account.replies)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    ruling = rule_on(Reply(550, text), Phase.RCPT, host=account.host, rules=rules, now=now)
    assert ruling.rule is not None
    return ruling.kind, ruling.verdict.reason, ruling.rule.name


def test_the_account_comes_before_the_host_and_both_before_the_table(tmp_path: Path) -> None:
    """Each rule is called by its key in the settings."""
    found = settings(tmp_path)
    assert said(found, "default", "too bad") == (
        "wait",
        "they mean our quota",
        "accounts.default.replies[0]",
    )
    assert said(found, "default", "having a nap") == (
        "retry",
        "their word for busy",
        'hosts."smtp.example.com".replies[0]',
    )
    assert said(found, "default", "5.1.1 user unknown")[2].startswith("content.toml: rule ")


def test_rules_belong_to_the_server(tmp_path: Path) -> None:
    """An account on `default`'s server takes them over, one with a host of its own does not; nor do another host's speak."""
    found = settings(tmp_path)
    assert said(found, "news", "too bad")[2] == "accounts.news.replies[0]"
    assert said(found, "other", "too bad")[:2] == ("stop", "refused")


def test_without_rules_the_table_is_the_products(tmp_path: Path) -> None:
    """Nothing is made where nothing is set."""
    (tmp_path / "mailfleet.toml").write_text("")
    assert rules_of(Settings.load({}, tmp_path / "mailfleet.toml")) is Rules.builtin()


def test_rules_are_shown_as_they_are_written(tmp_path: Path) -> None:
    """`mailfleet config check` shows them in one line, with the file they come from."""
    settings(tmp_path)
    [shown] = [
        one
        for one in effective(load({}, tmp_path / "mailfleet.toml", model=Settings))
        if one.key == 'hosts."smtp.example.com".replies'
    ]
    assert shown.value == '[{reason = "their word for busy", verdict = "retry", text = "too bad|nap"}]'
    assert shown.origin != "default"
