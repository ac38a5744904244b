"""An app that has had nothing lately, beside others that always want more."""

from mailfleet_workers.limits.base import Report
from mailfleet_workers.limits.book import Limits
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, granted, refused, rule, wish

SHARED = Limits("default", HOST, (rule("3/s"),), weights={"a": 1, "b": 1, "c": 1})


def test_who_has_had_nothing_lately_goes_first(world_of: WorldOf) -> None:
    """The first permit that becomes free is for it, though others have been told of that one before."""
    world = world_of(SHARED)
    for number, app in enumerate("aba"):
        granted(world.limiter.ask(wish(f"t{number}", app=app)))
        world.limiter.report([Report(f"t{number}", 0)])
        world.pass_s(0.08)
    backlogged, new = world.another(), world.another()
    told = refused(backlogged.ask(wish("b", app="b"))).wait_s
    assert refused(new.ask(wish("c", app="c"))).wait_s <= told + 0.001
    world.pass_s(told)
    assert refused(backlogged.ask(wish("b", app="b"))).wait_s < 0.3
    granted(new.ask(wish("c", app="c")))
