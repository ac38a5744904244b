"""All mails of a command are checked before the first one is written."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail
from mailfleet.validation import validate
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.problems import nearest

#: So many problems are shown; one mistake in a template makes as many as there are rows.
MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Planned:
    """One mail to write, made anew each time: a table's files would not fit into memory together.

    `place` is where it comes from (`people.csv row 17`), "" for a single mail.
    """

    place: str
    make: Callable[[], Mail]

    def mail(self) -> Mail:
        """Raises InvalidMail."""
        return self.make()


@dataclass(slots=True)
class Check:
    """Checks mails of *app* one by one against validation and the settings, and collects what is wrong."""

    settings: Settings
    app: str
    now: datetime
    problems: list[str] = field(default_factory=list)
    count: int = 0
    wrong: int = 0
    _keys: dict[str, tuple[str, str]] = field(default_factory=dict)

    def run(self, plans: Iterable[Planned]) -> Iterator[Planned]:
        """Each of *plans* after it was looked at. Raises Failure, when all were, if any was wrong."""
        for plan in plans:
            self.count += 1
            try:
                self._look(plan)
            except InvalidMail as error:
                self.wrong += 1
                if self.wrong <= MOST_PROBLEMS:
                    self.problems.append(f"{plan.place}: {error}" if plan.place else str(error))
            yield plan
        if self.wrong:
            more = self.wrong - len(self.problems)
            tail = [f"and {more} more"] if more else []
            if self.count > 1:
                tail.append(f"{self.wrong} of {self.count} mails are wrong; nothing was written")
            raise Failure(*self.problems, *tail)

    def _look(self, plan: Planned) -> None:
        mail = plan.mail()
        checked = validate(mail, new_message_id=lambda: "<check@mailfleet.invalid>", now=self.now)
        self._look_at_account(checked.account)
        account = self.settings.accounts.get(checked.account)
        # What a loader or the database has is known to workers.
        if checked.content.from_ is None and account is not None and account.from_ is None:
            raise InvalidMail(
                "from_", f"nobody is named, and accounts.{checked.account}.from is not set either"
            )
        key = checked.idempotency_key
        if key is not None:
            place, payload = self._keys.setdefault(key, (plan.place, checked.payload_hash))
            if payload != checked.payload_hash:
                raise InvalidMail("idempotency_key", f"{key!r} is that of {place}, which is another mail")

    def _look_at_account(self, name: str) -> None:
        if not self.settings.app(self.app).may_use(name):
            hint = nearest(name, self.settings.app(self.app).accounts)
            raise InvalidMail("account", f"app {self.app} may not send through {name!r}{hint}")
