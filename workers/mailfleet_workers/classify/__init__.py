"""What an Answer means for a mail: pure functions over a table of rules.

`classify` turns an `Answer` into a `Judgement`, `rule_on` one refusal into a `Ruling` that says which rule spoke. `Rules` is the
table: the files in `replies/`, and before them what an account's or a host's settings add.
"""

from mailfleet_workers.classify.classifier import classify
from mailfleet_workers.classify.rule import Rule, Silence
from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.classify.ruling import Ruling, rule_on

__all__ = ["Rule", "Rules", "Ruling", "Silence", "classify", "rule_on"]
