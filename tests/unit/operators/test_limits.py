"""What applies to each account, and what an operator's change of it means; without any service."""

import json
from collections.abc import Sequence

import pytest

from mailfleet.errors import SettingsError
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.limits.base import LimiterUnavailable
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit
from mailfleet_workers.limits.usage import RuleUse, Usage
from mailfleet_workers.operators import scope
from mailfleet_workers.operators.limits import limit_scope, limits_status, read_limit
from mailfleet_workers.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "accounts": {
            "default": {
                "host": "smtp.example.com",
                "limits": {"messages": ("14/s", "100/d"), "connections": 3},
            },
            "other": {"host": "mx.example.com"},
        },
        "hosts": {"smtp.example.com": {"limits": {"messages": ("30/min",), "connections": 10}}},
    }
)
PER_S = Rule(Scope.ACCOUNT, Unit.MESSAGES, Rate.parse("14/s"))


class Known:
    """A limiter that knows one use, or nothing."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.asked: list[str] = []

    def usage(self, account: str) -> Usage:
        self.asked.append(account)
        if self.away:
            raise LimiterUnavailable("Connection refused")
        uses = (RuleUse(PER_S, 12, 2, 0.25),)
        return Usage(account, "smtp.example.com", 0.0, uses, 2, 5, 1, 90.0, 3, 600.0)


def test_what_is_used() -> None:
    """Each rule of an account with what is used of it; an account without limits is listed, and not asked about."""
    known = Known()
    found = limits_status(SETTINGS, [], known)

    default, other = found.accounts
    assert (known.asked, found.trouble) == (["default"], None)
    assert [one.rule for one in default.rules] == [
        "account messages 14/s",
        "account messages 100/d",
        "host messages 30/min",
    ]
    assert default.rules[0].as_json() == {
        "rule": "account messages 14/s",
        "scope": "account",
        "unit": "messages",
        "limit": 14,
        "window_ms": 1000,
        "used": 12,
        "in_flight": 2,
        "wait_s": 0.25,
    }
    assert (default.connections, default.connections_limit) == (2, 3)
    assert (default.host_connections, default.host_connections_limit) == (5, 10)
    assert (default.waiting, default.parked_s, default.login_failures) == (1, 90.0, 3)
    assert (other.rules, other.connections_limit, other.connections) == ((), None, None)


@pytest.mark.parametrize("nobody", [True, False])
def test_rules_are_listed_when_nobody_knows_their_use(nobody: bool) -> None:
    """Then the reason stands beside them, and a limiter that is away is asked once."""
    away = Known(away=True)
    found = limits_status(SETTINGS, [], None if nobody else away, "no Redis" if nobody else None)

    assert found.trouble == ("no Redis" if nobody else "Redis does not answer (Connection refused)")
    assert len(away.asked) <= 1
    first = found.accounts[0].rules[0]
    assert (first.limit, first.used, first.in_flight, first.wait_s) == (14, None, None, None)


def test_changes_are_in_force() -> None:
    """What an operator changed is shown, and applies."""
    change = LimitChange("account", "default", "messages", '["5/s"]')
    found = limits_status(SETTINGS, [change], None, "x")
    assert [one.rule for one in found.accounts[0].rules] == ["account messages 5/s", "host messages 30/min"]
    assert found.as_json()["changes"] == [
        {"scope": "account", "key": "default", "name": "messages", "value": '["5/s"]'}
    ]


ACCOUNT, HOST = scope.Scope("account", "default"), scope.Scope("host", "smtp.example.com")


@pytest.mark.parametrize(
    ("name", "values", "value"),
    [
        ("messages", ["20/s", "10000/d"], ["20/s", "10000/d"]),
        ("messages", ["20/s,10000/d"], ["20/s", "10000/d"]),
        ("recipients", ["300 per 10 s"], ["300/10s"]),
        ("recipients", ["none"], []),
        ("connections", ["3"], 3),
        ("connections", ["none"], None),
        ("login_gap_ms", ["0"], 0),
        ("max_idle_ms", ["500"], 500),
    ],
)
def test_words_of_an_operator(name: str, values: Sequence[str], value: object) -> None:
    """They become the JSON that the settings' own check accepts, rules in one spelling."""
    change = read_limit(ACCOUNT, name, values)
    assert (change.scope, change.key, change.name) == ("account", "default", name)
    assert json.loads(change.value) == value


@pytest.mark.parametrize(
    ("where", "name", "values", "line"),
    [
        (ACCOUNT, "messages", ["14"], "messages[0]: expected NUMBER/WINDOW"),
        (ACCOUNT, "messages", ["1/s", "0/s"], "messages[1]: expected NUMBER/WINDOW"),
        (ACCOUNT, "messages", ["none", "2/s"], "messages[0]: expected NUMBER/WINDOW"),
        (ACCOUNT, "messages", [" , "], "messages: expected at least one rule, or none, got nothing"),
        (ACCOUNT, "connections", ["0"], "connections: expected a number from 1, got 0"),
        (ACCOUNT, "connections", ["3", "4"], "connections: expected one whole number, or none, got '3 4'"),
        (ACCOUNT, "login_gap_ms", ["none"], "login_gap_ms: expected one whole number, got 'none'"),
        (ACCOUNT, "max_idle_ms", ["²"], "max_idle_ms: expected one whole number, got '²'"),
        (
            ACCOUNT,
            "mesages",
            ["1/s"],
            "name: expected messages, recipients, connections, login_gap_ms or max_idle_ms",
        ),
        (HOST, "max_idle_ms", ["1"], "name: expected messages, recipients, connections or login_gap_ms, got"),
    ],
)
def test_words_that_mean_no_limit(where: scope.Scope, name: str, values: list[str], line: str) -> None:
    """They are refused, with the limit named and what was expected."""
    with pytest.raises(SettingsError) as refused:
        read_limit(where, name, values)
    assert str(refused.value).startswith(line)


def test_connections_can_be_lifted() -> None:
    """`none` wins over the number of the settings, as it does over rules."""
    changes = [read_limit(ACCOUNT, "connections", ["none"]), read_limit(HOST, "connections", ["none"])]
    default, _ = limits_status(SETTINGS, changes, None, "x").accounts
    assert (default.connections_limit, default.host_connections_limit) == (None, None)


def test_only_accounts_and_hosts_have_limits() -> None:
    """Another scope is refused."""
    assert limit_scope(HOST) is HOST
    with pytest.raises(scope.InvalidScope, match="only they have limits"):
        limit_scope(scope.Scope("app", "billing"))
