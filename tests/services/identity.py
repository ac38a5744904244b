"""Who a private server runs as: PostgreSQL refuses to run as root, and Postfix delivers no mail as root."""

import os
import pwd
from typing import TypedDict


class Identity(TypedDict, total=False):
    """Arguments of `subprocess.Popen` that hand a process to another user; empty for our own."""

    user: int
    group: int
    extra_groups: list[int]


def server_user(preferred: str) -> str | None:
    """None, which means ourselves, unless we are root; root hands over to `preferred`, or to `nobody` without it."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(preferred).pw_name
    except KeyError:
        return "nobody"


def identity(user: str | None) -> Identity:
    """Everything that has to change with the user: `Popen(user=...)` alone keeps root's groups."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
