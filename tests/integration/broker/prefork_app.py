"""A web application as prefork servers load it: one mailer for the module, used before the first fork, then by requests."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mailfleet import Mail, Mailer
from tests.waiting import wait_until

mailer = Mailer.from_env("billing")


def emit(subject: str) -> int:
    return mailer.emit(Mail(to=["ada@example.net"], subject=subject, text="Hello"))


# The connections to PostgreSQL and RabbitMQ and the publisher's thread are there when the server forks.
emit("before the fork")
wait_until(lambda: mailer.counts().published == 1, 20, lambda: f"{mailer.counts()}")


def application(
    environ: Mapping[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """WSGI: a mail for each request; the answer is the process and the mail."""
    body = f"{os.getpid()} {emit(environ['PATH_INFO'])}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
