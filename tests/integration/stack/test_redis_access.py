"""The ways to Redis that docs/deploy.md tells: a user with few rights, TLS, a cluster of one shard."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, LimiterUnavailable, Login, Report, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit
from tests.integration.catcher.certificate import CERTIFICATE, KEY
from tests.services.locate import find_redis
from tests.services.ports import free_port
from tests.services.redis import PrivateRedis
from tests.stack.compose import ROOT
from tests.waiting import wait_until

HOST = "smtp.example.com"
LIMITS = Limits(
    "news",
    HOST,
    rules=(
        Rule(Scope.ACCOUNT, Unit.MESSAGES, Rate.parse("10/s")),
        Rule(Scope.HOST, Unit.RECIPIENTS, Rate.parse("1000/h")),
    ),
    connections=2,
    host_connections=5,
    login_gap_ms=1,
    weights={"shop": 1, "billing": 2},
    login=True,
)


def private(**settings: str) -> PrivateRedis:
    """A Redis of one test alone, not started yet."""
    binaries = find_redis()
    assert binaries is not None, "this test needs the program redis-server on this machine"
    return PrivateRedis(
        binaries, settings={name.replace("_", "-"): value for name, value in settings.items()}
    )


@contextmanager
def limiter(url: str) -> Iterator[RedisLimiter]:
    """A worker's limiter."""
    made = RedisLimiter(url, Book({"news": LIMITS}), instance="test")
    try:
        yield made
    finally:
        made.close()


def use_everything(limiter: RedisLimiter) -> None:
    """Every kind of call that a worker makes; raises where Redis refuses one."""
    for lacking in limiter.unready():
        limiter.seed(lacking.host, [(name, [(0.5, 1)]) for name, _, _ in lacking.rules], epoch=lacking.epoch)
    granted = limiter.ask(Request("g", "shop", "news", HOST, Priority.NORMAL, (1, 2), slot="s"))
    assert isinstance(granted, Grant)
    assert granted.slot is not None
    limiter.logged_in(granted.slot, Login.DONE)
    limiter.ask(Request("h", "billing", "news", HOST, Priority.HIGH, (1,) * 20))
    limiter.ask(Request("i", "billing", "news", HOST, Priority.HIGH, (1,)))
    limiter.park(app="shop", account="news", priority=Priority.BULK, mails=3, after_s=0)
    limiter.renew()
    limiter.report([Report("g", 0)])
    limiter.refresh_gates([Gate("account", "news", 5.0, 1, "tried")])
    limiter.close_slot(granted.slot)
    assert limiter.usage("news").rules
    assert limiter.away is None


def test_the_user_in_the_docs_may_do_all_that_workers_do() -> None:
    """Nothing is refused to that user, who may neither read other keys nor empty the server."""
    text = (ROOT / "docs/deploy.md").read_text()
    (line,) = re.findall(r"^user (mailfleet .*)$", text, re.MULTILINE)
    with private() as server:
        server.control("ACL", "SETUSER", *line.replace(">PASSWORD", ">pw").split())
        server.control("SET", "theirs", "1")
        with limiter(f"redis://mailfleet:pw@{server.host}:{server.port}/3") as ours:
            use_everything(ours)
        assert server.control("ACL", "LOG") == []
        with redis.Redis.from_url(f"redis://mailfleet:pw@{server.host}:{server.port}/0") as client:
            for refused in (client.flushall, lambda: client.get("theirs"), client.config_get, client.keys):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    refused()


def test_tls_verifies_the_server_and_its_name() -> None:
    """With the authority's file it works; without it, or by another address than the certificate's, Redis is away."""
    port = free_port()
    with private(bind="127.0.0.1 127.0.0.2") as server:
        pem = server.directory / "redis.pem"
        pem.write_text(KEY + CERTIFICATE)
        pem.chmod(0o644)
        settings = {"tls-cert-file": pem, "tls-key-file": pem, "tls-auth-clients": "no", "tls-port": port}
        server.control("CONFIG", "SET", *(str(word) for setting in settings.items() for word in setting))
        with limiter(f"rediss://localhost:{port}/0?ssl_ca_certs={pem}") as ours:
            use_everything(ours)
        for wrong in (f"localhost:{port}/0", f"127.0.0.2:{port}/0?ssl_ca_certs={pem}"):
            with (
                limiter(f"rediss://{wrong}") as ours,
                pytest.raises(LimiterUnavailable, match="CERTIFICATE_VERIFY_FAILED"),
            ):
                use_everything(ours)


def test_no_call_needs_two_slots_of_a_cluster() -> None:
    """A cluster of one shard does everything; it would refuse a call whose keys belong to different slots."""
    with private(cluster_enabled="yes", cluster_port=str(free_port())) as server:
        server.control("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(
            lambda: "cluster_state:ok" in str(server.control("CLUSTER", "INFO")), 10, lambda: "no cluster"
        )
        with limiter(server.url) as ours:
            use_everything(ours)
        keys = server.control("KEYS", "*")
        assert len(keys) >= 5
        assert len({server.control("CLUSTER", "KEYSLOT", key) for key in keys}) == 1
