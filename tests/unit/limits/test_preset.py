"""Presets: what the packaged data says, and how it was read."""

import json
import re
from importlib.resources import files

import pytest

from mailfleet_workers.limits import words
from mailfleet_workers.limits.preset import Preset, UnknownPreset, preset, presets, seen
from mailfleet_workers.limits.rule import Rate
from mailfleet_workers.settings import AccountSettings

ALL = presets(plans=True)


def rules(found: Preset) -> tuple[list[str], list[str]]:
    return [str(rate) for rate in found.messages], [str(rate) for rate in found.recipients]


def test_the_data_is_all_of_it() -> None:
    """All providers of the data are presets, in its order; plans follow their provider."""
    data = json.loads((files("mailfleet_workers.limits") / "providers.json").read_text(encoding="utf-8"))

    assert [one.name for one in presets()] == list(data["providers"])
    assert len(presets()) == 42
    names = [one.name for one in ALL]
    assert names[names.index("ionos") :][:4] == [
        "ionos",
        "ionos/0-7-days",
        "ionos/8-14-days",
        "ionos/15-30-days",
    ]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", seen())


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_every_preset_is_a_setting(one: Preset) -> None:
    """Each name can be set, its rules have one window each, and the words for it are not empty."""
    assert AccountSettings(preset=one.name).preset == one.name
    for rates in (one.messages, one.recipients):
        assert len({rate.window_ms for rate in rates}) == len(rates)
    assert words.of_preset(one)
    assert one.documented == ("no documented figures" not in words.of_preset(one))
    assert all(
        source.url.startswith("https://") or source.url.startswith("http://") for source in one.sources
    )
    assert one.sources or not one.documented


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_no_preset_shuts_out_what_its_provider_takes(one: Preset) -> None:
    """A mail to as many recipients as the provider takes at once passes some time."""
    most = one.recipients_per_message or 1
    assert all(rate.limit >= min(most, 50) for rate in one.recipients)


@pytest.mark.parametrize(
    ("name", "messages", "recipients"),
    [
        ("gmail", ["500/d"], []),
        ("m365", ["30/min"], ["10000/d"]),
        # 10,000 of which 3,000 outside: mail of applications goes outside, as far as anybody can tell.
        ("google-workspace", ["2000/d"], ["3000/d"]),
        ("google-workspace/trial", ["500/d"], ["3000/d"]),
        # "one mail to 50 counts 50"
        ("yahoo", [], ["500/d"]),
        ("yandex", [], ["500/d"]),
        ("yandex-360", [], ["3000/d"]),
        ("resellerspanel", [], ["150/h", "1500/d"]),
        ("icloud", ["1000/d"], ["1000/d"]),
        # A month is no longer than the longest window that a rule may have.
        ("aliyun-directmail", ["2000/d", "60000/31d"], []),
        # One recipient a second would keep a mail to two from being sent for ever.
        ("ses/sandbox", ["1/s"], ["60/min", "200/d"]),
        # Nobody says what is counted.
        ("brevo/free", [], ["300/d"]),
        ("nic.ru", [], ["50/15min"]),
        ("emailit", ["2/s", "5000/d"], []),
    ],
)
def test_figures_are_read_as_the_provider_counts(
    name: str, messages: list[str], recipients: list[str]
) -> None:
    """What counts recipients is a rule of recipients, whatever the provider calls it."""
    assert rules(preset(name)) == (messages, recipients)


def test_connections_and_their_messages() -> None:
    """Both come from the data, and None is what nobody documents."""
    assert (preset("m365").connections, preset("m365").max_messages) == (3, None)
    assert (preset("sendgrid").connections, preset("sendgrid").max_messages) == (None, 5000)
    assert (preset("sweb").connections, preset("sweb").max_messages) == (32, 100)


def test_a_plan_differs_key_by_key() -> None:
    """What a plan does not say is its provider's."""
    provider, plan = preset("google-workspace"), preset("google-workspace/trial")

    assert plan.messages == (Rate.parse("500/d"),)
    assert (plan.recipients, plan.servers, plan.notes) == (
        provider.recipients,
        provider.servers,
        provider.notes,
    )
    assert (provider.plans, plan.plans) == (("trial",), ())


def test_without_figures_a_preset_says_so() -> None:
    """A provider that documents nothing limits nothing; one that documents a plan is told apart."""
    assert not preset("qq").documented
    assert words.of_preset(preset("qq")) == "no documented figures"
    assert words.of_preset(preset("ses")) == "no documented figures without a plan"
    assert preset("ses/sandbox").documented


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("M365", "(did you mean m365?)"),
        ("office365", "(did you mean m365?)"),
        ("hotmail.com", "(did you mean outlook.com?)"),
        ("nobody-like-it", ""),
        (
            "gogle-workspace",
            "(did you mean google-workspace, google-workspace/trial or google-workspace-relay?)",
        ),
        ("brevo/pro", "(did you mean brevo or brevo/free?)"),
        ("", ""),
    ],
)
def test_an_unknown_name_has_suggestions(name: str, meant: str) -> None:
    """The nearest names are in the error; the plans, where only the plan is wrong."""
    with pytest.raises(UnknownPreset) as caught:
        preset(name)

    assert caught.value.expected == f"a provider that `mailfleet presets` lists {meant}".strip()


@pytest.mark.parametrize("name", ["m365/foo", "m365/"])
def test_a_plan_of_a_provider_without_plans(name: str) -> None:
    """The provider is known: that there are no plans of it is what is wrong."""
    with pytest.raises(UnknownPreset) as caught:
        preset(name)
    assert str(caught.value) == f"{name}: expected m365, which has no plans"


def test_words() -> None:
    """Limits are said as people say them."""
    assert words.of_preset(preset("sweb")) == (
        "60 messages a minute, 500 an hour; 32 connections; 100 messages on a connection"
    )
    assert words.of_preset(preset("ses/sandbox")) == ("1 message a second; 60 recipients a minute, 200 a day")
    assert [words.rate(Rate.parse(text)) for text in ("300/10s", "5/1500ms", "10000/12h", "60000/31d")] == [
        "300 in 10 s",
        "5 in 1500 ms",
        "10,000 in 12 h",
        "60,000 in 31 days",
    ]
