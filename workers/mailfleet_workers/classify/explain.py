"""What a reply means, said in full: for people, and for whoever measures the table against replies of their own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mailfleet.errors import SettingsError
from mailfleet_workers.classify.rule import Kind, Rule, Silence, plain_text
from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.classify.ruling import BEFORE_MAIL, Ruling, rule_on, rule_on_silence
from mailfleet_workers.classify.stated import queue_id
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Scope, Wait

Class = Kind | Literal["accepted", "uncertain"]

_CODE = re.compile(r"([2-5]\d\d)(?:[ -]|\Z)")

_PARKED = {
    Scope.MAIL: "this mail waits",
    Scope.RECIPIENT: "this recipient waits, the others go on",
    Scope.ACCOUNT: "all mail of the account waits",
    Scope.HOST: "all mail to the host waits",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What *reply* in *phase* means.

    `scope` is who is concerned, None where nobody is. `wait_s` is None where nothing is tried again; of a retry it is the first back-off.
    `stated` says that the reply itself named the time. `effect` says what becomes of the mail. `rule` is None where no line
    of the table spoke; `words` are those of the reply that its pattern found.
    """

    phase: Phase
    reply: Reply | None
    kind: Class
    scope: Scope | None
    wait_s: float | None
    stated: bool
    effect: str
    reason: str
    rule: Rule | Silence | None = None
    words: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Without what was asked: class, scope, wait_s and the rest."""
        source = self.rule.source if isinstance(self.rule, Rule) else None
        rule = None if self.rule is None else {"name": self.rule.name, "source": source, "words": self.words}
        return {
            "class": self.kind,
            "scope": self.scope,
            "wait_s": self.wait_s,
            "stated": self.stated,
            "effect": self.effect,
            "reason": self.reason,
            "rule": rule,
        }


def read_reply(text: str) -> Reply | None:
    """The reply in *text*, as a log or a terminal shows it; None where it does not begin with a code.

    Lines may repeat the code (RFC 5321 4.2.1). An enhanced code stays in the text.
    """
    text = text.strip()
    found = _CODE.match(text)
    if found is None:
        return None
    lines = [re.sub(rf"\A{found[1]}(?:[ -]|\Z)", "", line.strip()) for line in text.splitlines()]
    return Reply(int(found[1]), "\n".join(lines).strip())


def read_row(row: object) -> tuple[Phase, Reply | None, str, str | None]:
    """Phase, reply, what was seen instead of one, and host (None: not said) of a *row* of many.

    A row has `phase`, and `reply` as `read_reply` takes it or `code` and `text`; an `enhanced` code that is not in the text is put
    before it. Raises SettingsError for a row that is none.
    """
    if not isinstance(row, Mapping):
        raise SettingsError("row", "an object with phase, code and text", _kind(row))
    host = row.get("host")
    if host is not None and not isinstance(host, str):
        raise SettingsError("host", "a name", host)
    phase = read_phase(row.get("phase"))
    if "reply" in row and "code" not in row:
        text = _text(row, "reply")
        return phase, read_reply(text), text, host
    code = row.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool) or not 200 <= code <= 599:
        raise SettingsError("code", "a number from 200 to 599", code)
    text = _text(row, "text")
    enhanced = row.get("enhanced")
    if isinstance(enhanced, str) and enhanced and enhanced not in text:
        text = f"{enhanced} {text}"
    return phase, Reply(code, text), text, host


def read_phase(name: object) -> Phase:
    """The phase of that *name*. Raises SettingsError."""
    try:
        return Phase(str(name))
    except ValueError:
        raise SettingsError("phase", ", ".join(Phase), name) from None


def explain(
    reply: Reply | None,
    error: str,
    phase: Phase,
    *,
    host: str,
    rules: Rules,
    now: datetime,
    retry_s: float = 60.0,
) -> Explanation:
    """What *reply* of *host* means in *phase*; None: the server said nothing, and *error* is what was seen.

    *retry_s* is how soon a mail that was judged is tried again for the first time, in seconds.
    """
    if reply is None:
        return _silence(error, phase, rules, retry_s)
    if reply.code < 400:
        name = queue_id(reply.text) if phase is Phase.EOD else None
        effect = f"the server took the mail, as {name}" if name else "the server goes on"
        if phase is Phase.EOD and name is None:
            effect = "the server took the mail"
        return Explanation(
            phase, reply, "accepted", None, None, stated=False, effect=effect, reason="accepted"
        )
    return _of(rule_on(reply, phase, host=host, rules=rules, now=now), phase, reply, retry_s)


def _silence(error: str, phase: Phase, rules: Rules, retry_s: float) -> Explanation:
    if phase is Phase.EOD:
        effect = "the server may have the mail: the policy for doubt decides"
        return Explanation(
            phase, None, "uncertain", Scope.MAIL, None, stated=False, effect=effect, reason=error
        )
    if phase in BEFORE_MAIL:
        return _of(rule_on_silence(error, rules=rules), phase, None, retry_s)
    return Explanation(phase, None, "retry", Scope.MAIL, retry_s, stated=False, effect=_RETRIED, reason=error)


_RETRIED = "counts as a failure of the mail; tried again, later with each failure"


def _of(ruling: Ruling, phase: Phase, reply: Reply | None, retry_s: float) -> Explanation:
    verdict = ruling.verdict
    one = Scope.RECIPIENT if phase is Phase.RCPT else Scope.MAIL
    match ruling.kind:
        case "stop":
            scope, wait_s = one, None
            effect = (
                "this recipient is given up, the others go on"
                if one is Scope.RECIPIENT
                else "the mail has failed and is not tried again"
            )
        case "retry" if not isinstance(verdict, Wait):
            scope, wait_s, effect = one, retry_s, _RETRIED
        case _:
            assert isinstance(verdict, Wait)  # noqa: S101 - every other ruling is one
            scope, wait_s = verdict.scope, verdict.seconds
            effect = f"{_PARKED[scope]}; not counted as a failure of the mail"
    return Explanation(
        phase,
        reply,
        ruling.kind,
        scope,
        wait_s,
        ruling.stated,
        effect,
        verdict.reason,
        ruling.rule,
        _words(ruling.rule, reply),
    )


def _words(rule: Rule | Silence | None, reply: Reply | None) -> str | None:
    if not isinstance(rule, Rule) or rule.text is None or reply is None:
        return None
    found = rule.text.search(plain_text(reply.text))
    return found[0] if found and found[0] else None


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise SettingsError(key, "text", value)
    return value


def _kind(value: object) -> str:
    return f"something else ({type(value).__name__})"
