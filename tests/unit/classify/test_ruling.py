"""One refusal by itself: what it means, for how long, and which rule says so."""

from datetime import UTC, datetime

import pytest

from mailfleet_workers.classify import Rules, Ruling, rule_on
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Retry, Scope, Stop, Wait

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWN = """
[[rule]]
reason = "pause"
verdict = "retry"
text = 'pause'
wait_s = 20
source = "s"
[[rule]]
reason = "final"
verdict = "stop"
text = 'final'
source = "s"
"""


def _ruled(phase: Phase, code: int, text: str, *, rules: Rules | None = None, host: str = "*") -> Ruling:
    return rule_on(Reply(code, text), phase, host=host, rules=rules or Rules.builtin(), now=NOW)


def test_the_rule_that_spoke_is_named() -> None:
    """Its place in the table and its source come along."""
    found = _ruled(Phase.RCPT, 550, "5.1.1 User unknown")
    assert isinstance(found.verdict, Stop)
    assert found.rule is not None
    assert found.rule.name.startswith("content.toml: rule ")


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.EHLO, Phase.AUTH])
def test_before_mail_a_retry_is_a_short_wait(phase: Phase) -> None:
    """No mail was judged: it is told as a retry, and the host or account waits as long as the rule says."""
    rules = Rules.parse(OWN, origin="t")
    found = _ruled(phase, 421, "pause", rules=rules)
    scope = Scope.ACCOUNT if phase is Phase.AUTH else Scope.HOST
    assert (found.kind, found.verdict) == ("retry", Wait(scope, 20, "pause", Reply(421, "pause")))
    final = _ruled(phase, 521, "final", rules=rules)
    assert (final.kind, final.verdict) == ("wait", Wait(scope, 86400, "final", Reply(521, "final")))


def test_after_mail_a_retry_is_one() -> None:
    """Its seconds are for phases before MAIL: a mail has its own back-off."""
    found = _ruled(Phase.EOD, 451, "pause", rules=Rules.parse(OWN, origin="t"))
    assert (found.kind, found.verdict) == ("retry", Retry("pause", Reply(451, "pause")))


def test_a_stated_time_says_so() -> None:
    """The seconds are the server's, the scope is the rule's."""
    found = _ruled(Phase.MAIL, 451, "4.7.1 quota of messages exceeded, try again in 90 seconds")
    assert found.stated
    assert isinstance(found.verdict, Wait)
    assert (found.kind, found.verdict.seconds, found.scope) == ("wait", 90, Scope.ACCOUNT)


@pytest.mark.parametrize(("phase", "kind"), [(Phase.CONNECT, "wait"), (Phase.EOD, "retry")])
def test_nobody_speaks(phase: Phase, kind: str) -> None:
    """Without a rule the phase decides, and no rule is named."""
    found = _ruled(phase, 471, "hm", rules=Rules.parse("", origin="t"))
    assert (found.kind, found.rule) == (kind, None)


def test_own_rules_are_searched_first() -> None:
    """The nearer ones speak before those further back."""
    near, far = (Rules.parse(OWN.replace('"final"', f'"{one}"'), origin=one) for one in ("near", "far"))
    rules = Rules.builtin().under(far.rules).under(near.rules)
    assert _ruled(Phase.RCPT, 550, "final", rules=rules).verdict == Stop("near", Reply(550, "final"))
    assert Rules.builtin().under(()) is Rules.builtin()
