"""`mailfleet broker setup`, `check` and `definitions` against a real RabbitMQ."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest
import typer
from typer.testing import CliRunner, Result

from mailfleet_workers.cli import broker
from mailfleet_workers.cli.context import Context
from mailfleet_workers.cli.failure import Commands
from tests.services.ports import free_port
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

PARKED = "mailfleet.parked"
HIGH = "mailfleet.billing.high"

application = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
application.add_typer(broker.commands, name="broker")


@application.callback()
def _options(ctx: typer.Context) -> None:
    ctx.obj = Context()


class Command:
    """Runs `mailfleet broker` with the settings of one app, `billing`."""

    def __init__(self, url: str) -> None:
        self.environ: dict[str, str | None] = {
            name: None for name in os.environ if name.startswith("MAILFLEET_")
        }
        self.environ |= {
            "COLUMNS": "200",
            "MAILFLEET_DATABASE_URL": "postgresql://nobody@localhost/none",
            "MAILFLEET_BROKER_URL": url,
        }

    def __call__(self, *arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(application, ["broker", *arguments], env=self.environ)
        assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status).stdout)

    def complaint(self, *arguments: str) -> str:
        """The one line on standard error of a command that ends with 2."""
        result = self(*arguments, status=2)
        [line] = result.stderr.splitlines()
        assert result.stdout == ""
        return str(line.removeprefix("mailfleet: "))


@pytest.fixture
def command(rabbitmq: VirtualHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    Path("mailfleet.toml").write_text("[apps.billing]\n")
    return Command(rabbitmq.url)


@pytest.fixture
def management(rabbitmq: VirtualHost) -> Iterator[str]:
    """The API's URL with a user who may see nodes and policies."""
    user = f"{rabbitmq.vhost}_op"
    rabbitmq.management.create_user(user, "pw", "monitoring,policymaker")
    rabbitmq.management.grant(user, configure="^$", write="^$", read="^$")
    yield rabbitmq.management.url.replace("://", f"://{user}:pw@")
    rabbitmq.management.delete_user(user)


@contextmanager
def channel_of(rabbitmq: VirtualHost) -> Iterator[Any]:
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        yield connection.channel()


def said(found: Any, level: str) -> dict[str, str]:
    """What a report says, by subject."""
    return {one["subject"]: one["says"] for one in found["findings"] if one["level"] == level}


def test_setup_then_check(command: Command, rabbitmq: VirtualHost, management: str) -> None:
    """After a setup nothing is missing, and a second one has nothing to make."""
    first = command.json("setup", "--app", "shop")
    assert len(first["created"]) == 18 + 6
    assert (first["different"], first["refused"], first["deleted"]) == ([], [], [])
    assert "20 exchanges, 24 queues, 47 bindings declared; no queue was missing." in (
        command("setup", "--app", "shop").stdout
    )
    found = command.json("check", "--app", "shop", "--management", management)
    assert found["ok"]
    assert found["version"].startswith(("3.", "4."))
    assert said(found, "problem") == {}
    assert said(found, "note")["app billing"] == "nobody consumes high, normal, bulk"
    assert rabbitmq.password not in json.dumps(found)
    assert "all as they should be" in command("check", "--management", management).stdout
    other = command.json("check", "--management", management)
    assert said(other, "note")["app shop"] == "has queues with 0 messages, and is not in these settings"


def test_check_of_an_empty_vhost(command: Command, rabbitmq: VirtualHost, management: str) -> None:
    """Everything is missing, one command makes it, and the check itself has made nothing."""
    found = command.json("check", "--app", "shop", "--management", management, status=1)
    problems = said(found, "problem")
    assert len(problems) == 20 + 24 + 47
    assert set(problems.values()) == {"missing"}
    todo = {one["todo"] for one in found["findings"] if one["level"] == "problem"}
    assert [one.partition("`")[2].partition("`")[0] for one in todo] == ["mailfleet broker setup --app shop"]
    assert rabbitmq.management.queues() == []
    text = command("check", status=1).stdout.splitlines()
    assert text[0] == (
        "problem: exchange mailfleet.parked, exchange mailfleet.mail, exchange mailfleet.delay.out and 38 more: missing"
    )
    assert text[1].startswith("  do: `mailfleet broker setup` makes")


def test_what_is_different_can_be_replaced(command: Command, rabbitmq: VirtualHost) -> None:
    """A queue and an exchange with other arguments are named with RabbitMQ's words, stay, and go when told."""
    with channel_of(rabbitmq) as channel:
        channel.queue_declare(PARKED, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 5})
        channel.queue_declare(HIGH, durable=True)
        channel.exchange_declare("mailfleet.mail", "direct", durable=True)
    made = command.json("setup", status=1)
    assert len(made["different"]) == 3
    problems = said(command.json("check", status=1), "problem")
    assert list(problems) == ["exchange mailfleet.mail", f"queue {PARKED}", f"queue {HIGH}"]
    assert problems["exchange mailfleet.mail"].startswith("different: inequivalent arg 'type'")
    assert (
        command("setup", status=1).stdout.count("not declared; `mailfleet broker check` says what to do") == 3
    )

    replaced = command("setup", "--replace")
    assert replaced.stdout.count("was different; deleted and made anew") == 3
    assert "Other apps' queues hung there too" in replaced.stdout
    assert command.json("setup", "--replace")["deleted"] == []
    assert command.json("check")["ok"]


