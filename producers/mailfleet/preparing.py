"""From what an application hands over to what is inserted: every mail checked before the first one is written."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import Message
from typing import Any, TypeAlias

from mailfleet.emailmessage import from_email_message
from mailfleet.errors import InvalidMail
from mailfleet.lazy_parameter import check_lazy
from mailfleet.mail import Mail
from mailfleet.plain import mail_of
from mailfleet.run_mode import objection
from mailfleet.validation import DEFAULT_LIMITS, Checked, Limits, validate
from mailfleet.validation.attachments import Shelves
from mailfleet_schema.reasons import CONDITION
from mailfleet_schema.statements.insert import NewMail
from mailfleet_schema.states import ContentPolicy, OnDoubt, Priority, State

#: What `emit` and the other verbs take: a Mail, an `email.message.EmailMessage`, or plain data (`mailfleet.plain`).
MailLike: TypeAlias = "Mail | Message[Any, Any] | Mapping[str, Any]"
#: A mail, or the id of a stored one.
Sendable: TypeAlias = "MailLike | int"

#: The right side of a Message-ID when neither the mail nor the settings name a domain (RFC 2606 reserves it).
NO_DOMAIN = "mailfleet.invalid"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What all mails of one mailer have in common.

    A Message-ID is *new_id*'s answer at the sender's own domain; *message_id_domain* serves mails without `from_`.
    Attachments that stand in one of *shelves* are read here, others of stores are left to workers. *app* is whose renderers
    check the parameters of lazy mails, None for nobody's. *run_mode* is what mails vote on when they are stored, None leaves
    the vote to workers.
    """

    limits: Limits = DEFAULT_LIMITS
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex
    message_id_domain: str | None = None
    on_doubt: OnDoubt | None = None
    shelves: Shelves = field(default_factory=dict)
    app: str | None = None
    run_mode: str | None = None

    def one(self, mail: MailLike, *, urgent: bool = False, retry: bool | None = None) -> NewMail:
        """The row of *mail*; *urgent* ones are `high`, whatever they say, and *retry* wins over theirs. Raises InvalidMail."""
        plain = _mail(mail)
        domain = self.message_id_domain or NO_DOMAIN
        checked = validate(
            plain,
            limits=self.limits,
            new_message_id=lambda: f"<{self.new_id()}@{domain}>",
            now=self.clock(),
            shelves=self.shelves,
        )
        if checked.lazy is not None and self.app is not None:
            check_lazy(self.app, checked.lazy)
        new = self._row(checked)
        if retry is not None:
            new = replace(new, retry=retry)
        return replace(new, priority=Priority.HIGH) if urgent else new

    def draft(self, mail: MailLike) -> NewMail:
        """The row of *mail* as a draft. Raises InvalidMail."""
        # Nobody sends it: the vote is for when somebody asks for it.
        return replace(self.one(mail), state=State.DRAFT, reason=None)

    def changed(self, mail: MailLike) -> NewMail:
        """What a stored mail is to become. Raises InvalidMail, also for an idempotency key: a mail keeps its own."""
        plain = _mail(mail)
        new = self.one(plain)
        if plain.due_at is not None and new.due_at is None:
            # A time that has passed is now, not the one that the mail had.
            new = replace(new, due_at=self.clock())
        if new.key is not None:
            raise InvalidMail(
                "idempotency_key", "an edit has none: the mail keeps the one it was stored with"
            )
        return new

    def all(self, mails: Iterable[MailLike], *, urgent: bool = False) -> list[NewMail]:
        """The rows of *mails*. Raises InvalidMail for the first one that is wrong, as `mails[3].to[0]`.

        Two mails of one batch may share an idempotency key if they are the same mail.
        """
        if isinstance(mails, Mail | Message | Mapping):
            raise InvalidMail("mails", "expected a list of mails, got one")
        rows: list[NewMail] = []
        hashes: dict[str, str | None] = {}
        for position, mail in enumerate(mails):
            try:
                row = self.one(mail, urgent=urgent)
            except InvalidMail as error:
                raise InvalidMail(f"mails[{position}].{error.field}", error.reason) from error
            if row.key is not None and hashes.setdefault(row.key, row.payload_hash) != row.payload_hash:
                raise InvalidMail(
                    f"mails[{position}].idempotency_key", f"{row.key!r} is another mail's of this batch"
                )
            rows.append(row)
        return rows

    def _row(self, checked: Checked) -> NewMail:
        content = checked.content
        if content.from_ is not None:
            # The domain in its stored, ASCII form.
            left, _, _ = content.message_id.rpartition("@")
            domain = content.from_.address.rpartition("@")[2]
            content = replace(content, message_id=f"{left}@{domain}>")
        lazy, ref = checked.lazy, checked.ref
        against = None if self.run_mode is None else objection(checked.run_modes, self.run_mode)
        return NewMail(
            content=content,
            account=checked.account,
            priority=Priority(checked.priority),
            due_at=checked.due_at,
            expires_at=checked.expires_at,
            max_fail=checked.max_fail,
            max_done=checked.max_done,
            retry=checked.retry,
            on_doubt=self.on_doubt if checked.on_doubt is None else OnDoubt(checked.on_doubt),
            renderer=None if lazy is None else lazy.renderer,
            parameter=None if lazy is None else lazy.parameter,
            run_modes=checked.run_modes,
            content_policy=None if checked.content_policy is None else ContentPolicy(checked.content_policy),
            mark=checked.mark,
            ref=(None, None, None) if ref is None else (ref.type, ref.key1, ref.key2),
            tags=checked.tags,
            key=checked.idempotency_key,
            payload_hash=checked.payload_hash,
            blobs=dict(checked.blobs),
            apps=checked.apps,
            reason=None if against is None else f"{CONDITION}: {against}",
        )


def _mail(mail: MailLike) -> Mail:
    match mail:
        case Message():
            return from_email_message(mail)
        case Mapping():
            return mail_of(mail)
        case _:
            return mail
