"""How and when a mail is to be sent: account, priority, times, counts, doubt, run modes, and what becomes of its content."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar, get_args

from mailfleet.errors import InvalidMail
from mailfleet.mail import ContentPolicy, Mail, OnDoubt, Priority
from mailfleet.validation.limits import Limits
from mailfleet.validation.senders import senders
from mailfleet.validation.text import exact
from mailfleet.validation.times import due, expiry
from mailfleet_schema.senders import Apps

DEFAULT_ACCOUNT = "default"
DEFAULT_PRIORITY: Priority = "normal"

_PRIORITIES: tuple[Priority, ...] = get_args(Priority)
_ON_DOUBT: tuple[OnDoubt, ...] = get_args(OnDoubt)
_POLICIES: tuple[ContentPolicy, ...] = get_args(ContentPolicy)
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RUN_MODE = re.compile(r"([!-]?)(nothing|local|develop|test|product)")

_Word = TypeVar("_Word", bound=str)


class Handling(NamedTuple):
    """The checked values; `due_at` is as the application gave it, in UTC."""

    account: str
    priority: Priority
    due_at: datetime | None
    expires_at: datetime | None
    max_fail: int | None
    max_done: int | None
    retry: bool
    on_doubt: OnDoubt | None
    run_modes: tuple[str, ...]
    content_policy: ContentPolicy | None = None
    apps: Apps = None


PLAIN = Handling(
    DEFAULT_ACCOUNT, DEFAULT_PRIORITY, None, None, None, None, retry=True, on_doubt=None, run_modes=()
)


def handling(mail: Mail, limits: Limits, now: datetime) -> Handling:
    """Check the fields of *mail* that say how it is sent. Raises InvalidMail."""
    due_at = due(mail.due_at, now, limits)
    if not isinstance(mail.retry, bool):
        raise InvalidMail("retry", f"expected bool, got {type(mail.retry).__name__}")
    return Handling(
        DEFAULT_ACCOUNT if mail.account is None else _account(mail.account),
        _one_of(mail.priority, "priority", _PRIORITIES),
        due_at,
        expiry(mail.expires_at, due_at, now),
        _count(mail.max_fail, "max_fail", limits.max_fail),
        _count(mail.max_done, "max_done", limits.max_done),
        mail.retry,
        None if mail.on_doubt is None else _one_of(mail.on_doubt, "on_doubt", _ON_DOUBT),
        _run_modes(mail.run_modes),
        _policy(mail),
        senders(mail.apps),
    )


def _account(value: object) -> str:
    name = exact(value, "account")
    if not _ACCOUNT.fullmatch(name):
        raise InvalidMail("account", "expected a lower-case letter, then up to 39 of a-z, 0-9 and -")
    return name


def _one_of(value: object, field: str, words: Sequence[_Word]) -> _Word:
    text = exact(value, field)
    for word in words:
        if word == text:
            return word
    raise InvalidMail(field, f"expected one of {', '.join(words)}")


def _policy(mail: Mail) -> ContentPolicy | None:
    if mail.content_policy is None:
        return None
    policy = _one_of(mail.content_policy, "content_policy", _POLICIES)
    if policy == "render_only" and mail.lazy is None:
        raise InvalidMail(
            "content_policy", "render_only is for lazy mail: this one's content is stored as it is given"
        )
    return policy


def _count(value: object, field: str, limit: int) -> int | None:
    if value is None:
        return None
    # bool is an int, but max_fail=True is a slip.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidMail(field, f"expected int, got {type(value).__name__}")
    if not 1 <= value <= limit:
        raise InvalidMail(field, f"expected 1 to {limit}")
    return int(value)


def _run_modes(value: object) -> tuple[str, ...]:
    """Votes for (`product`) and against (`!test`, also written `-test`) a run mode, in lower case, once each."""
    if isinstance(value, tuple) and not value:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidMail("run_modes", f"expected a list of run modes, got {type(value).__name__}")
    votes = []
    for n, entry in enumerate(value):
        found = _RUN_MODE.fullmatch(exact(entry, f"run_modes[{n}]").lower())
        if not found:
            raise InvalidMail(
                f"run_modes[{n}]", "expected nothing, local, develop, test or product, or !mode"
            )
        votes.append(f"!{found[2]}" if found[1] else found[2])
    return tuple(dict.fromkeys(votes))