def test_what_only_the_management_api_sees(command: Command, rabbitmq: VirtualHost, management: str) -> None:
    """A missing binding, policies that change us, forgotten queues: all invisible without the option."""
    command("setup")
    with channel_of(rabbitmq) as channel:
        channel.queue_unbind(HIGH, "mailfleet.mail", "billing.high")
        channel.queue_declare(f"{HIGH}.DQ", durable=True)
    vhost = quote(rabbitmq.vhost, safe="")
    harmful = {"message-ttl": 1000, "max-length": 5, "alternate-exchange": "amq.fanout"}
    policy = {"pattern": "^mailfleet", "definition": harmful, "apply-to": "all"}
    rabbitmq.management.call("PUT", f"policies/{vhost}/harmful", policy)
    operator = {"pattern": "^mailfleet", "definition": {"max-length-bytes": 4096}, "apply-to": "queues"}
    rabbitmq.management.call("PUT", f"operator-policies/{vhost}/careful", operator)
    assert command.json("check")["ok"]

    def look() -> Any:
        return command.json("check", "--management", management, status=1)

    expected = ("message-ttl 1000", "max-length 5", "max-length-bytes 4096", "an alternate exchange")

    def all_seen() -> bool:
        sayings = [one["says"] for one in look()["findings"] if "policy" in one["subject"]]
        return all(any(what in one for one in sayings) for what in expected)

    # Queues take a policy over a moment after it was set, and show it with the next statistics.
    wait_until(all_seen, 30, lambda: repr(look()))
    found = look()
    assert "policy harmful" in said(found, "problem")
    assert f"binding mailfleet.mail -> {HIGH} by billing.high" in said(found, "problem")
    assert said(found, "note")[f"queue {HIGH}.DQ"].startswith("a queue that dramatiq makes")
    command("setup")
    assert not any(one.startswith("binding") for one in said(look(), "problem"))


def test_parked_messages_and_consumers(command: Command, rabbitmq: VirtualHost) -> None:
    """What nobody could use is counted, and an app whose queues are consumed is not called idle."""
    command("setup")
    for _ in range(3):
        rabbitmq.management.publish("mailfleet.parked", "", "poison")
    with channel_of(rabbitmq) as channel:
        for priority in ("high", "normal", "bulk"):
            channel.basic_consume(f"mailfleet.billing.{priority}", lambda *_: None)
        found = command.json("check")
    assert found["ok"]
    assert said(found, "note") == {f"queue {PARKED}": "3 messages that nobody could use"}
    assert [(one["name"], one["messages"], one["consumers"]) for one in found["queues"]] == [
        (PARKED, 3, 0),
        *((f"mailfleet.billing.{priority}", 0, 1) for priority in ("high", "normal", "bulk")),
    ]


def test_a_user_with_few_rights(command: Command, rabbitmq: VirtualHost, management: str) -> None:
    """One who may not declare can check what exists; what could not be seen is said."""
    command("setup")
    user = f"{rabbitmq.vhost}_low"
    rabbitmq.management.create_user(user, "pw", "management")
    rabbitmq.management.grant(user, configure="^$")
    command.environ["MAILFLEET_BROKER_URL"] = rabbitmq.url_of(user, "pw")
    found = command.json("check", "--management", rabbitmq.management.url)
    notes = said(found, "note")
    assert "may not declare it" in notes["exchange mailfleet.parked, exchange mailfleet.mail and 39 more"]
    assert "may not see nodes" in notes["management: nodes"]
    assert len(command.json("setup", status=1)["refused"]) == 20 + 21
    rabbitmq.management.delete_user(user)


def test_definitions_are_what_setup_declares(
    command: Command, rabbitmq: VirtualHost, management: str
) -> None:
    """RabbitMQ imports them, and the check finds nothing missing."""
    document = json.loads(command("definitions").stdout)
    assert document["vhosts"] == [{"name": rabbitmq.vhost}]
    rabbitmq.management.call("POST", "definitions", document)
    assert command.json("check", "--management", management)["ok"]
    assert command.json("setup")["created"] == []


