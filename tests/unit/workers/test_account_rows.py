"""Accounts and hosts as TinyMail's rows want them: keys of waits, the default account, one source of defaults."""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet import Mail
from mailfleet.errors import SettingsError
from mailfleet.validation.mail import validate
from mailfleet_schema.statements.gate import Gate
from mailfleet_workers.account import Account
from mailfleet_workers.fleet.check import check_settings
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.settings import AccountSettings, Settings
from mailfleet_workers.smtp.connection import server_name

FLEET: dict[str, Any] = {"database_url": "postgresql://us@h/d", "broker_url": "amqp://us@h/"}


@pytest.mark.tinymail("32")
@pytest.mark.parametrize(
    ("host", "port", "key"),
    [("SMTP.Example.com", 465, "smtp.example.com"), ("MX.example.com", 2525, "mx.example.com:2525")],
)
def test_a_host_has_one_key_however_it_is_written(host: str, port: int, key: str) -> None:
    """In lower case, with its port unless that is a usual one."""
    assert server_name(Account(name="a", host=host, port=port)) == key


@pytest.mark.tinymail("32", "D27")
def test_two_accounts_on_one_host_wait_apart() -> None:
    """What one of them waits for is not the other's; a wait of the host is both's."""
    limiter = UnlimitedLimiter(lambda: 0.0)
    limiter.close_gate(Gate("account", "a", 60, 1, "quota"))
    gates = [limiter.gate(account=name, host="smtp.example.com", app="billing") for name in ("a", "b")]
    assert [gate is None for gate in gates] == [False, True]
    limiter.close_gate(Gate("host", "smtp.example.com", 60, 1, "busy"))
    assert limiter.gate(account="b", host="smtp.example.com", app="billing") is not None


@pytest.mark.tinymail("57", "32")
def test_a_fleet_without_a_host_does_not_start() -> None:
    """TinyMail meets a null host when it sends; here the start names the key."""
    with pytest.raises(SettingsError) as raised:
        check_settings(Settings.model_validate(FLEET), ["billing"])
    assert raised.value.key == "accounts.default.host"
    one = Settings.model_validate({**FLEET, "accounts": {"default": {"host": "h.example"}, "news": {}}})
    check_settings(one, ["billing"])


@pytest.mark.tinymail("12")
def test_a_mail_without_an_account_is_of_default() -> None:
    """Whatever `default` is when it is sent."""
    mail = Mail(from_="us@example.com", to=["ada@example.net"], subject="Hi", text="Hello")
    assert validate(mail, new_message_id=lambda: "<1@x.test>", now=datetime.now(UTC)).account == "default"


@pytest.mark.tinymail("D37")
def test_defaults_have_one_source() -> None:
    """What the settings say when nothing is set is what the values themselves say."""
    made = AccountSettings(host="h.example").account("a", None)
    plain = Account(name="a", host="h.example", port=465)
    assert made == plain
    assert {one.name for one in fields(Account)} - AccountSettings.model_fields.keys() == {
        "name",
        "sender",
        "secret_version",
    }
    outgoing = Settings.model_validate({}).outgoing
    assert (outgoing.id_header, outgoing.mark_header) == ("X-Biz-Id", "X-Biz-Mark")
