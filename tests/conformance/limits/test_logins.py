"""Logins: the gap between two, and the breaker that keeps a wrong password from locking an account."""

from dataclasses import replace

import pytest

from mailfleet_workers.limits.base import Limiter, Login, Refusal, Slot
from mailfleet_workers.limits.book import Limits
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, LEASE_S, World, refused, wish

GAP = Limits("default", HOST, connections=10, login_gap_ms=500)
CREDENTIALS = Limits("default", HOST, connections=10, login=True)
QUARTER_S = 900


def ask(limiter: Limiter, name: str, account: str = "default") -> Slot | Refusal:
    """A slot for a connection, or why there is none."""
    answer = limiter.ask(wish(f"t{name}", account=account, slot=f"s{name}"))
    if isinstance(answer, Refusal):
        assert answer.slot
        assert answer.wait_s > 0
        return answer
    assert answer.slot is not None
    return answer.slot


def opened(limiter: Limiter, name: str, account: str = "default") -> Slot:
    """The slot whose login is in progress now."""
    slot = ask(limiter, name, account)
    assert isinstance(slot, Slot), slot
    return slot


def try_to_log_in(world: World, name: str, login: Login) -> None:
    """Open a connection, end its login as *login* says, close it."""
    slot = opened(world.limiter, name)
    world.limiter.logged_in(slot, login)
    world.limiter.close_slot(slot)


def waits(world: World, name: str, account: str = "default") -> float:
    """How long nobody may log in; somebody asks for it."""
    answer = ask(world.limiter, name, account)
    assert isinstance(answer, Refusal), answer
    return answer.wait_s


@pytest.mark.tinymail("29", "U2")
def test_a_gap_between_two_logins(world_of: WorldOf) -> None:
    """The next login begins no earlier than the gap after the end of the last."""
    world = world_of(GAP)
    world.limiter.logged_in(opened(world.limiter, "1"), Login.DONE)
    world.pass_s(0.2)
    refusal = ask(world.limiter, "2")
    assert isinstance(refusal, Refusal)
    assert refusal.rule == "login gap"
    assert 0.29 < refusal.wait_s < 0.31
    world.pass_s(0.29)
    waits(world, "2")
    world.pass_s(0.02)
    opened(world.limiter, "2")


@pytest.mark.tinymail("29", "U2", "D7")
def test_one_login_at_a_time_where_there_is_a_gap(world_of: WorldOf) -> None:
    """While a login is in progress nobody begins another; the gap begins at its end, however it ended."""
    world = world_of(GAP)
    for number, login in enumerate((Login.DONE, Login.FAILED, Login.REFUSED)):
        slot = opened(world.limiter, f"{number}")
        world.pass_s(2)
        waits(world, f"{number}-early")
        world.limiter.logged_in(slot, login)
        world.pass_s(0.45)
        waits(world, f"{number}-early")
        world.pass_s(0.1)


def test_a_connection_closed_in_its_login_does_not_block_for_ever(world_of: WorldOf) -> None:
    """Of a login that nobody ended the slot was closed: after the gap the next may begin."""
    world = world_of(GAP)
    world.limiter.close_slot(opened(world.limiter, "1"))
    world.pass_s(0.51)
    opened(world.limiter, "2")


def test_without_a_gap_logins_go_side_by_side(world_of: WorldOf) -> None:
    """Where no gap is set a login in progress blocks nobody."""
    limiter = world_of(replace(GAP, login_gap_ms=0)).limiter
    for number in range(10):
        opened(limiter, f"{number}")


@pytest.mark.tinymail("29", "32")
def test_a_host_s_gap_is_between_logins_of_all_its_accounts(world_of: WorldOf) -> None:
    """A gap of the host is kept by all accounts on it, an account's own by itself only."""
    default = Limits("default", HOST, host_login_gap_ms=500)
    world = world_of(default, replace(default, account="other"))
    world.limiter.logged_in(opened(world.limiter, "1"), Login.DONE)
    assert 0 < waits(world, "2", "other") <= 0.501
    own = world_of(GAP, replace(GAP, account="other"))
    own.limiter.logged_in(opened(own.limiter, "1"), Login.DONE)
    opened(own.limiter, "2", "other")


def test_a_slot_s_next_login_keeps_the_gap(world_of: WorldOf) -> None:
    """A slot whose connection was closed is used again: its new login keeps the gap, and others wait for it."""
    world = world_of(GAP)
    slot = opened(world.limiter, "1")
    world.limiter.logged_in(slot, Login.DONE)
    refusal = world.limiter.login(slot)
    assert refusal is not None
    assert 0.4 < refusal.wait_s <= 0.501
    world.pass_s(0.51)
    assert world.limiter.login(slot) is None
    waits(world, "2")
    world.limiter.logged_in(slot, Login.DONE)
    world.pass_s(0.51)
    opened(world.limiter, "2")


