"""What every limiter must do, whatever it counts with, one without limits included: answers, reports, gates."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mailfleet_schema.statements.gate import Gate
from mailfleet_workers.limits.base import Grant, Limiter, Login, Refusal, Report, Slot
from mailfleet_workers.limits.book import Book, Limits
from tests.conformance.limits.kinds import HOST, KINDS, World, granted, rule, wish

#: Room for some permits and connections.
ROOM = Limits("default", HOST, (rule("100/s"),), connections=5)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> World:
    return KINDS[request.param](request, Book({"default": ROOM}))


@pytest.fixture
def limiter(world: World) -> Limiter:
    return world.limiter


def gate(
    key: str = "default", scope: str = "account", remaining_s: float = 60.0, generation: int = 1
) -> Gate:
    return Gate(scope, key, remaining_s, generation, "too many")


def test_a_grant_is_of_one_permit_to_what_was_wished(limiter: Limiter) -> None:
    """An idle limiter grants, under the token of the request, at least one permit and at most those wished."""
    grant = granted(limiter.ask(wish("t1", 4)))
    assert grant.token == "t1"
    assert 1 <= grant.permits <= 4


def test_a_refusal_names_a_rule_and_a_wait(limiter: Limiter) -> None:
    """Asked until it refuses (a thousand times at most), a limiter says which rule and when to ask again."""
    for number in range(1000):
        answer = limiter.ask(wish(str(number), 64))
        if isinstance(answer, Refusal):
            assert answer.rule
            assert answer.wait_s > 0
            return


def test_a_slot_can_be_given_back_twice(limiter: Limiter) -> None:
    """A slot names what it is for; giving it back again does no harm, and neither does renewing without any."""
    slot = granted(limiter.ask(wish("t1", slot="s1"))).slot
    assert slot == Slot("s1", "default", HOST)
    limiter.logged_in(slot, Login.DONE)
    limiter.renew()
    limiter.close_slot(slot)
    limiter.close_slot(slot)
    limiter.logged_in(slot, Login.FAILED)
    limiter.renew()
    assert granted(limiter.ask(wish("t2", slot="s2"))).slot is not None


def test_no_gate_is_closed_at_first(limiter: Limiter) -> None:
    """A world in which nobody has to wait has open gates."""
    assert limiter.gate(account="default", host=HOST, domains=["example.net"]) is None


@pytest.mark.parametrize(
    ("scope", "key"),
    [("account", "default"), ("host", HOST), ("app", "billing"), ("recipient", "example.net")],
)
def test_a_gate_closes_for_those_it_is_about(limiter: Limiter, scope: str, key: str) -> None:
    """A closed gate is seen at once by its account, host, app or recipient domain, and by nobody else."""
    limiter.close_gate(gate(key, scope))
    closed = limiter.gate(account="default", host=HOST, app="billing", domains=["example.org", "example.net"])
    assert closed is not None
    assert (closed.scope, closed.key, closed.reason) == (scope, key, "too many")
    assert 0 < closed.remaining_s <= 60
    others = limiter.gate(account="other", host="other.example.net", app="shop", domains=["example.org"])
    assert others is None


def test_a_gate_of_everybody(limiter: Limiter) -> None:
    """What is closed for all is closed for every account, host, app and domain, until it is opened for all."""
    limiter.close_gate(gate("*", "all"))
    assert limiter.gate(account="other", host="other.example.net") is not None
    limiter.refresh_gates([gate("*", "all", remaining_s=0, generation=2)])
    assert limiter.gate(account="other", host="other.example.net") is None


@pytest.mark.tinymail("32", "D27")
def test_the_same_key_in_another_scope_is_another_gate(limiter: Limiter) -> None:
    """An account and a host of one name do not close each other's gates."""
    limiter.close_gate(gate("twin", "account"))
    assert limiter.gate(account="other", host="twin") is None
    assert limiter.gate(account="twin", host="other") is not None


def test_the_longest_gate_counts(limiter: Limiter) -> None:
    """Of several closed gates the one that is closed longest is told."""
    limiter.close_gate(gate("default", "account", 30))
    limiter.close_gate(gate(HOST, "host", 90))
    closed = limiter.gate(account="default", host=HOST)
    assert closed is not None
    assert closed.scope == "host"


def test_a_gate_opens_when_its_time_is_over(world: World) -> None:
    """What remains of a wait grows less, and at its end the gate is open."""
    world.limiter.close_gate(gate(remaining_s=60))
    world.pass_s(45)
    closed = world.limiter.gate(account="default", host=HOST)
    assert closed is not None
    assert 10 < closed.remaining_s <= 15
    world.pass_s(16)
    assert world.limiter.gate(account="default", host=HOST) is None


def test_a_short_wait_does_not_open_what_a_long_one_closed(limiter: Limiter) -> None:
    """A gate closed for an hour stays closed for it when another thread closes it for a second."""
    limiter.close_gate(gate(remaining_s=3600))
    limiter.close_gate(gate(remaining_s=1))
    closed = limiter.gate(account="default", host=HOST)
    assert closed is not None
    assert closed.remaining_s > 3000


def test_a_longer_wait_prolongs_a_gate(limiter: Limiter) -> None:
    """A gate closed for a second is closed for an hour when somebody is told so."""
    limiter.close_gate(gate(remaining_s=1))
    limiter.close_gate(gate(remaining_s=3600))
    closed = limiter.gate(account="default", host=HOST)
    assert closed is not None
    assert closed.remaining_s > 3000


def test_the_database_knows_best(limiter: Limiter) -> None:
    """What the database says replaces what was known: an operator opens a gate, others closed another."""
    limiter.close_gate(gate("opened"))
    limiter.close_gate(gate("shortened", remaining_s=3600))
    limiter.refresh_gates([gate("new", generation=4), gate("shortened", remaining_s=60, generation=5)])
    assert limiter.gate(account="opened", host=HOST) is None
    assert limiter.gate(account="new", host=HOST) is not None
    shortened = limiter.gate(account="shortened", host=HOST)
    assert shortened is not None
    assert shortened.remaining_s <= 60
    limiter.refresh_gates([])
    assert limiter.gate(account="new", host=HOST) is None


def test_threads_at_once(limiter: Limiter) -> None:
    """Eight threads ask, report, close and refresh gates at once: nothing is raised, everybody is answered."""

    def work(number: int) -> int:
        answers = 0
        for turn in range(200):
            token = f"{number}-{turn}"
            answer = limiter.ask(wish(token, 2, app=f"app{number}", slot=f"s{token}"))
            limiter.close_gate(gate(f"a{turn % 8}", remaining_s=turn + 1))
            limiter.gate(account=f"a{number}", host=HOST)
            if turn % 50 == 0:
                limiter.refresh_gates([gate(f"a{n}") for n in range(8)])
                limiter.renew()
            limiter.report([Report(token, 0)])
            if isinstance(answer, Grant) and answer.slot is not None:
                limiter.logged_in(answer.slot, Login.DONE)
                limiter.close_slot(answer.slot)
            answers += isinstance(answer, Grant | Refusal)
        return answers

    with ThreadPoolExecutor(8) as threads:
        assert [job.result(60) for job in [threads.submit(work, n) for n in range(8)]] == [200] * 8
    limiter.refresh_gates([])
    assert limiter.gate(account="a0", host=HOST) is None
