"""Where the management API is, and as whom it is asked."""

import pytest

from mailfleet.broker.rabbit.parameters import parse_broker_url
from mailfleet_workers.broker_state.management import Management

BROKER = parse_broker_url("broker_url", "amqp://mail:hunter2@rabbit/fleet")[0]


@pytest.mark.parametrize(
    ("url", "base", "user", "password"),
    [
        ("http://rabbit:15672", "http://rabbit:15672", "mail", "hunter2"),
        ("http://rabbit:15672/", "http://rabbit:15672", "mail", "hunter2"),
        ("https://rabbit/mq/api/", "https://rabbit/mq", "mail", "hunter2"),
        ("http://op:se%40cret@[::1]:15672", "http://[::1]:15672", "op", "se@cret"),
        ("http://op@rabbit", "http://rabbit", "op", ""),
    ],
)
def test_the_url(url: str, base: str, user: str, password: str) -> None:
    """It is asked as the broker's user unless the URL names another; the vhost is the broker's."""
    found = Management.at(url, BROKER)
    assert (found.base, found.user, found.password, found.vhost) == (base, user, password, "fleet")
    assert password == "" or password not in repr(found)


@pytest.mark.parametrize(
    "url", ["", "rabbit:15672", "ftp://rabbit", "http://", "http://r:port", "http://r/?x=1"]
)
def test_what_is_no_url(url: str) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match="--management: expected http://host:15672"):
        Management.at(url, BROKER)
