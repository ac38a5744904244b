"""The mailer of a Django process, and the shortest way into the open transaction."""

from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from mailfleet.django.session import session
from mailfleet.mailer import Mailer
from mailfleet.preparing import Sendable


@cache
def mailer() -> Mailer:
    """The mailer of this process, made when it is first needed; it may be used after a fork.

    Raises ImproperlyConfigured without `MAILFLEET_APP`, and SettingsError.
    """
    app = getattr(settings, "MAILFLEET_APP", None)
    if not app:
        raise ImproperlyConfigured("MAILFLEET_APP: expected the name of the app whose mails these are")
    return Mailer.from_env(app)


def emit(mail: Sendable, *, using: str | None = None, retry: bool | None = None, force: bool = False) -> int:
    """Store *mail* in the transaction that is open in Django's database *using*; its id. As `Mailer.emit`."""
    return mailer().emit(mail, session=session(using), retry=retry, force=force)
