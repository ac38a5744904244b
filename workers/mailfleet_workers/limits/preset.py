"""What providers document about how much may be sent through them, as limits that are set by a name: `preset = "m365"`.

The figures are in `providers.json`, looked up on the day that stands there; providers change them, and what a provider
tells a customer wins. Each was read so that the limits hold whatever is meant:

* A figure that counts recipients is a rule of recipients, also where the provider writes "messages": Yahoo and Yandex
  count one mail to 50 as 50. A figure whose unit nobody documents counts recipients too, because that is the stricter
  reading: whoever sends to one recipient at a time notices no difference.
* What mailfleet cannot tell apart (recipients outside the organisation, unique ones, ones never written to before) is
  limited as if all were of the kind with the lower figure. The note says so, and which key raises it.
* Every window slides. A provider that begins anew at midnight gets no more than it allows, and a month has 31 days.
* A figure for a whole domain, organisation or plan is the account's; with several accounts it belongs to the host.
* One recipient a second (the sandbox of Amazon SES) would keep every mail to two from being sent for ever: it is one
  message a second and sixty recipients a minute.
* Gaps between logins are documented by nobody, and so they are in no preset. What a message may hold (recipients, bytes)
  is no limit of a time: a mail to more recipients goes in several transactions, a larger one is never sent.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from mailfleet_workers.limits.rule import Rate


@dataclass(frozen=True, slots=True)
class Server:
    """Where a provider takes mail; `tls` is implicit, starttls, or none."""

    host: str
    port: int
    tls: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure was read: a page of the provider itself, or of a third party. `date` is the page's own."""

    url: str
    kind: str
    date: str | None = None
    what: str | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """The limits of one provider, or of one of its plans (`name` is `provider/plan` then).

    `messages` and `recipients` are empty, `connections` and `max_messages` (messages of one connection) None where
    nothing is documented. `plans` has the names of the plans, without the provider's.
    """

    name: str
    title: str
    kind: str
    messages: tuple[Rate, ...] = ()
    recipients: tuple[Rate, ...] = ()
    connections: int | None = None
    max_messages: int | None = None
    recipients_per_message: int | None = None
    max_message_bytes: int | None = None
    #: What the provider counts, and in which window, in its words.
    counts: str | None = None
    window: str | None = None
    domains: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    auth: tuple[str, ...] = ()
    #: Which senders are taken, as far as that is documented.
    sender: str | None = None
    #: What the server says and does to who sends more.
    after: str | None = None
    plans: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def documented(self) -> bool:
        """Whether any figure is known that the preset sets; without one it limits nothing."""
        return bool(self.messages or self.recipients or self.connections or self.max_messages)


class UnknownPreset(LookupError):  # noqa: N818 - reads as the fact it states
    """There is no preset of that name; `expected` says what there is instead, the nearest names first."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"{name}: expected {expected}")
        self.name = name
        self.expected = expected


def preset(name: str) -> Preset:
    """The preset *name*, of a provider or of a plan. Raises UnknownPreset."""
    known = _presets()
    found = known.get(name)
    if found is None:
        near = (
            _plans_of(name, known)
            or difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
            or _called(name.lower())
        )
        if near == [provider := name.partition("/")[0]] and "/" in name:
            raise UnknownPreset(name, f"{provider}, which has no plans")
        listed = " or ".join(filter(None, (", ".join(near[:-1]), *near[-1:])))
        meant = f" (did you mean {listed}?)" if near else ""
        raise UnknownPreset(name, f"a provider that `mailfleet presets` lists{meant}")
    return found


def presets(*, plans: bool = False) -> list[Preset]:
    """All providers, in the order of the data; with *plans* each followed by its plans."""
    return [one for one in _presets().values() if plans or "/" not in one.name]


def seen() -> str:
    """The day on which the figures were looked up, as YYYY-MM-DD."""
    return str(_data()["seen"])


def _plans_of(name: str, known: Mapping[str, Preset]) -> list[str]:
    """The provider in *name* with its plans, when only the plan is wrong."""
    provider = known.get(name.partition("/")[0])
    return (
        [] if provider is None else [provider.name, *(f"{provider.name}/{plan}" for plan in provider.plans)]
    )


def _called(word: str) -> list[str]:
    """The providers whose title, server or domain has *word* in it: `office365`, `hotmail`."""
    return [
        one.name
        for one in presets()
        if len(word) > 2
        and word in " ".join((one.title, *(server.host for server in one.servers), *one.domains)).lower()
    ][:3]


@cache
def _data() -> Any:
    return json.loads((files("mailfleet_workers.limits") / "providers.json").read_text(encoding="utf-8"))


@cache
def _presets() -> dict[str, Preset]:
    found = {}
    for name, provider in _data()["providers"].items():
        found[name] = made = Preset(
            name=name,
            title=provider["name"],
            kind=provider["kind"],
            counts=provider["counts"],
            window=provider["window"],
            domains=tuple(provider["domains"]),
            servers=tuple(Server(**server) for server in provider["servers"]),
            auth=tuple(provider["auth"]),
            sender=provider["sender"],
            after=provider["after"],
            plans=tuple(provider["plans"]),
            notes=tuple(provider["notes"]),
            sources=tuple(Source(**source) for source in provider["sources"]),
            **_figures(provider),
        )
        for plan, changed in provider["plans"].items():
            # A plan differs from its provider key by key.
            found[f"{name}/{plan}"] = replace(made, name=f"{name}/{plan}", plans=(), **_figures(changed))
    return found


_RATES = ("messages", "recipients")
_NUMBERS = ("connections", "max_messages", "recipients_per_message", "max_message_bytes")


def _figures(of: Mapping[str, Any]) -> dict[str, Any]:
    rates = {key: tuple(Rate.parse(text) for text in of[key]) for key in _RATES if key in of}
    return rates | {key: of[key] for key in _NUMBERS if key in of}
