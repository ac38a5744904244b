"""What sending tells its watchers, in the words of the domain; where the numbers go is decided elsewhere.

Every part of a worker that has something to say gets a `Meter`. `SILENT`, the default, measures nothing;
`mailfleet_workers.telemetry.prometheus` keeps what is said as metrics. A meter never raises for what it is told, never
waits for anybody, and may be called from any thread.
"""

from typing import Literal

from mailfleet_schema.states import Priority

#: Parts of a conversation that take time; `body` is the mail itself, `eod` the final dot and the reply to it.
SmtpPart = Literal["connect", "starttls", "ehlo", "auth", "mail", "rcpt", "data", "body", "eod"]
ConnectionState = Literal["busy", "idle"]
Fate = Literal["published", "failed", "dropped"]


class Meter:
    """A meter that measures nothing, and the interface of those that do. Times are in seconds.

    `app` is the app of the mail, `account` the name of an account, and `host` its server as limits and gates know it.
    """

    def hinted(self, app: str, priority: Priority, fate: Fate, mails: int) -> None:
        """Hints of *mails* mails were handed to the broker by this worker, or not."""

    def began(self, app: str, priority: Priority, queue_s: float) -> None:
        """The first attempt at a mail begins, *queue_s* after it was due."""

    def attempted(self, app: str, account: str, host: str, verdict: str) -> None:
        """An attempt ended with *verdict*, which is the name that `mail_attempt` has."""

    def part(self, account: str, host: str, name: SmtpPart, seconds: float) -> None:
        """One part of a conversation ended, well or not, after *seconds*."""

    def replied(self, account: str, host: str, code: int | None) -> None:
        """A conversation, or the opening of a connection, ended with the server's *code*; None for silence."""

    def connection(self, account: str, host: str, state: ConnectionState, change: int) -> None:
        """One connection more (1) or less (-1) is in *state*."""

    def permits(self, app: str, account: str, host: str, wished: int, granted: int, rule: str = "") -> None:
        """The limiter granted *granted* of *wished* permits; *rule* is what refused when it granted none."""

    def waited(self, app: str, account: str, seconds: float) -> None:
        """A mail was told to wait *seconds*: by a limit, a gate or a server."""

    def doubted(self, app: str, mails: int) -> None:
        """So many mails came into doubt."""

    def reconciled(self, app: str, reason: str, mails: int) -> None:
        """The reconciler of *app*'s pool did *reason* with so many mails: a field of its `Pass`."""

    def claim_missed(self, app: str, mails: int) -> None:
        """So many mails of a hint could not be claimed: done already, not due, or somebody else's."""

    def parked(self, app: str, reason: str, messages: int = 1) -> None:
        """A message that is no hint was put aside; *reason* is one of a few words, never text from the message."""

    def limiter(self, app: str, *, available: bool) -> None:
        """The limiter of this process answers, or does not any more."""

    def hooked(self, app: str, result: str) -> None:
        """A hook of *app* was called: `done`, `stop`, `raised`, `overdue`, or `refused` because too many hang."""

    def noticed(self, app: str, account: str, host: str, result: str) -> None:
        """A mail without a row ended with *result*, a word of `notice.results`; account and host are empty where unknown."""

    def unlimited(self, app: str, account: str, host: str) -> None:
        """A mail without a row went without a permit, because nobody could say whether there was one."""

    def webhook(self, endpoint: str, result: str, events: int = 1) -> None:
        """So many events for *endpoint* were `delivered`, `failed` (and are tried again), or `given_up`."""

    def flush(self) -> None:
        """Hand on what was gathered: the process ends."""


#: Measures nothing.
SILENT = Meter()
