"""`mailfleet presets`, and what `mailfleet config check` says of limits."""

import pytest

from mailfleet_workers.limits.preset import presets
from tests.integration.cli.conftest import Command


def test_all_presets_are_listed(command: Command) -> None:
    """One line for each provider and plan, with what is limited and what it counts, or that nothing is documented."""
    lines = [line.rstrip() for line in command("presets").stdout.splitlines()]

    assert lines[0].split() == ["preset", "counts", "limits"]
    assert len(lines[: lines.index("")]) == 1 + len(presets(plans=True))
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1 : lines.index("")]}
    assert rows["m365"] == "recipient 30 messages a minute; 10,000 recipients a day; 3 connections"
    assert rows["yahoo"] == "recipient 500 recipients a day"
    assert rows["/trial"] == "500 messages a day; 3,000 recipients a day"
    assert rows["qq"] == "- no documented figures"
    assert rows["ses"] == "recipient no documented figures without a plan"
    assert lines[-1].startswith(
        "42 providers, 21 of them without documented figures: a preset of those limits nothing, unless with a plan."
    )


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_table_fits_the_screen(command: Command, width: int) -> None:
    """No line is wider than the terminal, and every name is whole."""
    command.environ["COLUMNS"] = str(width)
    lines = command("presets").stdout.splitlines()

    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    assert {one.name for one in presets()} <= words


def test_one_preset_has_notes_and_sources(command: Command) -> None:
    """Everything that is known, and each source's address whole on a line of its own."""
    command.environ["COLUMNS"] = "60"
    out = command("presets", "google-workspace").stdout
    lines = [line.strip() for line in out.splitlines()]

    assert lines[0] == "google-workspace: Google Workspace, smtp.gmail.com"
    assert "plan trial               500 messages a day; 3,000" in lines
    assert "https://support.google.com/a/answer/166852?hl=en" in lines
    assert "mailfleet cannot tell those" in " ".join(lines)


def test_a_plan_is_shown_too(command: Command) -> None:
    """A plan has a name of its own, as it stands in the settings."""
    lines = command("presets", "ses/sandbox").stdout.splitlines()

    assert lines[0] == "ses/sandbox: Amazon SES SMTP"
    assert lines[1].split(maxsplit=1)[1].rstrip() == ("1 message a second; 60 recipients a minute, 200 a day")


def test_presets_as_json(command: Command) -> None:
    """One document, with the rules as they are written in the settings."""
    listed = command.json("presets")
    [found] = [one for one in listed["presets"] if one["name"] == "m365"]

    assert len(listed["presets"]) == len(presets(plans=True))
    assert (found["documented"], found["messages"], found["recipients"]) == (True, ["30/min"], ["10000/d"])
    assert (found["connections"], found["max_messages"], found["counts"]) == (3, None, "recipient")
    assert command.json("presets", "m365") == {"seen": listed["seen"], **found}
    assert not command.json("presets", "qq")["documented"]


def test_an_unknown_preset_is_one_line(command: Command) -> None:
    """The nearest names are said, and the status is 2."""
    assert command.complaints("presets", "m356") == [
        "presets: m356: expected a provider that `mailfleet presets` lists (did you mean m365?)"
    ]


SETTINGS = """
[accounts.default]
host = "smtp.office365.com"
preset = "m365"
[accounts.default.limits]
messages = ["14/s", "10000/d"]
login_gap_ms = 500
[accounts.cn]
host = "smtp.qq.com"
preset = "qq"
[hosts."smtp.office365.com".limits]
connections = 1
messages = ["300 per 10 s"]
[apps.billing]
weight = 2
[apps.news]
"""


def test_limits_of_each_account_in_words(command: Command) -> None:
    """`config check` says what follows from preset and keys, for each account and for hosts."""
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    out = command("config", "check").stdout
    lines = [" ".join(line.split()) for line in out.splitlines()]

    assert (
        "accounts.default 14 messages a second, 10,000 a day; 10,000 recipients a day; 3 connections;"
        " 500 ms between logins"
    ) in lines
    assert "shared by weight: billing 2, news 1" in lines
    assert "accounts.cn no limits" in lines
    assert ("smtp.office365.com 300 messages in 10 s; 1 connection, of all accounts together") in lines
    assert "note: accounts.cn: preset qq has no documented figures and limits nothing" in lines


def test_limits_as_json(command: Command) -> None:
    """The same, with rules as refusals and metrics name them."""
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    limits = command.json("config", "check")["limits"]

    assert limits["default"]["rules"] == [
        "account messages 14/s",
        "account messages 10000/d",
        "account recipients 10000/d",
        "host messages 300/10s",
    ]
    assert (limits["default"]["connections"], limits["default"]["host_connections"]) == (3, 1)
    assert limits["default"]["weights"] == {"billing": 2, "news": 1}
    assert limits["cn"]["rules"] == []


def test_the_embedded_account_has_limits_too(command: Command) -> None:
    """An account without a host has the catching server, and its limits are said."""
    (command.directory / "mailfleet.toml").write_text('[accounts.default.limits]\nmessages = ["1/s"]\n')
    lines = [" ".join(line.split()) for line in command("config", "check").stdout.splitlines()]

    assert "accounts.default 1 message a second" in lines


def test_a_malformed_rule_ends_every_command(command: Command) -> None:
    """One line with the key, the form that is expected, and the value."""
    (command.directory / "mailfleet.toml").write_text(
        '[accounts.default.limits]\nmessages = ["14/s", "0/d"]\n'
    )
    expected = (
        "accounts.default.limits.messages[1]: expected NUMBER/WINDOW, such as 14/s, 30/min, 300/10s or 10000/d: from 1"
        " to 100,000,000 in a window of 100 ms to 31 days (ms, s, min, h, d; a month is 31d), got '0/d' (mailfleet.toml)"
    )
    for words in (("config", "check"), ("list",), ("worker", "billing")):
        assert command.complaints(*words) == [expected]
