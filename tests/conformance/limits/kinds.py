"""The kinds of limiters, and worlds to try them in: add a kind to KINDS, and it is tested."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from redis import Redis

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Limiter, Refusal, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.redis_script import Script, script_text
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit

HOST = "mx.example.net"
#: What every kind's leases last.
LEASE_S = 15.0
#: A machine whose processors are others' for a moment is not a Redis that is away.
PATIENT_S = 20.0


@dataclass(frozen=True)
class World:
    """A limiter over limits that can be changed; `pass_s` lets seconds go by on its clock, which says `now_s`.

    `more` makes another process's limiter.
    """

    limiter: Limiter
    book: Book
    pass_s: Callable[[float], None]
    now_s: Callable[[], float]
    more: Callable[[], Limiter] | None = None

    def another(self) -> Limiter:
        """The limiter of another process in the same world; the same one where a kind has one process only."""
        return self.limiter if self.more is None else self.more()

    def change(self, *limits: Limits) -> None:
        """From now on *limits* apply."""
        self.book.replace({one.account: one for one in limits})

    def pass_busy_s(self, seconds: int) -> None:
        """Let *seconds* go by while somebody asks every second, for an account of its own."""
        for second in range(seconds):
            self.pass_s(1.0)
            self.limiter.ask(wish(f"busy{second}", account="busy"))


#: Makes a world for a test; what it needs are fixtures, what it opens is closed by a finalizer.
Kind = Callable[[pytest.FixtureRequest, Book], World]


def local(book: Book) -> World:
    """A world in this process."""
    now = [1000.0]

    def pass_s(seconds: float) -> None:
        now[0] += seconds

    return World(LocalLimiter(book, lambda: now[0], lease_s=LEASE_S), book, pass_s, lambda: now[0])


class _Told(Book):
    """Limits of which a limiter is told at once that nothing was sent yet, whenever they change."""

    tell: Callable[[], None]

    def replace(self, limits: Mapping[str, Limits]) -> None:
        super().replace(limits)
        self.tell()


def timed_by(key: str) -> str:
    """The script on a clock of its own: it reads *key* where it would ask Redis for the time.

    There somebody is always heard of who has the rules: time passes in leaps.
    """
    text = re.sub(
        r"local clock = redis.call\('TIME'\)\nlocal now = .*",
        f"local now = tonumber(redis.call('GET', '{key}'))",
        script_text(),
    )
    assert "'TIME'" not in text
    text, always = re.subn(r"(?m)^local HEARD = \d+", "local HEARD = math.huge", text)
    assert always == 1
    return text


def redis(request: pytest.FixtureRequest, limits: Book) -> World:
    """A world in a real Redis, on a clock of its own."""
    url, prefix = request.getfixturevalue("session_redis").url, f"conformance:{uuid.uuid4().hex}"
    text = timed_by(prefix)
    client = Redis.from_url(url)
    request.addfinalizer(client.close)
    now, book = [1_000_000.0], _Told(limits.all())

    def pass_s(seconds: float) -> None:
        now[0] += seconds * 1000
        client.set(prefix, f"{now[0]:.3f}", ex=600)

    def more() -> RedisLimiter:
        script = Script(url, lease_s=LEASE_S, text=text, timeout_s=PATIENT_S)
        limiter = RedisLimiter(
            url, book, instance=prefix, lease_s=LEASE_S, clock=lambda: now[0] / 1000, script=script
        )
        request.addfinalizer(limiter.close)
        return limiter

    pass_s(0)
    limiter = more()

    def tell() -> None:
        for lacking in limiter.unready():
            limiter.seed(lacking.host, [(name, ()) for name, _, _ in lacking.rules], epoch=lacking.epoch)

    book.tell = tell
    tell()
    return World(limiter, book, pass_s, lambda: now[0] / 1000, more)


KINDS: dict[str, Kind] = {"local": lambda _, book: local(book), "redis": redis}


def rule(text: str, unit: Unit = Unit.MESSAGES, scope: Scope = Scope.ACCOUNT) -> Rule:
    """A rule for an account's messages, unless said otherwise."""
    return Rule(scope, unit, Rate.parse(text))


def recipients(text: str) -> Rule:
    """A rule for an account's recipients."""
    return rule(text, Unit.RECIPIENTS)


def of_host(text: str) -> Rule:
    """A rule for the messages of a whole host."""
    return rule(text, scope=Scope.HOST)


def wish(
    token: str,
    number: int = 1,
    *,
    account: str = "default",
    app: str = "billing",
    priority: Priority = Priority.NORMAL,
    to: Sequence[int] | None = None,
    slot: str | None = None,
    comes: bool = False,
) -> Request:
    """A request for *number* mails with one recipient each, or for mails with as many as *to* says."""
    return Request(token, app, account, HOST, priority, tuple(to or (1,) * number), slot, comes)


def granted(answer: Grant | Refusal) -> Grant:
    """*answer*, which must be a grant."""
    assert isinstance(answer, Grant), answer
    return answer


def refused(answer: Grant | Refusal) -> Refusal:
    """*answer*, which must be a refusal."""
    assert isinstance(answer, Refusal), answer
    return answer
