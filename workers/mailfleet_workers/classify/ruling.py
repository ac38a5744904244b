"""What one refusal means by itself, and who says so: the rule that spoke, and the time that the text stated.

The phase decides before the code does. Before MAIL no mail was judged, so whatever is said there makes a Wait of the host or the
account. Then a time stated in the reply counts, then the table, whose last lines know codes only.
"""

from dataclasses import dataclass
from datetime import datetime

from mailfleet_workers.classify.rule import Kind, Rule, Silence
from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.classify.stated import stated_wait
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Retry, Scope, Stop, Wait

#: No mail has been named yet.
BEFORE_MAIL = frozenset({Phase.CONNECT, Phase.EHLO, Phase.AUTH})

_SCOPES = {
    Phase.CONNECT: Scope.HOST,
    Phase.EHLO: Scope.HOST,
    Phase.AUTH: Scope.ACCOUNT,
    Phase.MAIL: Scope.ACCOUNT,
    Phase.RCPT: Scope.RECIPIENT,
    Phase.DATA: Scope.MAIL,
    Phase.EOD: Scope.MAIL,
}

#: Seconds where the table says wait and names no time, by who waits.
_WAITS = {Scope.MAIL: 600.0, Scope.RECIPIENT: 3600.0, Scope.ACCOUNT: 3600.0, Scope.HOST: 300.0}

#: Seconds before MAIL, for what a rule calls final, passing, or does not know.
_FINAL, _PASSING = 86400.0, 60.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict with who gave it.

    `kind` is what the reply means; before MAIL a `retry` is carried out as a short Wait. `rule` is None where no line of the table
    speaks. `stated` says that the seconds are the server's own words.
    """

    verdict: Stop | Wait | Retry
    kind: Kind
    rule: Rule | Silence | None
    stated: bool = False

    @property
    def scope(self) -> Scope | None:
        """Who is concerned: who waits, else None."""
        return self.verdict.scope if isinstance(self.verdict, Wait) else None


def rule_on(reply: Reply, phase: Phase, *, host: str, rules: Rules, now: datetime) -> Ruling:
    """What *reply*, a refusal in *phase* by *host*, means by itself; *now* is aware and read for stated moments."""
    rule = rules.find(host, phase, reply)
    reason = rule.reason if rule is not None else "unknown refusal"
    own_scope = rule.scope if rule is not None else None
    seconds = stated_wait(reply.text, now)
    if seconds is not None:
        return Ruling(Wait(own_scope or _SCOPES[phase], seconds, reason, reply), "wait", rule, stated=True)
    kind = rule.kind if rule is not None else "wait" if phase in BEFORE_MAIL else "retry"
    if phase in BEFORE_MAIL and kind != "wait":
        # Nothing there is final: the mail was not judged. What passes by itself keeps the host or account for a minute.
        given = rule.wait_s if rule is not None else None
        wait_s = _FINAL if kind == "stop" else given or _PASSING
        verdict = Wait(own_scope or _SCOPES[phase], wait_s, reason, reply)
        return Ruling(verdict, "retry" if kind == "retry" else "wait", rule)
    match kind:
        case "stop":
            return Ruling(Stop(reason, reply), kind, rule)
        case "retry":
            return Ruling(Retry(reason, reply), kind, rule)
        case "wait":
            scope = own_scope or _SCOPES[phase]
            wait_s = (rule.wait_s if rule is not None else None) or _WAITS[scope]
            return Ruling(Wait(scope, wait_s, reason, reply), kind, rule)


def rule_on_silence(error: str, *, rules: Rules) -> Ruling:
    """What it means that nothing was said before MAIL; *error* is what we saw instead."""
    silence = rules.find_silence(error)
    if silence is None:
        return Ruling(Wait(Scope.HOST, _WAITS[Scope.HOST], error), "wait", None)
    return Ruling(Wait(silence.scope, silence.wait_s, f"{silence.reason}: {error}"), "wait", silence)
