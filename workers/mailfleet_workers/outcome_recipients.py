"""What becomes of single recipients by one attempt, and who is left for the next.

A mail to more recipients than its server takes at once goes in several transactions, one claim each. Until all of them had
their turn it is due at once; those who were told to wait come after. The rows say who is who: one that is open and has no text
has not had its turn, nor has anybody without a row. Those in doubt have it again, before the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from mailfleet_schema.statements.recipient import IN_DOUBT, Recipient
from mailfleet_workers.outcome import Tried, cut
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.verdict import (
    Accepted,
    Judgement,
    RecipientVerdict,
    Retry,
    Stop,
    Uncertain,
    Verdict,
    Wait,
)


def turns(
    recipients: Sequence[str], before: Sequence[Recipient], most: int | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whose turn it is among *recipients*, who are open: *most* of them (None: all); and who comes at once after that.

    *before* is what earlier attempts made of them. Whoever had a turn waits until all had one.
    """
    had = {one.address for one in before if one.outcome == "open" and one.text not in {None, IN_DOUBT}}
    waiting = [address for address in recipients if address not in had] or list(recipients)
    most = len(waiting) if most is None else most
    return tuple(waiting[:most]), tuple(waiting[most:])


def named_rows(
    mail_id: int, named: Sequence[str], rest: Sequence[str], before: Sequence[Recipient]
) -> tuple[Recipient, ...]:
    """What is written with the record before the dot: who is *named*, should nobody ever know what came of it.

    Nothing where all recipients are in one transaction, and no *before* tells them apart.
    """
    if not (rest or before):
        return ()
    known = {one.address for one in before}
    doubt = tuple(Recipient(mail_id, address, "open", text=IN_DOUBT) for address in named)
    return doubt + tuple(Recipient(mail_id, address, "open") for address in rest if address not in known)


@dataclass(frozen=True, slots=True)
class Parts:
    """What one attempt at the mail *mail_id* says of single recipients.

    `told` are those of whom it says something of their own, none where all share one verdict. `rest` go at once, in a further
    transaction. `before` is what earlier attempts made of this copy's recipients.
    """

    mail_id: int
    told: tuple[RecipientVerdict, ...]
    rest: tuple[str, ...]
    before: tuple[Recipient, ...]

    @classmethod
    def of(cls, mail_id: int, judgement: Judgement, tried: Tried, before: Sequence[Recipient]) -> "Parts":
        rest = tuple(dict.fromkeys((*judgement.rest, *tried.rest)))
        told = judgement.recipients
        if (before or rest) and not told:
            # Outcomes are told apart already, or from now on: what this attempt says is written for each.
            named = [address for address in tried.recipients if address not in judgement.rest]
            told = tuple(RecipientVerdict(address, judgement.verdict) for address in named)
        return cls(mail_id, told, rest, tuple(before))

    @property
    def others(self) -> tuple[Recipient, ...]:
        """Those who are open and were not in this attempt: they had their turn, and wait."""
        named = {*(one.address for one in self.told), *self.rest}
        return tuple(one for one in self.before if one.outcome == "open" and one.address not in named)

    @property
    def accepted_before(self) -> bool:
        return any(one.outcome == "accepted" for one in self.before)

    def open_rows(self, *, spent: bool = False) -> tuple[Recipient, ...]:
        """The rows of a mail that goes on; with *spent*, whoever failed is given up, and whoever waits is not."""
        told = tuple(
            row_of(self.mail_id, one, give_up=spent and isinstance(one.verdict, Retry)) for one in self.told
        )
        if not (told or self.before):
            # Nobody is told from others yet.
            return ()
        fresh = {one.address for one in self.before if one.outcome == "open" and one.text is None}
        return told + tuple(
            Recipient(self.mail_id, address, "open") for address in self.rest if address not in fresh
        )

    def last_rows(self) -> tuple[Recipient, ...]:
        """The rows of a mail that has ended: nobody is open, also of those whom this attempt did not come to."""
        told = tuple(row_of(self.mail_id, one, give_up=True) for one in self.told)
        if not (told or self.before):
            return ()
        known = {one.address for one in self.before}
        never = tuple(
            Recipient(self.mail_id, address, "refused") for address in self.rest if address not in known
        )
        return told + never + still_open(self.before, told)

    def open_of(self, rows: Sequence[Recipient]) -> str:
        """How many are open after *rows*, in words."""
        after: Mapping[str, str] = {one.address: one.outcome for one in (*self.before, *rows)}
        return f"open: {sum(one == 'open' for one in after.values())} of {len(after)} recipients"


def still_open(before: Sequence[Recipient], told: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """Those open *before* of whom nothing was *told*, given up."""
    addresses = {one.address for one in told}
    return tuple(
        replace(one, outcome="refused")
        for one in before
        if one.outcome == "open" and one.address not in addresses
    )


def row_of(mail_id: int, one: RecipientVerdict, *, give_up: bool) -> Recipient:
    """What is written of *one*; with *give_up* nobody stays open."""
    reply = reply_of(one.verdict)
    code, text = (reply.code, cut(reply.text)) if reply else (None, cut(reason_of(one.verdict)))
    match one.verdict:
        case Accepted():
            return Recipient(mail_id, one.address, "accepted", code, text)
        case Stop():
            return Recipient(mail_id, one.address, "refused", code, text)
        case Wait() | Retry() | Uncertain():
            return Recipient(mail_id, one.address, "refused" if give_up else "open", code, text)
        case _:
            assert_never(one.verdict)


def reply_of(verdict: Verdict) -> Reply | None:
    """What the server said, None where it said nothing."""
    return None if isinstance(verdict, Uncertain) else verdict.reply


def reason_of(verdict: Verdict) -> str:
    """Why, in words: the server's for an acceptance, ours for all else."""
    return verdict.reply.text if isinstance(verdict, Accepted) else verdict.reason
