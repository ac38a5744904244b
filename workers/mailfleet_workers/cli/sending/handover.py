"""From checked mails to written rows, and, where this process is the worker, to their fate."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sqlalchemy import Engine

from mailfleet import Mailer
from mailfleet.broker.shared import producer_broker
from mailfleet.errors import InvalidMail, MailfleetError
from mailfleet.mail import Mail
from mailfleet_schema.states import OnDoubt
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context
from mailfleet_workers.cli.failure import Failure, Interrupted
from mailfleet_workers.cli.sending.checking import Check, Planned
from mailfleet_workers.cli.sending.fate import Fates, follow
from mailfleet_workers.embedded import AlreadyRunning, Embedded

#: So many mails are written in one transaction.
BATCH = 100
#: Or fewer, when their files together have so many bytes.
BATCH_BYTES = 32 * 1024 * 1024
#: How long the embedded mode is waited for unless told otherwise, in seconds.
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent: mails of *app*, made anew by each call of *plans*; *wait_s* None is the default of the mode."""

    app: str
    check: Check
    plans: Callable[[], Iterator[Planned]]
    wait_s: float | None


class Handover:
    """One run of `mailfleet send`. `run` checks, writes and follows; `notes` says where mail went that did not leave."""

    def __init__(self, context: Context, order: Order) -> None:
        self._context = context
        self._order = order
        self._elsewhere = False
        self.wait_s = order.wait_s if order.wait_s is not None else (WAIT_S if context.embedded else 0.0)

    def run(self) -> Fates:
        """Raises Failure when something is wrong; then nothing is written, unless it says what is."""
        with ExitStack() as stack:
            bar = stack.enter_context(_progress())
            checking = bar.add_task("checking", total=None)
            for _ in self._order.check.run(self._order.plans()):
                bar.advance(checking)
            total = self._order.check.count
            bar.update(checking, total=total)
            if not total:
                raise Failure("nothing to send: the table has no rows")
            engine, mailer, self._elsewhere = open_mailer(self._context, self._order.app, stack)
            with self._context.expecting_database():
                ids = self._write(mailer, bar, total)
                try:
                    # Hints are flushed here, which takes seconds where the broker is away.
                    mailer.close()
                    sending = bar.add_task("sending", total=total)
                    return follow(engine, ids, self.wait_s, lambda done: bar.update(sending, completed=done))
                except KeyboardInterrupt:
                    raise Interrupted(_stored(len(ids), total)) from None

    def notes(self, fates: Fates) -> list[str]:
        """What a person should know beside the outcomes."""
        settings = self._context.settings
        found = []
        if self._elsewhere:
            found.append("Another process runs mailfleet on this database and sends these mails.")
        if not fates.counts["sent"]:
            return found
        hosts = {
            settings.accounts[mail.account].host for mail in fates.mails if mail.account in settings.accounts
        }
        if self._context.embedded and None in hosts:
            found.append(f"Nothing left this machine: the mails are in {settings.data_dir / 'caught'}.")
        if any(mail.reason == "dry_run" for mail in fates.mails):
            found.append('This was a dry run; delivery = "live" in the settings sends.')
        return found

    def _write(self, mailer: Mailer, bar: Progress, total: int) -> list[int]:
        ids: list[int] = []
        writing = bar.add_task("writing", total=total)
        try:
            for places, mails in _batches(self._order.plans()):
                ids += _emit(mailer, places, mails)
                bar.advance(writing, len(mails))
        except KeyboardInterrupt:
            raise Interrupted(_stored(len(ids), total)) from None
        except MailfleetError as error:
            # Checked before, and different now: a key that was used, or a file that changed meanwhile.
            count = screen.count(len(ids), "mail is", "mails are") if ids else "nothing was"
            raise Failure(f"{error}; {count} written") from error
        # A mail with a key that was used before is the first one's.
        return list(dict.fromkeys(ids))


def open_mailer(context: Context, app: str, stack: ExitStack) -> tuple[Engine, Mailer, bool]:
    """A mailer of *app* that ends with *stack*; in the embedded mode this process is the worker meanwhile.

    True says that another process is, on this database.
    """
    elsewhere = False
    if context.embedded:
        try:
            embedded = stack.enter_context(Embedded(context.settings, apps=[app], environ=context.environ))
        except AlreadyRunning:
            elsewhere = True
        else:
            return embedded.engine, embedded.mailer(app), False
    engine = context.engine()
    stack.callback(engine.dispose)
    settings = context.settings
    sender = settings.accounts["default"].sender
    mailer = Mailer(
        app,
        engine=engine,
        broker=None if settings.broker_url is None else producer_broker(settings.broker_url, app),
        on_doubt=OnDoubt(settings.app(app).on_doubt),
        grace_s=settings.timing.grace_s,
        message_id_domain=None if sender is None else sender.address.rpartition("@")[2],
    )
    return engine, mailer, elsewhere


def _stored(stored: int, total: int) -> str:
    """What somebody who interrupted the command has to know."""
    if not stored:
        return "interrupted; nothing was stored"
    rest = "; what is not sent yet goes on with `mailfleet scan` or the next command that sends"
    return f"interrupted; {stored} of {total} mails are stored{rest}"


def _emit(mailer: Mailer, places: list[str], mails: list[Mail]) -> list[int]:
    try:
        return mailer.emit_many(mails)
    except MailfleetError as error:
        where = f"{places[0]} to {places[-1]}: " if places[0] else ""
        raise MailfleetError(f"{where}{error}") from error


def _batches(plans: Iterator[Planned]) -> Iterator[tuple[list[str], list[Mail]]]:
    places: list[str] = []
    mails: list[Mail] = []
    size = 0
    for plan in plans:
        places.append(plan.place)
        try:
            mails.append(plan.mail())
        except InvalidMail as error:
            raise InvalidMail(f"{plan.place}: {error.field}", error.reason) from error
        contents = [file.content for file in (*mails[-1].attachments, *mails[-1].inline)]
        size += sum(len(content) for content in contents if isinstance(content, bytes))
        if len(mails) == BATCH or size >= BATCH_BYTES:
            yield places, mails
            places, mails, size = [], [], 0
    if mails:
        yield places, mails


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on standard error, where it is a terminal; they go when the command ends."""
    console = screen.errors()
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with shown:
        yield shown
