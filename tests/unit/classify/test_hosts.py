"""Families: whose rules speak for a host."""

import pytest

from mailfleet_workers.classify import Rules
from mailfleet_workers.classify.hosts import families_of
from mailfleet_workers.limits.preset import presets

FAMILIES = Rules.builtin().families


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("m365", "microsoft"),
        ("outlook.com", "microsoft"),
        ("ses/sandbox", "ses"),
        ("smtp.office365.com", "microsoft"),
        ("SMTP.Office365.com.", "microsoft"),
        ("smtp.office365.com:2525", "microsoft"),
        ("example-com.mail.protection.outlook.com", "microsoft"),
        ("tencent-exmail", "qq"),
        ("smtp.exmail.qq.com", "qq"),
        ("eu-smtp-inbound-1.mimecast.com", "mimecast"),
        ("smtp-relay.gmail.com", "google-workspace-relay"),
        ("email-smtp.us-east-1.amazonaws.com", "ses"),
        ("netease-126", "netease-126"),
    ],
)
def test_a_host_belongs_to_its_provider(host: str, family: str) -> None:
    """By the key of a preset, another name, or any name of a server, however it is written."""
    assert family in families_of(host, FAMILIES)


@pytest.mark.parametrize(
    "host", ["*", "", "mail.example.com", "notqq.com", "qq.com.example.net", "[2001:db8::1]"]
)
def test_others_belong_to_nobody(host: str) -> None:
    """Nobody's rules speak for a host that only looks like theirs, and `*` is nobody."""
    assert families_of(host, FAMILIES).isdisjoint(FAMILIES)


def test_presets_are_families_by_themselves() -> None:
    """Each key of a preset is a name, and each of its servers leads to it."""
    for one in presets():
        assert one.name in families_of(one.name, FAMILIES)
        assert all(one.name in families_of(server.host, FAMILIES) for server in one.servers)


def test_every_family_is_asked_for() -> None:
    """A family that no rule names would be dead weight."""
    asked = {host for rule in Rules.builtin().rules for host in rule.hosts}
    assert asked == set(FAMILIES)
