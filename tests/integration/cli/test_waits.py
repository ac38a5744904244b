"""`mailfleet waits`, `pause` and `resume`, on both databases: what operators close, open, and hear of it."""

from typing import Any

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements.claim import Return, give_back
from mailfleet_schema.statements.gate import reason_of
from tests.integration.cli.conftest import Command
from tests.integration.views.rows import Rows, content

SETTINGS = """
[accounts.default]
host = "smtp.example.com"
[accounts.big]
host = "mx.example.com"
port = 2525
[apps.billing]
accounts = ["default", "big"]
[apps.news]
"""


@pytest.fixture
def rows(engine: Engine, command: Command) -> Rows:
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    (command.directory / "mailfleet.toml").write_text(SETTINGS)
    return Rows(engine)


def gates(command: Command) -> list[tuple[str, str, str]]:
    return [(one["scope"], one["key"], one["reason"]) for one in command.json("waits")["gates"]]


def parked(rows: Rows, scope: str, **fields: Any) -> int:
    """A mail that its worker gave back, due in an hour, because a gate of *scope* is closed."""
    app = fields.pop("app", "billing")
    row = rows.claim(rows.insert(app, **fields), rows.worker(app), app)
    with rows.engine.begin() as connection:
        give_back(connection, [Return(row.id, row.fence, 3600, reason_of(scope, "421"))], grace_s=10)
    return row.id


def soon(command: Command) -> list[int]:
    """The mails that are due within a minute."""
    mails = command.json("list")["mails"]
    return sorted(one["id"] for one in mails if one["due_in_s"] < 60)


@pytest.mark.tinymail("32")
def test_waits_are_added_listed_and_cleared(command: Command, rows: Rows) -> None:
    """The list says scope, end, time left, since when and why; a cleared one is gone."""
    assert command("waits").stderr == "Nothing waits: every gate is open.\n"
    assert command.json("waits")["gates"] == []
    said = command("waits", "add", "account:default", "--for", "10m", "--reason", "454 too\nmany").stdout
    assert said.startswith("account:default waits until ")
    assert said.endswith("(in 10 min): 454 too many.\n")
    command("waits", "add", "recipient:Bücher.example", "--for", "2d", "--reason", "they asked us to")

    head, first, second = command("waits").stdout.splitlines()
    assert head.split() == ["scope", "until", "(UTC)", "left", "closed", "reason"]
    assert first.startswith("recipient:xn--bcher-kva.example")
    assert second.split()[0] == "account:default"
    assert "10 min" in second
    assert second.endswith("454 too many")
    assert gates(command) == [
        ("recipient", "xn--bcher-kva.example", "they asked us to"),
        ("account", "default", "454 too many"),
    ]

    assert "account:default may send again" in command("waits", "clear", "account:default").stdout
    assert (
        "account:default was not waiting; nothing to do."
        in command("waits", "clear", "account:default").stdout
    )
    assert [scope for scope, _, _ in gates(command)] == ["recipient"]


@pytest.mark.parametrize("scope", ["account:big", "app:billing", "host:mx.example.com:2525", "all"])
def test_a_pause_lasts_until_it_is_resumed(command: Command, rows: Rows, scope: str) -> None:
    """Without a time there is no end to show; pausing and resuming twice is harmless and said so."""
    name = "Everything" if scope == "all" else scope
    assert command("pause", scope).stdout == f"{name} is paused until it is resumed: paused by an operator.\n"
    again = command("pause", scope).stdout
    assert again == f"{name} was paused already, until it is resumed: paused by an operator.\n"
    _, line = command("waits").stdout.splitlines()
    assert line.split()[:3] == [scope, "resumed", "-"]
    assert "when resumed" in command("status").stdout
    assert command.json("waits")["gates"][0]["remaining_s"] is None

    assert command("resume", scope).stdout == f"{name} may send again; no mail waited for it.\n"
    assert command("resume", scope).stdout == f"{name} was not paused; nothing to do.\n"
    assert gates(command) == []


def test_a_pause_may_have_a_time_and_a_reason(command: Command, rows: Rows) -> None:
    """The later wait stands: a shorter one changes nothing, a longer one and an endless one do."""
    found = command.json("pause", "app:news", "--for", "2h", "--reason", "migration")
    assert (found["changed"], found["gate"]["reason"]) == (True, "migration")
    assert 7100 < found["gate"]["remaining_s"] <= 7200
    assert "app:news waits longer already" in command("pause", "app:news", "--for", "5m").stdout
    assert gates(command) == [("app", "news", "migration")]
    command("pause", "app:news", "--for", "3h", "--reason", "longer")
    command("pause", "app:news", "--reason", "endless")
    assert command.json("pause", "app:news", "--for", "3d", "--reason", "no")["changed"] is False
    assert gates(command) == [("app", "news", "endless")]
    assert command.json("pause", "app:news", "--reason", "another reason")["changed"] is True
    assert gates(command) == [("app", "news", "another reason")]


