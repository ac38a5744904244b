"""What a check found: breaches with their evidence, and the figures that pages and runs print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: So many mails of a breach are shown with everything that is known of them.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Breach:
    """One invariant that does not hold, of all mails of which it does not. No id: the text has the subjects."""

    invariant: str
    mail_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Findings:
    """`mails`: committed ones. `lost`: those with a recipient who has no copy, and no visible end that says why.

    `duplicates`: by policy, copies beyond those that were wanted, counted per recipient, allowed or not. `doubts`: how
    often a mail was in doubt, `doubts_listed` how many of those an operator could see. `early`: copies before their
    time. `sent_after_expiry`: copies whose record was committed after `expires_at`. `late`: copies whose final dot came
    after others had taken the claim from a quiet worker. `evidence`: lines per mail id.
    """

    breaches: tuple[Breach, ...]
    mails: int
    sent: int
    held: int
    lost: int
    duplicates: Mapping[str, int]
    doubts: int
    doubts_listed: int
    early: int
    sent_after_expiry: int
    late: int = 0
    evidence: Mapping[int, Sequence[str]] = field(default_factory=dict, repr=False)
    seed: int | None = None

    def raise_for(self, seed: int | None = None) -> None:
        """AssertionError that names every breach with its ids and evidence; nothing when there is none."""
        if not self.breaches:
            return
        seed = self.seed if seed is None else seed
        lines = [f"{len(self.breaches)} breaches" + ("" if seed is None else f", seed {seed}")]
        for breach in self.breaches:
            lines.append(f"{breach.invariant}: {breach.text}: mails {_some(breach.mail_ids)}")
            for mail_id in breach.mail_ids[:SHOWN]:
                lines.extend(f"    {line}" for line in self.evidence.get(mail_id, ()))
        raise AssertionError("\n".join(lines))


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(str(one) for one in ids[:50])
    return f"{shown} and {len(ids) - 50} more" if len(ids) > 50 else shown or "(see text)"
