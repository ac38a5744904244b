"""Three apps with an account each at one server: the sender of a mail says by whose right it went."""

from email import message_from_bytes
from typing import Any

from sqlalchemy import text

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from tests.stage import Stage

OWNER, NAMED, OTHER = "billing", "crm", "news"
APPS = (OWNER, NAMED, OTHER)


def settings(stage: Stage, *sharing: str, threads: int = 4) -> dict[str, str]:
    """Each app may use the account of its name and no other; *sharing* take what is for everybody."""
    found: dict[str, str] = {}
    for app in APPS:
        found |= {
            f"APPS__{app}__ACCOUNTS": app,
            f"APPS__{app}__THREADS": str(threads),
            f"APPS__{app}__SHARED": "true" if app in sharing else "false",
            f"ACCOUNTS__{app}__HOST": "127.0.0.1",
            f"ACCOUNTS__{app}__PORT": str(stage.sink.port),
            f"ACCOUNTS__{app}__TLS": "plain",
            f"ACCOUNTS__{app}__FROM": f"{app}@example.com",
        }
    return {f"MAILFLEET_{name.upper()}": value for name, value in found.items()}


def mail(subject: str, apps: Any = None, *, account: str = OWNER, **more: Any) -> Mail:
    return Mail(to=["ada@example.net"], subject=subject, text="Hello", account=account, apps=apps, **more)


def senders(stage: Stage) -> dict[str, str]:
    """The From of each subject that the server took."""
    messages = [message_from_bytes(one.message) for one in stage.sink.store.receipts()]
    return {str(one["Subject"]): str(one["From"]) for one in messages}


def by_app(stage: Stage) -> dict[str, set[int]]:
    """The mails that workers of each app have tried."""
    query = text(
        "SELECT w.app, a.mail_id FROM mailfleet.mail_attempt a JOIN mailfleet.worker w ON w.id = a.worker_id"
    )
    found: dict[str, set[int]] = {}
    with read_only(stage.engine) as connection:
        for app, mail_id in connection.execute(query):
            found.setdefault(app, set()).add(mail_id)
    return found
