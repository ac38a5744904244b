"""The 300 mails of the demo, and where each has to end: decided before anything is sent, from one seed.

Which server a mail meets is in its account, what that server does to it is in its recipients' domains
(`catcher.providers`). So the end of every mail is known from its envelope, whatever the threads do.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailfleet import Attachment, Mail
from mailfleet_workers.catcher import providers
from mailfleet_workers.demo.content import PEOPLE, Person, pdf, png

APPS = ("billing", "news", "alerts")
#: Tells a caught mail's plan.
HEADER = "X-Demo"
#: How many mails of a user and day the server of the account `daily` takes.
QUOTA = 20
#: How often the server of the account `qq` says that it is too much, before it is fine.
REFUSALS = 3


class Expected(StrEnum):
    """Where a mail has to be when the demo ends, for it to be right."""

    SENT = "sent"  # exactly one copy was caught
    PARTIAL = "sent, but for one recipient"
    FAILED = "failed: nobody lives there"
    SENT_OR_WAITING = "sent, or waiting for its account"
    IN_DOUBT = "in doubt: sent again in ten minutes"
    HELD = "held: doubt, and never twice"
    CANCELLED = "cancelled before it was due"
    SCHEDULED = "scheduled for tomorrow"


@dataclass(frozen=True, slots=True)
class Planned:
    """One mail of the demo. `cancel`: its application thinks better of it; `tomorrow`: it is due in a day."""

    number: int
    app: str
    mail: Mail
    expected: Expected
    cancel: bool = False
    tomorrow: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    """So many mails alike: `domain` and `account` say what they meet."""

    count: int
    expected: Expected
    domain: str = "example.net"
    account: str = "default"
    others: tuple[str, ...] = ()
    on_doubt: str | None = None
    mailbox: str | None = None
    cancel: bool = False
    tomorrow: bool = False


_KINDS: dict[str, tuple[_Kind, ...]] = {
    "billing": (
        _Kind(80, Expected.SENT),
        _Kind(12, Expected.SENT, domain=providers.GREY),
        _Kind(1, Expected.PARTIAL, others=("nobody@example.org", "bob@example.org")),
        _Kind(1, Expected.SENT, domain=providers.CUT_BEFORE),
        _Kind(1, Expected.HELD, domain=providers.CUT_AFTER, on_doubt="hold"),
        _Kind(2, Expected.FAILED, mailbox=providers.GONE),
        _Kind(3, Expected.SCHEDULED, tomorrow=True),
    ),
    "news": (
        _Kind(90, Expected.SENT),
        _Kind(40, Expected.SENT_OR_WAITING, account="qq", domain=providers.BUSY),
        _Kind(10, Expected.SENT, domain=providers.GREY),
    ),
    "alerts": (
        _Kind(28, Expected.SENT),
        _Kind(30, Expected.SENT_OR_WAITING, account="daily", domain=providers.QUOTA),
        _Kind(1, Expected.IN_DOUBT, domain=providers.CUT_AFTER),
        _Kind(1, Expected.CANCELLED, cancel=True),
    ),
}


def plan(seed: int) -> list[Planned]:
    """The 300 mails for *seed*, in the order in which their applications write them."""
    rng = random.Random(seed)
    planned = [one for app in APPS for one in _of_app(app, rng)]
    return [_numbered(number, one) for number, one in enumerate(planned, start=1)]


def _of_app(app: str, rng: random.Random) -> Iterator[tuple[str, _Kind, Person, int]]:
    entries = [(app, kind) for kind in _KINDS[app] for _ in range(kind.count)]
    rng.shuffle(entries)
    for place, (_, kind) in enumerate(entries, start=1):
        yield app, kind, rng.choice(PEOPLE), place


def _numbered(number: int, one: tuple[str, _Kind, Person, int]) -> Planned:
    app, kind, person, place = one
    # The number keeps two mails to one person apart: greylisting and cuts go by sender and recipient.
    address = f"{kind.mailbox or f'{person.mailbox}.{place}'}@{kind.domain}"
    to: Sequence[str | tuple[str, str]] = [(person.name, address), *kind.others]
    mail = _COMPOSERS[app](number, person, to, kind)
    return Planned(number, app, mail, kind.expected, cancel=kind.cancel, tomorrow=kind.tomorrow)


def _invoice(number: int, person: Person, to: Sequence[str | tuple[str, str]], kind: _Kind) -> Mail:
    return Mail(
        from_=("Billing", "billing@example.com"),
        to=to,
        subject=f"Invoice {number} for {person.name}",
        text=f"Dear {person.name},\n\nyour invoice {number} is attached.\n",
        html=f"<p>Dear {person.name},</p><p>your invoice <b>{number}</b> is attached.</p>",
        attachments=[Attachment(f"invoice-{number}.pdf", pdf(f"Invoice {number}"), "application/pdf")],
        headers={HEADER: str(number)},
        account=kind.account,
        idempotency_key=f"invoice-{number}",
        on_doubt="hold" if kind.on_doubt == "hold" else None,
    )


def _newsletter(number: int, person: Person, to: Sequence[str | tuple[str, str]], kind: _Kind) -> Mail:
    return Mail(
        from_=("Нов News 新闻", "news@example.com"),
        to=to,
        subject=f"News for {person.name}",
        text=f"Hello {person.name}, this is what happened.\n",
        html=f'<p><img src="cid:banner" alt=""></p><p>Hello {person.name}, this is what happened.</p>',
        inline=[Attachment("banner.png", png(40, 90, 160), "image/png", content_id="banner")],
        headers={HEADER: str(number)},
        account=kind.account,
        priority="bulk",
        list_unsubscribe=["https://example.com/unsubscribe"],
    )


def _alert(number: int, person: Person, to: Sequence[str | tuple[str, str]], kind: _Kind) -> Mail:
    return Mail(
        from_=("Alerts", "alerts@example.com"),
        to=to,
        subject=f"Alert {number}: disk almost full",
        text=f"{person.name}, the disk of host {number} is 93 % full.\n",
        headers={HEADER: str(number)},
        account=kind.account,
        priority="high",
    )


_COMPOSERS = {"billing": _invoice, "news": _newsletter, "alerts": _alert}