def test_an_alarm_is_a_problem(
    command: Command, rabbitmq: VirtualHost, management: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's alarm is reported by its name. The node's own answer is taken and only the alarm is put into it."""
    command("setup")
    from mailfleet_workers.broker_state.management import Management

    asked = Management.get

    def get(self: Management, path: str) -> Any:
        answer = asked(self, path)
        return [one | {"mem_alarm": True} for one in answer] if path.startswith("nodes") else answer

    monkeypatch.setattr(Management, "get", get)
    [(subject, says)] = said(command.json("check", "--management", management, status=1), "problem").items()
    assert subject.startswith("node ")
    assert says.startswith("memory alarm")


def other(rabbitmq: VirtualHost, **parts: str) -> str:
    """The broker's URL with other parts."""
    address = rabbitmq.url.rpartition("@")[2].partition("/")[0]
    found = {
        "user": rabbitmq.user,
        "password": rabbitmq.password,
        "address": address,
        "vhost": rabbitmq.vhost,
    }
    found |= parts
    return f"amqp://{found['user']}:{found['password']}@{found['address']}/{found['vhost']}"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"password": "wrong"}, ("refuses the user", "rabbitmqctl authenticate_user")),
        ({"user": "guest"}, ("refuses the user 'guest'", "from its own machine only")),
        ({"vhost": "nowhere"}, ("has no vhost 'nowhere'", "`rabbitmqctl add_vhost nowhere`")),
        ({"vhost": "%2F"}, ("not use the vhost '/'", "`rabbitmqctl set_permissions --vhost /")),
        ({"address": "nowhere.invalid"}, ("the name 'nowhere.invalid' is unknown", "expected a host")),
    ],
)
def test_no_connection(
    command: Command, rabbitmq: VirtualHost, parts: dict[str, str], expected: tuple[str, ...]
) -> None:
    """One line says what was expected and what to do, never the password; for both commands."""
    command.environ["MAILFLEET_BROKER_URL"] = other(rabbitmq, **parts)
    for verb in ("setup", "check"):
        line = command.complaint(verb)
        assert line.startswith("broker: amqp://")
        assert all(words in line for words in expected), line
        assert rabbitmq.password not in line


def test_nothing_listens(command: Command) -> None:
    """A refused connection says so."""
    command.environ["MAILFLEET_BROKER_URL"] = f"amqp://u:hunter2@127.0.0.1:{free_port('127.0.0.1')}/mail"
    line = command.complaint("check")
    assert "nothing listens there; expected RabbitMQ to run" in line
    assert "hunter2" not in line


def test_nothing_answers(command: Command) -> None:
    """A port that takes the connection and says nothing costs two seconds, not a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command.environ["MAILFLEET_BROKER_URL"] = f"amqp://u:p@127.0.0.1:{silent.getsockname()[1]}/mail"
        begun = time.monotonic()
        assert "does not speak AMQP; expected RabbitMQ's AMQP port" in command.complaint("check")
        assert time.monotonic() - begun < 5


def test_no_tls(command: Command, rabbitmq: VirtualHost) -> None:
    """`amqps` on the plain port names TLS and the parameter for an authority."""
    command.environ["MAILFLEET_BROKER_URL"] = other(rabbitmq).replace("amqp:", "amqps:")
    line = command.complaint("check")
    assert "no TLS (" in line
    assert "?cacertfile=/path" in line
    command.environ["MAILFLEET_BROKER_URL"] = other(rabbitmq).replace("amqp:", "amqps:") + "?cacertfile=/none"
    assert "a certificate file cannot be read (No such file" in command.complaint("check")


def test_no_broker_in_the_settings(command: Command) -> None:
    """The embedded mode has none, and the line says how to name one."""
    command.environ["MAILFLEET_BROKER_URL"] = None
    command.environ["MAILFLEET_DATABASE_URL"] = None
    assert command.complaint("check").startswith("broker_url: expected RabbitMQ's URL")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (lambda _: "rabbit:15672", "--management: expected http://host:15672"),
        (
            lambda _: f"http://127.0.0.1:{free_port('127.0.0.1')}",
            "rabbitmq-plugins enable rabbitmq_management",
        ),
        (lambda r: r.management.url.replace("://", "://nobody:pw@"), "refuses the user 'nobody'"),
        (lambda r: r.management.url + "/elsewhere", "expected RabbitMQ's management plugin"),
        (lambda r: f"http://{r.url.rpartition('@')[2].partition('/')[0]}", "management: http://"),
        (lambda _: "env:NOT_SET", "--management: expected the variable NOT_SET"),
    ],
)
def test_no_management(
    command: Command, rabbitmq: VirtualHost, url: Callable[[VirtualHost], str], expected: str
) -> None:
    """A management URL that is none, or does not answer, is one line that names it."""
    assert expected in command.complaint("check", "--management", url(rabbitmq))


def test_the_management_url_by_reference(command: Command, management: str) -> None:
    """Its password need not be on a command line."""
    command("setup")
    command.environ["API_OF_RABBIT"] = management
    assert command.json("check", "--management", "env:API_OF_RABBIT")["ok"]


def test_no_app(command: Command) -> None:
    """A name that is none is refused before anything is declared."""
    assert command.complaint("setup", "--app", "Billing").startswith("--app: expected a name of 1 to 40")
