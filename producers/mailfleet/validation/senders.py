"""Which apps' workers may send a mail."""

from mailfleet.errors import InvalidMail
from mailfleet.validation.text import exact
from mailfleet_schema.names import EXPECTATION, NAME
from mailfleet_schema.senders import ANY, Apps

#: More than any installation has, and less than could fill a row.
MOST = 50


def senders(value: object) -> Apps:
    """*value* of `Mail.apps` as it is stored: None, `("*",)` or names, each once in their order. Raises InvalidMail."""
    if value is None:
        return None
    if isinstance(value, str):
        # "crm" as a list of letters is a slip.
        if exact(value, "apps") != ANY:
            raise InvalidMail("apps", f'expected a list of apps or "{ANY}", got {value!r:.60}')
        return (ANY,)
    if not isinstance(value, (list, tuple)):
        raise InvalidMail("apps", f'expected a list of apps or "{ANY}", got {type(value).__name__}')
    if not value:
        raise InvalidMail("apps", "expected at least one app: nobody could send the mail")
    if len(value) > MOST:
        raise InvalidMail("apps", f"expected at most {MOST} apps, got {len(value)}")
    names = [exact(name, f"apps[{n}]") for n, name in enumerate(value)]
    if names == [ANY]:
        return (ANY,)
    for n, name in enumerate(names):
        if not NAME.fullmatch(name):
            raise InvalidMail(f"apps[{n}]", f"expected {EXPECTATION}, got {name!r:.60}")
    return tuple(dict.fromkeys(names))