def test_nobody_logs_in_with_a_slot_that_is_not_its_own(world_of: WorldOf) -> None:
    """Whose lease was over may have been given to others: it has no right to another connection."""
    world = world_of(GAP)
    slot = opened(world.limiter, "1")
    world.limiter.logged_in(slot, Login.DONE)
    world.pass_busy_s(int(LEASE_S) + 1)
    refusal = world.limiter.login(slot)
    assert refusal is not None
    assert refusal.rule == "connection lost"
    assert refusal.slot
    assert 0 < refusal.wait_s < 1
    world.limiter.renew()
    assert world.limiter.login(slot) is None


def test_an_account_without_limits_logs_in_at_once(world_of: WorldOf) -> None:
    """Neither a gap nor a breaker: `login` is always allowed."""
    limiter = world_of(Limits("free", HOST)).limiter
    slot = opened(limiter, "1", "free")
    for _ in range(5):
        assert limiter.login(slot) is None
        limiter.logged_in(slot, Login.REFUSED)


def test_three_refused_logins_stop_everybody(world_of: WorldOf) -> None:
    """After the third refusal within a quarter of an hour nobody tries for a quarter of an hour since the last."""
    world = world_of(CREDENTIALS)
    for number in range(3):
        try_to_log_in(world, f"{number}", Login.REFUSED)
        world.pass_s(10)
    refusal = refused(world.another().ask(wish("t4", slot="s4")))
    assert refusal.rule == "login refused"
    assert QUARTER_S - 11 < refusal.wait_s <= QUARTER_S - 9
    world.pass_s(QUARTER_S - 11)
    waits(world, "4")


def test_then_one_tries_at_a_time(world_of: WorldOf) -> None:
    """After the quarter of an hour one tries; refused, it is a quarter of an hour again, and one tries again."""
    world = world_of(CREDENTIALS)
    for number in range(3):
        try_to_log_in(world, f"{number}", Login.REFUSED)
    for probe in range(3):
        world.pass_s(QUARTER_S + 1)
        slot = opened(world.limiter, f"probe{probe}")
        waits(world, f"beside{probe}")
        world.limiter.logged_in(slot, Login.REFUSED)
        world.limiter.close_slot(slot)
        assert QUARTER_S - 1 < waits(world, f"after{probe}") <= QUARTER_S + 0.01


def test_a_success_clears_the_breaker(world_of: WorldOf) -> None:
    """Once a login succeeds everybody may log in, and refusals before it count no more."""
    world = world_of(CREDENTIALS)
    for number in range(3):
        try_to_log_in(world, f"{number}", Login.REFUSED)
    world.pass_s(QUARTER_S + 1)
    try_to_log_in(world, "probe", Login.DONE)
    for number in range(3):
        try_to_log_in(world, f"again{number}", Login.DONE)
    for number in range(2):
        try_to_log_in(world, f"refused{number}", Login.REFUSED)
    opened(world.limiter, "last")


def test_never_more_than_three_tries_in_the_dark(world_of: WorldOf) -> None:
    """Logins in progress count with those refused: before a server has said yes, three at most are tried."""
    world = world_of(CREDENTIALS)
    try_to_log_in(world, "0", Login.REFUSED)
    slots = [opened(world.limiter, f"{number}") for number in (1, 2)]
    waits(world, "3")
    for slot in slots:
        world.limiter.logged_in(slot, Login.REFUSED)
    assert waits(world, "4") > QUARTER_S - 1


def test_a_login_may_last_longer_than_a_lease(world_of: WorldOf) -> None:
    """Logins of slots that are renewed are in progress until they end, however long a server takes."""
    for limits in (CREDENTIALS, GAP, Limits("default", HOST, host_login_gap_ms=500)):
        world = world_of(limits)
        slots = [opened(world.limiter, f"{number}") for number in range(3 if limits.login else 1)]
        for _ in range(3):
            world.pass_s(LEASE_S * 0.6)
            assert not world.limiter.renew().lost
            waits(world, "early")
        for slot in slots:
            world.limiter.logged_in(slot, Login.DONE)
        world.pass_s(0.6)
        opened(world.limiter, "next")


def test_a_connection_that_fails_says_nothing_of_the_password(world_of: WorldOf) -> None:
    """Only refused credentials count: a server that does not answer, or not now, breaks nothing."""
    world = world_of(CREDENTIALS)
    for number in range(10):
        try_to_log_in(world, f"{number}", Login.FAILED)


def test_refusals_of_long_ago_do_not_count(world_of: WorldOf) -> None:
    """Two refusals, and two more a quarter of an hour later, are never three within one."""
    world = world_of(CREDENTIALS)
    for turn in range(3):
        for number in range(2):
            try_to_log_in(world, f"{turn}-{number}", Login.REFUSED)
        world.pass_s(QUARTER_S + 1)


def test_each_account_has_its_own_breaker(world_of: WorldOf) -> None:
    """A wrong password of one account stops no other, nor an account whose logins are not counted."""
    limits = (
        CREDENTIALS,
        replace(CREDENTIALS, account="other"),
        replace(GAP, account="plain", login_gap_ms=0),
    )
    world = world_of(*limits)
    for number in range(3):
        try_to_log_in(world, f"{number}", Login.REFUSED)
    waits(world, "4")
    opened(world.limiter, "5", "other")
    opened(world.limiter, "6", "plain")
