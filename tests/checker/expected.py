"""What producers did, in their own words: the independent half of every comparison with the database."""

import threading
from collections import Counter
from dataclasses import dataclass, replace

from mailfleet import Mail
from mailfleet.validation.addresses import addresses
from mailfleet.validation.limits import Limits
from mailfleet_schema.states import OnDoubt

_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Expected:
    """One mail. `subject` is unique: it is how a copy at the sink is told from others.

    `mail_id` None: the producer has no id (rolled back, or the commit was in doubt). `committed` False: rolled back;
    None: the COMMIT was in doubt, so there are 0 or 1 rows. Times are seconds since 1970, None where none was given.
    `asked`: how often a person released, retried, forced or confirmed it.
    """

    subject: str
    mail_id: int | None
    recipients: tuple[str, ...]
    on_doubt: str = OnDoubt.RESEND_ONCE.value
    committed: bool | None = True
    due_at: float | None = None
    expires_at: float | None = None
    max_done: int = 1
    asked: int = 0


class Ledger:
    """Collects from any thread. The last word about a subject counts: a retried commit replaces one in doubt.

    *on_doubt* and *max_done* are the settings for mails that name none.
    """

    def __init__(self, *, on_doubt: str = OnDoubt.RESEND_ONCE.value, max_done: int = 1) -> None:
        self._on_doubt = on_doubt
        self._max_done = max_done
        self._lock = threading.Lock()
        self._of_subject: dict[str, Expected] = {}
        self._asked: Counter[int] = Counter()

    def emitted(self, mail: Mail, mail_id: int) -> None:
        """*mail* is committed as *mail_id*. Raises ValueError if its subject is committed under another id."""
        self._add(mail, mail_id, committed=True)

    def rolled_back(self, mail: Mail) -> None:
        """The transaction that had *mail* in it was rolled back, for certain."""
        self._add(mail, None, committed=False)

    def in_doubt(self, mail: Mail) -> None:
        """Nobody answered the COMMIT of *mail*."""
        self._add(mail, None, committed=None)

    def asked(self, mail_id: int) -> None:
        """A person releases, retries, forces or confirms *mail_id*; nobody else may. Say it before it is done."""
        with self._lock:
            self._asked[mail_id] += 1

    @property
    def expected(self) -> tuple[Expected, ...]:
        """One entry for each subject, in the order of their first mention."""
        with self._lock:
            return tuple(
                replace(one, asked=self._asked[one.mail_id or 0]) for one in self._of_subject.values()
            )

    def _add(self, mail: Mail, mail_id: int | None, *, committed: bool | None) -> None:
        found = (
            one.address
            for name in ("to", "cc", "bcc")
            for one in addresses(getattr(mail, name), name, _LIMITS)
        )
        new = Expected(
            subject=mail.subject,
            mail_id=mail_id,
            recipients=tuple(dict.fromkeys(found)),
            on_doubt=mail.on_doubt or self._on_doubt,
            committed=committed,
            due_at=mail.due_at.timestamp() if mail.due_at else None,
            expires_at=mail.expires_at.timestamp() if mail.expires_at else None,
            max_done=mail.max_done or self._max_done,
        )
        with self._lock:
            old = self._of_subject.get(mail.subject)
            if old is not None and old.committed and old.mail_id != mail_id:
                raise ValueError(f"subject {mail.subject!r} is mail {old.mail_id} already")
            self._of_subject[mail.subject] = new
