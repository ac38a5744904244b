"""Reading the table: what a rule may say, and which mistake is named how."""

import pytest

from mailfleet.errors import SettingsError
from mailfleet_workers.classify.rule import plain_text
from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Scope

RULE = """
[families]
known = ["*.known.example"]
[[rule]]
reason = "r"
verdict = "wait"
scope = "account"
wait_s = 7
phase = ["rcpt"]
host = ["known"]
code = "55."
enhanced = "5.7.*"
text = "limit"
unless = "size"
source = "s"
"""


@pytest.mark.tinymail("26", "U3")
def test_a_rule_asks_for_everything_it_names() -> None:
    """Host, phase, code, enhanced code and text must all fit, and the exception must not."""
    rules = Rules.parse(RULE, origin="t")
    fitting = Reply(550, "5.7.1 Limit reached")
    found = rules.find("MX.known.example", Phase.RCPT, fitting)
    assert found is not None
    assert (found.kind, found.scope, found.wait_s) == ("wait", Scope.ACCOUNT, 7)
    assert rules.find("known", Phase.RCPT, fitting) is found
    assert rules.find("mx.other.example", Phase.RCPT, fitting) is None
    assert rules.find("mx.known.example", Phase.MAIL, fitting) is None
    for code, text in ((450, "5.7.1 limit"), (550, "limit"), (550, "5.7.1 no"), (550, "5.7.1 size limit")):
        assert rules.find("mx.known.example", Phase.RCPT, Reply(code, text)) is None


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('verdict = "wait"', 'verdict = "maybe"', "verdict"),
        ('verdict = "wait"', 'verdict = "stop"', "wait_s, scope"),
        ("wait_s = 7", "wait_s = 0", "wait_s"),
        ("wait_s = 7", "wait_s = true", "wait_s"),
        ('scope = "account"', 'scope = "world"', "scope"),
        ('phase = ["rcpt"]', 'phase = ["helo"]', "phase"),
        ('host = ["known"]', 'host = ["unknown"]', "host"),
        ('text = "limit"', 'text = "("', "text"),
        ('text = "limit"', "text = 3", "text"),
        ('source = "s"', "", "source"),
        ('reason = "r"', 'reason = ""', "reason"),
        ('code = "55."', 'kode = "55."', "rule 1"),
        ("[[rule]]", "[[rule]", "t"),
    ],
)
def test_a_wrong_rule_is_named(old: str, new: str, key: str) -> None:
    """A table with a mistake is not used at all, and the error says where it is."""
    assert old in RULE
    with pytest.raises(SettingsError) as caught:
        Rules.parse(RULE.replace(old, new), origin="t")
    assert key in caught.value.key


@pytest.mark.parametrize("line", ["", "wait_s = -1\n", 'error = "("\n'])
def test_a_wrong_silence_is_named(line: str) -> None:
    """Silences are checked as rules are."""
    with pytest.raises(SettingsError):
        Rules.parse(f'[[silence]]\nreason = "r"\nscope = "host"\n{line}', origin="t")


def test_the_builtin_table_is_read_once() -> None:
    """Every rule of the product's own table is well formed and says where it comes from."""
    rules = Rules.builtin()
    assert rules is Rules.builtin()
    assert len(rules.rules) > 60
    assert all(rule.source for rule in rules.rules)


def test_plain_text_hides_addresses_queries_and_repeated_codes() -> None:
    """What somebody chose, an address or a link's parameters, cannot read like a reason."""
    text = "5.2.1 <Daily-Limit@Quota.example>: at a rate that\n5.2.1 prevents https://x.example/a?limit=1#rate it"
    assert plain_text(text) == "<address>: at a rate that prevents https://x.example/a it"
