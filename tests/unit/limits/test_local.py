"""The limiter of one process: what is its own beside the suite that every limiter passes."""

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Login, Report
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.usage import RuleUse, Usage
from tests.conformance.limits.kinds import HOST, granted, local, of_host, refused, rule, wish

DAY_S = 86_400


def test_what_is_over_is_forgotten() -> None:
    """After a thousand accounts, apps and tokens, and a day without any, nothing of them is kept."""
    names = [f"a{number}" for number in range(1000)]
    weights = {"billing": 1, "shop": 2}
    book = Book(
        {
            name: Limits(
                name, f"{name}.example", (rule("1/min"), of_host("5/s")), login=True, weights=weights
            )
            for name in names
        }
    )
    world = local(book)
    limiter = world.limiter
    for name in names:
        slot = granted(limiter.ask(wish(f"t{name}", account=name, slot=f"s{name}"))).slot
        assert slot is not None
        limiter.logged_in(slot, Login.REFUSED)
        refused(limiter.ask(wish(f"u{name}", account=name, app="shop", priority=Priority.BULK)))
        limiter.park(app="shop", account=name, priority=Priority.BULK, mails=10, after_s=1.0)
        limiter.close_slot(slot, linger_s=1.0)
        if name != "a0":
            limiter.report([Report(f"t{name}", 0)])
    for _ in range(3):
        world.pass_s(DAY_S)
        limiter.report([])
    assert isinstance(limiter, LocalLimiter)
    assert not limiter._windows
    assert not limiter._flights
    assert not limiter._lines
    assert not limiter._parked
    assert not any(getattr(limiter._slots, name) for name in vars(limiter._slots) if name != "_lease_ms")


def test_a_rule_that_comes_back_lacks_what_was_sent_meanwhile() -> None:
    """Taken away and given back it is told again; of what it knew only what is in flight is left."""
    limited, free = Limits("default", HOST, (rule("100/d"),)), Limits("default", HOST)
    now = [0.0]
    limiter = LocalLimiter(Book({"default": limited}), lambda: now[0], empty=False)

    def tell(amount: int) -> None:
        for lacking in limiter.unready():
            limiter.seed(lacking.host, [(lacking.rules[0][0], [(1.0, amount)])], epoch=lacking.epoch)

    tell(3)
    granted(limiter.ask(wish("t1", 5)))
    limiter.report([Report("t1", 2, 2)])
    assert limiter.usage("default").rules[0].used == 8
    limiter.book.replace({"default": free})
    tell(0)
    limiter.book.replace({"default": limited})
    refused(limiter.ask(wish("t2")))
    tell(50)
    assert limiter.usage("default").rules[0].used == 52


def test_what_is_used_of_an_account() -> None:
    """For people: what counts, what of it is in flight, when one more may be sent, who waits, what is open."""
    default = Limits("default", HOST, (rule("2/min"), of_host("5/s")), connections=3, login=True)
    world = local(Book({"default": default}))
    limiter = world.limiter
    assert isinstance(limiter, LocalLimiter)
    slot = granted(limiter.ask(wish("t1", 2, slot="s1"))).slot
    assert slot is not None
    limiter.logged_in(slot, Login.REFUSED)
    limiter.report([Report("t1", 1, 1)])
    refused(limiter.ask(wish("t2")))
    limiter.park(app="billing", account="default", priority=Priority.NORMAL, mails=2, after_s=0.0)
    used = limiter.usage("default")
    assert used.rules[0] == RuleUse(rule("2/min"), 2, 1, used.rules[0].wait_s)
    assert 60 <= used.rules[0].wait_s <= 61
    assert used.rules[1] == RuleUse(of_host("5/s"), 2, 1, 0.0)
    assert (used.connections, used.host_connections, used.login_failures) == (1, 1, 1)
    assert 57 < used.parked_s < 92  # early by what may be slept
    assert used.waiting == 0  # the wait is too long to stand in line
    assert used.login_wait_s == 0


def test_an_account_that_nobody_knows_uses_nothing() -> None:
    """What is not configured has no limits to use."""
    limiter = LocalLimiter(Book({}), lambda: 0.0)
    assert limiter.usage("nobody") == Usage("nobody", "", 0.0, (), 0, 0, 0, 0.0, 0, 0.0)


def test_two_rules_of_one_length_count_a_mail_once() -> None:
    """Said twice with different limits, the smaller one holds, and each mail counts once."""
    world = local(Book({"default": Limits("default", HOST, (rule("10/min"), rule("6/60s")))}))
    assert granted(world.limiter.ask(wish("t1", 5))).permits == 5
    assert granted(world.limiter.ask(wish("t2", 5))).permits == 1
