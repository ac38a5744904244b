"""`postfix`: one receiving server for the session, started on first use.

Its Maildir is shared by all tests of the session: a test that counts mails calls `postfix.clear()` first. With
pytest-xdist each worker has a server of its own. A missing server fails the test that asked for it.
"""

from collections.abc import Iterator

import pytest

from tests.services.base import MissingServiceError, PostfixServer
from tests.services.choose import POSTFIX, describe
from tests.services.opening import open_postfix


def pytest_report_header() -> str:
    """Which Postfix the tests will use."""
    return describe(POSTFIX)


@pytest.fixture(scope="session")
def postfix() -> Iterator[PostfixServer]:
    """An SMTP server that takes every mail and keeps it in one Maildir."""
    try:
        server = open_postfix()
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    yield server
    server.stop()
