"""The broker's URL, and what pika is told from it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.broker.rabbit.parameters import BrokerUrl, connection_name, parameters_of, parse_broker_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://rabbit", "amqp://guest@rabbit:5672/%2F"),
        ("amqp://rabbit/", "amqp://guest@rabbit:5672/%2F"),
        ("amqp://u:p@rabbit/%2F", "amqp://u@rabbit:5672/%2F"),
        ("amqp://u:p@rabbit:5673/mail", "amqp://u@rabbit:5673/mail"),
        ("amqps://u:p@rabbit/mail", "amqps://u@rabbit:5671/mail"),
        ("amqp://u@[::1]:5672/mail", "amqp://u@[::1]:5672/mail"),
        ("AMQP://u:p%2Fp@rabbit/a%2Fb", "amqp://u@rabbit:5672/a%2Fb"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    """Ports, user and vhost have RabbitMQ's defaults; what is shown has no password."""
    [url] = parse_broker_url("broker_url", text)
    assert url.shown == shown
    assert parse_broker_url("broker_url", url.shown)[0].shown == shown


def test_several_servers() -> None:
    """The servers of a cluster stand one after another, separated by semicolons."""
    urls = parse_broker_url("broker_url", "amqp://u:p@a/mail; amqps://u:p@b:99/mail")
    assert [(one.tls, one.host, one.port, one.vhost) for one in urls] == [
        (False, "a", 5672, "mail"),
        (True, "b", 99, "mail"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rabbit",
        "http://u:hunter2@rabbit",
        "amqp://",
        "amqp://u:hunter2@rabbit:99999/mail",
        "amqp://u:hunter2@rabbit:port/mail",
        "amqp://u:hunter2/@rabbit/mail",
        "amqp://u:hunter2#@rabbit/mail",
        "amqp://u:hunter2@rabbit/mail/more",
        "amqp://u:hunter2@rabbit//",
        "amqp://u:hunter2@rabbit/mail#fragment",
        "amqp://u:hunter2@rabbit/mail?heartbeat=3",
        "amqp://u:hunter2@rabbit/mail?cacertfile=/ca",
        "amqps://u:hunter2@rabbit/mail?cacertfile=/a&cacertfile=/b",
        "amqps://u:hunter2@rabbit/mail?keyfile=/key",
        "amqps://u:hunter2@rabbit/mail?cacertfile",
        "amqp://u:hunter2@[::1/mail",
        "amqp://u:hunter2@a/mail;amqp://u:hunter2@b/other",
        "amqp://u:hunter2@a/mail;",
    ],
)
def test_what_is_no_url(text: str) -> None:
    """The error names the key and says what was expected, and has nothing of the password."""
    with pytest.raises(ValueError, match=re.escape("broker_url: expected ")) as error:
        parse_broker_url("broker_url", text)
    assert "hunter2" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


@given(st.text())
def test_any_text_is_a_url_or_named(text: str) -> None:
    """Whatever is set, it is a URL or a ValueError that names the key."""
    said = ""
    try:
        assert all(isinstance(one, BrokerUrl) for one in parse_broker_url("broker_url", text))
    except ValueError as error:
        said = str(error)
    assert said == "" or said.startswith("broker_url: expected ")


def test_no_password_in_a_repr() -> None:
    """Neither of the URL nor of what pika gets."""
    text = "amqp://u:hunter2@rabbit/mail"
    given_to_pika = parameters_of(text, app="billing", role="worker", host="mx1", pid=17)
    assert "hunter2" not in repr(parse_broker_url("broker_url", text))
    assert "hunter2" not in repr(given_to_pika)
    assert given_to_pika[0].credentials.password == "hunter2"


def test_names_of_connections() -> None:
    """The one that consumes has the app, the host and the process; others have their role behind it."""
    assert connection_name(app="billing", role="worker", host="mx1", pid=17) == "mailfleet billing mx1 17"
    assert connection_name(app="billing", role="publisher", host="mx1", pid=17).endswith(" 17 publisher")
    assert connection_name(app=None, role="setup", host="mx1", pid=17) == "mailfleet mx1 17 setup"


def test_what_pika_is_told() -> None:
    """No wait is without an end, and the server is told who connects."""
    parameters = parameters_of(
        "amqp://u:p@a/mail;amqps://u:p@b/mail", app="billing", role="producer", host="mx1", pid=17
    )
    assert [(one.host, one.port, one.virtual_host) for one in parameters] == [
        ("a", 5672, "mail"),
        ("b", 5671, "mail"),
    ]
    for one in parameters:
        assert one.socket_timeout <= 2
        assert one.stack_timeout <= 2
        assert one.blocked_connection_timeout == 60
        assert one.heartbeat == 20
        assert one.connection_attempts == 1
        said = dict(one.client_properties)
        assert said.pop("version")
        assert said == {
            "connection_name": "mailfleet billing mx1 17 producer",
            "product": "mailfleet",
            "app": "billing",
            "role": "producer",
            "host": "mx1",
            "pid": 17,
        }
    plain, tls = (one.ssl_options for one in parameters)
    assert plain is None
    assert tls.server_hostname == "b"
    assert tls.context.check_hostname


def test_a_certificate_file_that_is_not_there() -> None:
    """It is an OSError when connections are made, not when the URL is checked."""
    url = "amqps://u:p@b/mail?cacertfile=/nonexistent/ca.pem"
    assert parse_broker_url("broker_url", url)[0].cacertfile == "/nonexistent/ca.pem"
    with pytest.raises(FileNotFoundError):
        parameters_of(url, app=None, role="setup", host="mx1", pid=17)
