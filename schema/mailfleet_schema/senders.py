"""Whose workers send a mail: its app's alone, those of any app in a list, or whoever shares and is idle.

`mail.app` stays the owner all the same: its part of limits, its files and keys, its right to accounts, its gates.
"""

from typing import TypeAlias

from mailfleet_schema.names import NAME
from mailfleet_schema.topology import SHARED_APP

#: In place of a list: its app's workers, and those of every app that shares.
ANY = "*"
#: `mail.pool` of a mail that others may send.
SHARED = SHARED_APP

#: None is the mail's app alone, `(ANY,)` whoever shares, else the names of the apps that may.
Apps: TypeAlias = tuple[str, ...] | None


def stored(app: str, apps: Apps) -> tuple[str | None, str | None]:
    """The columns `pool` and `only_apps` of a mail of *app* that *apps* may send; a list of *app* alone is none."""
    if app == SHARED_APP and apps is None:
        # Nobody's own: everybody looks after it.
        return SHARED, None
    if apps is None or apps == (app,):
        return None, None
    return SHARED, None if ANY in apps else in_spaces(apps)


def in_spaces(names: tuple[str, ...]) -> str:
    """*names*, each between spaces: " billing crm "."""
    return f" {' '.join(names)} "


def apps_of(pool: str | None, only_apps: str | None) -> Apps:
    """Those who may send a mail with these columns; what is no name of an app is left out, for queues are named by them."""
    if pool is None:
        return None
    return (ANY,) if only_apps is None else tuple(name for name in only_apps.split() if NAME.fullmatch(name))


def hinted(app: str, apps: Apps, *, turn: int, looks: int = 0) -> str | None:
    """In whose queue a mail of *app* is hinted that *apps* may send; None is its own app's: for that it is like any other.

    A list is gone through by *turn* and *looks*: who is named first may be the one whose workers are gone. Where nobody
    shares nobody reads the queue of those that share, so that every other look is the app's own.
    """
    if not apps:
        return None
    name = (SHARED, app)[looks % 2] if ANY in apps else apps[(turn + looks) % len(apps)]
    return None if name == app else name
