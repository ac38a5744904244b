"""`mailfleet presets`: what is known of providers, and what a preset of that name limits."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from mailfleet_workers.cli import screen
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.limits import words
from mailfleet_workers.limits.preset import Preset, UnknownPreset, preset, presets, seen

HELP = """List the providers whose limits can be set by a name, or show NAME with its notes and sources.

In the settings: preset = "NAME", below [accounts.NAME]. The figures are those that could be read on the day named;
what your provider tells you wins, and single keys below [accounts.NAME.limits] do so too.
"""


def presets_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A provider, or one of its plans: google-workspace/trial."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    if name is None:
        if as_json:
            screen.print_json({"seen": seen(), "presets": [_json(one) for one in presets(plans=True)]})
        else:
            _list()
        return
    try:
        found = preset(name)
    except UnknownPreset as error:
        raise Failure(f"presets: {error}") from None
    if as_json:
        screen.print_json({"seen": seen(), **_json(found)})
    else:
        _show(found)


def _list() -> None:
    rows = [[_name(one), _counts(one), _limits(one)] for one in presets(plans=True)]
    console = screen.output()
    console.print(screen.folded(["preset", "counts", "limits"], rows))
    providers = presets()
    without = [one for one in providers if not one.documented]
    console.print()
    console.print(
        screen.cell(
            f"{len(providers)} providers, {len(without)} of them without documented figures: a preset of those limits"
            f" nothing, unless with a plan. Looked up {seen()}. `mailfleet presets NAME` shows notes and sources.",
            "dim",
        )
    )


def _name(one: Preset) -> Text:
    # A plan stands below its provider, as what is put behind the provider's name.
    provider, slash, plan = one.name.partition("/")
    return screen.cell(f"  /{plan}" if slash else provider)


def _limits(one: Preset) -> Text:
    return screen.cell(words.of_preset(one), "" if one.documented else "dim")


def _counts(one: Preset) -> Text:
    if "/" in one.name:
        return screen.cell("")
    # The provider's words have more, which `presets NAME` shows.
    return screen.cell(re.split(" ?[,;(]", one.counts)[0] if one.counts else "-", "dim")


def _show(one: Preset) -> None:
    console = screen.output()
    console.print(screen.cell(f"{one.name}: {one.title}", "bold"))
    console.print(screen.pairs(list(_facts(one))))
    if one.notes:
        console.print(screen.heading("notes"))
        for note in one.notes:
            console.print(screen.pairs([("-", note)]))
    if one.sources:
        console.print(screen.heading("sources"))
        for source in one.sources:
            about = ", ".join(part for part in (source.what, source.kind, source.date) if part)
            console.print(screen.pairs([("-", about)]))
            # Not folded: whoever copies it from a terminal gets one line.
            console.print(screen.cell(f"   {source.url}", "dim"), no_wrap=True, overflow="ignore", crop=False)


def _facts(one: Preset) -> Iterator[tuple[str, object]]:
    yield "limits", _limits(one)
    yield "counts", one.counts or "not documented"
    yield "window", one.window
    for plan in one.plans:
        yield f"plan {plan}", words.of_preset(preset(f"{one.name}/{plan}"))
    yield "servers", ", ".join(f"{each.host}:{each.port} {each.tls}" for each in one.servers) or None
    yield "login", ", ".join(one.auth) or None
    yield "sender", one.sender
    most = (
        f"{one.recipients_per_message:,}, a mail to more goes in several"
        if one.recipients_per_message
        else None
    )
    yield "recipients of a message", most
    size = f"{one.max_message_bytes / 2**20:.0f} MiB, encoded" if one.max_message_bytes else None
    yield "size of a message", size
    yield "who sends more", one.after
    yield "looked up", seen()


def _json(one: Preset) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "kind": one.kind,
        "documented": one.documented,
        "messages": [str(rate) for rate in one.messages],
        "recipients": [str(rate) for rate in one.recipients],
        "connections": one.connections,
        "max_messages": one.max_messages,
        "recipients_per_message": one.recipients_per_message,
        "max_message_bytes": one.max_message_bytes,
        "counts": one.counts,
        "window": one.window,
        "plans": [f"{one.name}/{plan}" for plan in one.plans],
        "servers": [{"host": each.host, "port": each.port, "tls": each.tls} for each in one.servers],
        "login": list(one.auth),
        "sender": one.sender,
        "domains": list(one.domains),
        "who_sends_more": one.after,
        "notes": list(one.notes),
        "sources": [
            {"url": each.url, "kind": each.kind, "date": each.date, "what": each.what} for each in one.sources
        ],
    }
