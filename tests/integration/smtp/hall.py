"""A pool of connections that are open by right, on a clock that stands still."""

from dataclasses import dataclass, field

from mailfleet_workers.account import Account
from mailfleet_workers.catcher import Catcher
from mailfleet_workers.smtp.base import Answer
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.smtp.pooled import PooledConnection
from tests.integration.smtp.dialogue import account, envelope
from tests.waiting import wait_until


@dataclass
class Recording:
    """A right that writes down what it hears."""

    token: str = "one"
    held: bool = True
    allows: bool = True
    heard: list[str] = field(default_factory=list)

    def opened(self, refused: Answer | None) -> None:
        self.heard.append("opened" if refused is None else f"refused at {refused.phase}")

    def again(self) -> bool:
        self.heard.append("again")
        return self.allows

    def close(self, *, orderly: bool) -> None:
        self.heard.append("closed" if orderly else "lingers")


class Hall:
    """A pool on a clock that stands still, and a server that counts."""

    def __init__(self, catcher: Catcher) -> None:
        self.now = 1000.0
        self.catcher = catcher
        self.account = account(catcher.port, max_idle_s=100.0, max_age_s=1000.0)
        self.pool = ConnectionPool(transport, lambda: self.now)

    def open(self, right: Recording) -> PooledConnection:
        return opened(self.pool, self.account, right)

    def kept(self, *tokens: str) -> list[Recording]:
        """Idle connections, each of which has sent a mail."""
        rights = [Recording(token) for token in tokens]
        lent = [(self.open(right), right) for right in rights]
        for connection, _ in lent:
            self.pool.give_back(connection, sent(connection))
        return rights

    def served(self, number: int) -> None:
        """The server has *number* connections open, now or soon."""
        wait_until(
            lambda: self.catcher.open_sessions == number, 10, lambda: f"{self.catcher.open_sessions} are open"
        )


def transport(of: Account) -> SmtpTransport:
    return SmtpTransport(of, environ={})


def opened(pool: ConnectionPool, of: Account, right: Recording) -> PooledConnection:
    connection = pool.open(of, right)
    assert isinstance(connection, PooledConnection), connection
    return connection


def sent(connection: PooledConnection) -> Answer:
    answer = connection.transmit(envelope(), before_dot=lambda: True)
    assert answer.accepted, answer
    return answer
