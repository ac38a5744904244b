"""What an Answer means for a mail: one pure function over a table of rules.

`classify` turns an `Answer` into a `Judgement`; `Rules` is the table (`replies.toml` by default, an operator's own file
if there is one).
"""

from mailfleet_workers.classify.classifier import classify
from mailfleet_workers.classify.rules import Rule, Rules, Silence

__all__ = ["Rule", "Rules", "Silence", "classify"]