@pytest.mark.parametrize(
    ("scope", "waiting"),
    [
        ("account:default", 1),
        ("host:smtp.example.com", 1),
        ("app:news", 2),
        ("all", 3),
        ("recipient:example.net", 1),
    ],
)
def test_resume_brings_the_mail_back(command: Command, rows: Rows, scope: str, waiting: int) -> None:
    """What waits for that very gate comes back, and its number is said; all else waits on."""
    gate = scope.partition(":")[0]
    own = [
        parked(rows, gate, app="news", account="default", content=content(to=content().to))
        for _ in range(waiting)
    ]
    for other in {"account", "host", "app", "all", "recipient"} - {gate}:
        parked(rows, other, app="news", account="default")
    if gate != "all":
        parked(rows, gate, app="crm", account="big", content=content(to=()))
    command("pause", scope)
    assert soon(command) == []

    back = (
        "1 mail comes back that waited for it"
        if waiting == 1
        else f"{waiting} mails come back that waited for it"
    )
    name = "Everything" if scope == "all" else scope
    assert command("resume", scope).stdout == f"{name} may send again; {back}.\n"
    assert soon(command) == own


def test_a_resume_that_broke_off_is_finished_by_the_next(command: Command, rows: Rows) -> None:
    """Mail comes back also when the gate is open already."""
    mail_id = parked(rows, "account")
    found = command.json("resume", "account:default")
    assert (found["was_closed"], found["mails"]) == (False, 1)
    assert soon(command) == [mail_id]


def test_who_resumes_hears_that_everything_is_paused(command: Command, rows: Rows) -> None:
    """An open gate is of no use behind a closed one."""
    command("pause", "all")
    command("pause", "app:news")
    assert (
        command("resume", "app:news").stdout.splitlines()[1]
        == "Everything is paused still: `mailfleet resume all`."
    )
    assert len(command("resume", "all").stdout.splitlines()) == 1


def test_names_that_nobody_knows_are_refused(command: Command, rows: Rows) -> None:
    """One line says what was expected, and nothing is closed."""
    for words, line in (
        (("pause", "account:defualt"), "an account of the settings (did you mean default?): big, default"),
        (("resume", "app:bilings"), "an app of the settings (did you mean billing?): billing, news, shared"),
        (("waits", "clear", "default"), "account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all"),
    ):
        assert command.complaints(*words) == [f"scope: expected {line}, got {words[-1]!r}"]
    assert command.complaints("pause", "all", "--for", "soon") == [
        "--for: expected a time such as 90s, 10m, 2h or 1d, up to 366 days, got 'soon'"
    ]
    assert command.complaints("pause", "all", "--reason", " ") == ["--reason: expected some words, got none"]
    assert gates(command) == []


def test_names_that_are_known_elsewhere_are_accepted(command: Command, rows: Rows) -> None:
    """Other machines have other settings: mail, workers and gates tell of names, and any host may be one of theirs."""
    rows.insert("shop", account="their-account")
    rows.worker("forum")
    rows.gate("account", "old", 60)
    for scope, note in (
        ("account:their-account", "account their-account is not in these settings"),
        ("account:old", "account old is not in these settings"),
        ("app:shop", "app shop is not in these settings"),
        ("app:forum", "app forum is not in these settings"),
        (
            "host:smtp.exmaple.com",
            (
                "no account of these settings is on host smtp.exmaple.com (did you mean smtp.example.com?);"
                " they have mx.example.com:2525, smtp.example.com"
            ),
        ),
    ):
        result = command("pause", scope)
        assert result.stderr == f"mailfleet: note: {note}\n"
        assert result.stdout.startswith(f"{scope} is paused")
    for scope in ("recipient:anything.example", "app:shared"):
        assert command("pause", scope).stderr == ""


def test_without_a_database(command: Command) -> None:
    """Nothing is made; one line says how to make it."""
    for words in (
        ("waits",),
        ("pause", "all"),
        ("resume", "all"),
        ("limits", "set", "account:default", "messages", "1/s"),
    ):
        [line] = command.complaints(*words)
        assert line.startswith("database: there is none yet")
    assert list(command.directory.iterdir()) == []


@pytest.mark.parametrize("width", [80, 140])
def test_the_list_fits_the_screen(command: Command, rows: Rows, width: int) -> None:
    """No line is wider than the terminal, whatever servers said; nothing that it would obey reaches it."""
    command.environ["COLUMNS"] = str(width)
    rows.gate("host", f"{'h' * 90}:2525", 10**6, "\x1b[2J" + "r" * 300)
    rows.gate("account", "a" * 40, 99, "421")
    shown = command("waits").stdout
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "\x1b" not in shown
