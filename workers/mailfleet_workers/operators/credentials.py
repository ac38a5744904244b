"""An account whose login was refused, and which has other credentials now: it is tried again at once, not after its wait."""

from sqlalchemy import Engine

from mailfleet_schema.statements import gate
from mailfleet_workers.operators.gates import bring_back
from mailfleet_workers.operators.scope import Scope

#: Why a gate is closed that other credentials may open: reasons of rules for replies to a login.
REFUSED = ("login refused", "login to be changed by an administrator", "login wanted")
#: How the reasons begin that speak of our own settings, a password that could not be read for instance.
OWN = ("settings: ", "login: ")


def open_refused(engine: Engine, account: str, *, older_s: float = 0.0) -> int | None:
    """Open the gate of *account* if a refused login closed it at least *older_s* seconds ago, and let its mail come back.

    Returns how many mails that is, None where there was no such gate. One that an operator closed stays as it is.
    """
    with engine.begin() as connection:
        reasons = [
            one.reason
            for one in gate.closed_gates(connection)
            if (one.scope, one.key) == ("account", account)
        ]
        if not reasons or not _of_login(reasons[0]):
            return None
        if not gate.open_gate(connection, scope="account", key=account, reason=reasons[0], older_s=older_s):
            return None
    return bring_back(engine, Scope("account", account), servers={})


def _of_login(reason: str) -> bool:
    return reason in REFUSED or reason.startswith(OWN)
