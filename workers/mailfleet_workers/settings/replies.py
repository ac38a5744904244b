"""What an installation says of servers' replies: rules of one account or one host, searched before the product's own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from mailfleet.errors import SettingsError
from mailfleet_workers.classify.parsing import own_rule
from mailfleet_workers.classify.rule import Rule
from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.settings.problems import Words, wrong

if TYPE_CHECKING:
    from mailfleet_workers.settings.model import Settings

#: Each is tried with every refusal.
MOST_RULES = 100


def _checked(value: object) -> object:
    """The rules as they are written, each looked at by the parser of the product's own; wrong ones are named by their position."""
    if not isinstance(value, list | tuple):
        raise wrong(("", "a list of tables, one for each rule", Words("something else")))
    if len(value) > MOST_RULES:
        raise wrong(("", f"at most {MOST_RULES} rules", Words(f"{len(value)} of them")))
    problems: list[tuple[str, str, object]] = []
    for position, entry in enumerate(value):
        try:
            own_rule(entry, "here")
        except SettingsError as error:
            below = f".{error.key}" if error.key else ""
            problems.append((f"[{position}]{below}", error.expected, _shown(error.value)))
    if problems:
        raise wrong(*problems)
    return tuple(dict(entry) for entry in value)


Replies = Annotated[tuple[Any, ...], BeforeValidator(_checked)]


def rules_from(replies: Sequence[Mapping[str, Any]], where: str, *hosts: str) -> tuple[Rule, ...]:
    """*replies*, which were checked, as rules for *hosts* (none: for whoever asks); *where* is their key in the settings."""
    return tuple(own_rule(one, f"{where}[{position}]", hosts=hosts) for position, one in enumerate(replies))


def rules_of(settings: "Settings") -> Rules:
    """The product's table, with the rules that *settings* have for hosts before it."""
    own = [
        rule
        for host, one in settings.hosts.items()
        for rule in rules_from(one.replies, f'hosts."{host}".replies', host)
    ]
    return Rules.builtin().under(own)


def _shown(value: object) -> object:
    return value if isinstance(value, str | int | float | None) else Words("something else")
