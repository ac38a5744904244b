"""A claimed row made ready for SMTP: its content as bytes, and the recipients that are still open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mailfleet.run_mode import objection
from mailfleet_schema.content import AttachmentRef
from mailfleet_schema.reasons import CONDITION
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.content import StoredContent
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_workers.account import Account
from mailfleet_workers.files import Fetch, gather, note_of
from mailfleet_workers.mime import MimeMismatch, build
from mailfleet_workers.outcome_recipients import named_rows
from mailfleet_workers.outgoing import AS_IT_IS, Outgoing
from mailfleet_workers.smtp.base import Envelope
from mailfleet_workers.smtp.envelope import dsn_of
from mailfleet_workers.smtp.message import InMemory
from mailfleet_workers.stores import ReadStored, no_stores
from mailfleet_workers.verdict import Stop, Wait


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes over the wire for `row`; `before` is what earlier attempts made of single recipients.

    With `dry_run` it does not. `note` is the reason that it ends with where not everybody gets it. `purge` says that its
    content is removed when it is sent. `rest` are those who are open too, and come at once after the envelope's recipients.
    """

    row: Claimed
    envelope: Envelope
    before: tuple[Recipient, ...] = ()
    dry_run: bool = False
    note: str | None = None
    purge: bool = False
    rest: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[Recipient, ...]:
        """What is written of its recipients with the record before its dot."""
        return named_rows(self.row.id, self.envelope.recipients, self.rest, self.before)


@dataclass(frozen=True, slots=True)
class Unrendered:
    """Nothing keeps the mail from being sent, but its content has to be rendered before."""

    row: Claimed
    stored: StoredContent
    before: tuple[Recipient, ...] = ()


def pack(
    row: Claimed,
    stored: StoredContent | None,
    outcomes: Sequence[Recipient],
    account: Account,
    *,
    fetch: Fetch,
    stores: ReadStored = no_stores,
    run_mode: str = "local",
    outgoing: Outgoing = AS_IT_IS,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Parcel | Stop | Wait | Unrendered:
    """Build the message of *row*, or say why it cannot be sent, now or ever. *fetch* and *stores* find its files.

    The full To and Cc stay in the header of a retry that goes to some recipients only; Bcc is never in it.
    """
    if stored is None:
        return Stop("content: the row has none")
    if stored.purged_at is not None:
        return Stop(f"content: it was purged at {stored.purged_at.isoformat()}", kind=CONDITION)
    if (against := objection(stored.run_modes, run_mode)) is not None:
        return Stop(against, kind=CONDITION)
    content = stored.content
    if row.sum_done:
        # A wanted copy is another mail: servers that suppress repeats must not swallow it.
        left, at, domain = content.message_id.rpartition("@")
        content = replace(content, message_id=f"{left}.copy-{row.sum_done + 1}{at}{domain}")
    if stored.renderer is not None and content.text is None and content.html is None:
        return Unrendered(row, stored, tuple(outcomes))
    sender = content.from_ or account.sender
    if sender is None:
        return Stop(f"from: the mail names none, and account {account.name} has none")
    leaving = outgoing.of(content, mail_id=row.id, mark=stored.mark)
    content = leaving.content
    # Outcomes of others are of a time at which it went to others: to somebody it was redirected to, perhaps.
    outcomes = [one for one in outcomes if one.address in content.recipients()] if outcomes else outcomes
    recipients = _open(content.recipients(), outcomes)
    if not recipients:
        return Stop("to: no recipient is open")
    gathered = gather(row, content, stores=stores)
    if isinstance(gathered, Stop | Wait):
        return gathered
    missing: list[str] = []

    def attachment(ref: AttachmentRef) -> bytes:
        found = gathered.contents.get(ref.sha256)
        if found is None:
            found = fetch(row.app, ref)
        if found is None:
            missing.append(ref.filename)
            return b""
        return found

    try:
        message = build(
            gathered.content, sender=sender, date=now(), attachment=attachment, extra_headers=leaving.headers
        )
    except MimeMismatch as error:
        return Stop(f"content: {error}")
    except (ValueError, UnicodeError) as error:
        return Stop(f"content: {type(error).__name__}: {error}")
    if missing:
        return Stop(f"attachments: {missing[0]!r} is not stored")
    dsn = dsn_of(None, account.dsn, row.id)
    envelope = Envelope(sender=sender.address, recipients=recipients, message=InMemory(message), dsn=dsn)
    note = leaving.note or note_of(gathered.left_out)
    return Parcel(row, envelope, tuple(outcomes), leaving.dry_run, note)


def _open(recipients: Sequence[str], outcomes: Sequence[Recipient]) -> tuple[str, ...]:
    if not outcomes:
        return tuple(recipients)
    known: Mapping[str, str] = {one.address: one.outcome for one in outcomes}
    return tuple(address for address in recipients if known.get(address, "open") == "open")
