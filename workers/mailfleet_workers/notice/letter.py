"""From what an application hands over to what goes over the wire, without a row between."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mailfleet.errors import InvalidMail, SettingsError
from mailfleet.preparing import MailLike, Preparation
from mailfleet.results import Invalid
from mailfleet.run_mode import objection
from mailfleet.validation import DEFAULT_LIMITS, Limits
from mailfleet_schema.content import Content, StoredRef
from mailfleet_schema.statements.insert import NewMail
from mailfleet_schema.states import Priority
from mailfleet_workers.account import Account
from mailfleet_workers.desk import Way
from mailfleet_workers.mime import MimeMismatch, build
from mailfleet_workers.notice.results import Failed
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.problems import nearest
from mailfleet_workers.smtp.base import Envelope
from mailfleet_workers.smtp.connection import server_name
from mailfleet_workers.smtp.message import InMemory
from mailfleet_workers.stores import shelves_of
from mailfleet_workers.ways import way_of

#: Stands for a server that is never connected to: of an account without one, where nothing leaves.
_NOWHERE = ("nowhere.invalid", 25)
#: What needs a row.
_NEEDS_ROW: Mapping[str, Callable[[NewMail], bool]] = {
    "lazy": lambda new: new.renderer is not None,
    "due_at": lambda new: new.due_at is not None,
    "idempotency_key": lambda new: new.key is not None,
    "max_done": lambda new: (new.max_done or 1) > 1,
}


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail ready for SMTP; `note` is why not everybody gets it who is named in it.

    With `dry_run` nothing leaves. After `expires_at` it is not sent.
    """

    message_id: str
    way: Way
    envelope: Envelope
    priority: Priority
    expires_at: datetime | None
    dry_run: bool
    note: str | None


class Writing:
    """Makes letters of mails of *app*, as *settings* say; *catcher* is where a catching server of ours listens, if any."""

    def __init__(
        self,
        settings: Settings,
        app: str,
        *,
        clock: Callable[[], datetime],
        limits: Limits = DEFAULT_LIMITS,
        catcher: tuple[str, int] | None = None,
    ) -> None:
        self._settings = settings
        self._app = app
        self._clock = clock
        self._catcher = catcher
        sender = settings.accounts["default"].sender
        domain = sender.address.rpartition("@")[2] if sender else None
        shelves = shelves_of(settings.stores, app)
        self._preparation = Preparation(limits, clock, lambda: uuid.uuid4().hex, domain, shelves=shelves)

    def letter(self, mail: MailLike, account: str | Account | None = None) -> Letter | Failed | Invalid:
        """*mail* as it leaves through *account*: a name, an account of the caller's own, or None for the mail's.

        Failed where it never can be sent here; Invalid for a field that is wrong, or that needs a database.
        """
        try:
            new = self._preparation.one(mail)
            for field, needs in _NEEDS_ROW.items():
                if needs(new):
                    raise InvalidMail(
                        field, "a notice has no row in a database: it is sent now, once, as it is"
                    )
            way = self._way(new.account if account is None else account)
            return self._letter(new, way)
        except InvalidMail as error:
            return Invalid(error.field, error.reason)

    def _letter(self, new: NewMail, way: Way) -> Letter | Failed:
        content = _with_files(new.content)
        message_id = content.message_id
        if (against := objection(new.run_modes, self._settings.run_mode)) is not None:
            return Failed(message_id, against)
        sender = content.from_ or way.account.sender
        if sender is None:
            raise InvalidMail("from_", f"the mail names none, and account {way.account.name} has none")
        leaving = way.outgoing.of(content, mail_id=None, mark=new.mark)
        try:
            message = build(
                leaving.content,
                sender=sender,
                date=self._clock(),
                attachment=lambda ref: new.blobs[ref.sha256],
                extra_headers=leaving.headers,
            )
        except MimeMismatch as error:
            return Failed(message_id, f"content: {error}")
        except (ValueError, UnicodeError) as error:
            return Failed(message_id, f"content: {type(error).__name__}: {error}")
        envelope = Envelope(sender.address, tuple(leaving.content.recipients()), InMemory(message))
        dry_run = way.dry_run or leaving.dry_run
        return Letter(message_id, way, envelope, new.priority, new.expires_at, dry_run, leaving.note)

    def _way(self, account: str | Account) -> Way:
        return self._of_name(account) if isinstance(account, str) else self._of_object(account)

    def _of_name(self, name: str) -> Way:
        settings = self._settings
        if not settings.app(self._app).may_use(name) or name not in settings.accounts:
            hint = nearest(name, settings.usable(self._app))
            raise InvalidMail("account", f"app {self._app} may not send through {name!r}{hint}")
        try:
            return way_of(settings, settings.account(name, catcher=self._catcher), catcher=self._catcher)
        except SettingsError as error:
            # An account without a host means a catching server, which is in another process.
            way = way_of(settings, settings.account(name, catcher=_NOWHERE))
            if not way.dry_run:
                raise InvalidMail("account", f"setting {error}") from None
            return way

    def _of_object(self, account: Account) -> Way:
        own = self._settings.accounts.get(account.name)
        if own is not None:
            known = self._settings.account(account.name, catcher=self._catcher or _NOWHERE)
            if server_name(known) != server_name(account):
                # Limits, gates and passwords that were refused go by the name.
                reason = f"the settings have another one named {account.name!r}: give it a name of its own"
                raise InvalidMail("account", reason)
        return way_of(self._settings, account, catcher=self._catcher)


def _with_files(content: Content) -> Content:
    """*content* without files that are still in a store: only workers read those, and here is none."""
    for position, one in enumerate(content.attachments):
        if isinstance(one, StoredRef) and not one.optional:
            raise InvalidMail(
                f"attachments[{position}]",
                f"store {one.store} cannot be read here: a notice needs the file itself",
            )
    kept = tuple(one for one in content.attachments if not isinstance(one, StoredRef))
    return content if kept == content.attachments else replace(content, attachments=kept)
