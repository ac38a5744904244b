"""The providers' script: its table, row by row, on a clock of our own."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.catcher.actions import Action, Cut, Default, Keep, Say
from mailfleet_workers.catcher.providers import Providers
from mailfleet_workers.catcher.script import Event, Step

SENDER = "app@fleet.test"


def ask(
    script: Providers,
    step: Step,
    argument: str = "",
    *,
    sender: str | None = SENDER,
    recipients: tuple[str, ...] = (),
    time: float = 0.0,
    user: str | None = None,
) -> Action:
    return script(
        Event(
            session_id=1,
            step=step,
            peer=("127.0.0.1", 1),
            time=time,
            argument=argument,
            sender=sender,
            recipients=recipients,
            user=user,
        )
    )


def end(
    script: Providers, recipient: str, *, sender: str = SENDER, time: float = 0.0, user: str | None = None
) -> Action:
    return ask(script, Step.EOD, sender=sender, recipients=(recipient,), time=time, user=user)


def providers(
    seed: int = 1, *, busy_refusals: int = 3, quota_mails: int = 0, day_s: float = 86_400
) -> Providers:
    return Providers(random.Random(seed), busy_refusals=busy_refusals, quota_mails=quota_mails, day_s=day_s)


@pytest.mark.parametrize("step", list(Step))
def test_others_are_accepted(step: Step) -> None:
    """Addresses that are not in the table meet the default at every step."""
    action = ask(providers(), step, "ada@example.test", recipients=("ada@example.test",))

    assert action == Default()


@given(
    seed=st.integers(0, 1000),
    begin=st.floats(0, 1e6),
    early=st.floats(0, 0.999),
    recipient=st.from_regex(r"\A[a-z]{1,5}@(grey|Grey)\.example\Z"),
)
def test_greylisting_keeps_its_word(seed: int, begin: float, early: float, recipient: str) -> None:
    """Whoever waits the seconds stated is accepted, at the first try as after one that came too early."""
    script = providers(seed)

    first = ask(script, Step.RCPT, recipient, time=begin)
    stated = seconds_in(first)
    assert stated == script.grey_seconds(SENDER, recipient)
    assert 2 <= stated <= 6
    again = begin + early * stated
    rest = seconds_in(ask(script, Step.RCPT, recipient, time=again))

    assert rest <= stated + 1
    assert ask(script, Step.RCPT, recipient, time=max(begin + stated, again + rest)) == Default()


def seconds_in(action: Action) -> int:
    assert isinstance(action, Say)
    assert action.code == 450
    found = re.search(
        r"4\.2\.0 <.+>: Recipient address rejected: Greylisted, please try again in (\d+) seconds",
        action.text,
    )
    assert found is not None
    return int(found[1])


def test_greylisting_is_per_pair() -> None:
    """A recipient known from one sender is greylisted for another, and the other way round."""
    script = providers()
    ask(script, Step.RCPT, "a@grey.example", time=0)
    assert ask(script, Step.RCPT, "A@GREY.example", time=10) == Default()

    assert seconds_in(ask(script, Step.RCPT, "a@grey.example", sender="other@fleet.test", time=10))
    assert seconds_in(ask(script, Step.RCPT, "b@grey.example", time=10))


def test_seed_repeats_itself_in_any_order() -> None:
    """The seconds depend on the seed and the pair, not on who comes first."""
    names = [f"r{index}@grey.example" for index in range(40)]
    one = {name: seconds_in(ask(script, Step.RCPT, name)) for script in [providers(7)] for name in names}
    two = {
        name: seconds_in(ask(script, Step.RCPT, name))
        for script in [providers(7)]
        for name in reversed(names)
    }
    other = {name: seconds_in(ask(script, Step.RCPT, name)) for script in [providers(8)] for name in names}

    assert one == two
    assert one != other


def test_busy_recipients_then_fine() -> None:
    """The first mails to busy.example are refused after the dot, whoever sends them, the next are taken."""
    script = providers(busy_refusals=2)

    refused = [end(script, "a@busy.example"), end(script, "b@busy.example", sender="x@fleet.test")]

    assert all(isinstance(action, Say) and action.code == 550 for action in refused)
    assert all(
        isinstance(action, Say) and action.text.startswith("Ip frequency limited") for action in refused
    )
    assert end(script, "c@busy.example") == Default()


def test_busy_sender_then_fine() -> None:
    """Each sender at busy.example is refused at MAIL for a while of its own."""
    script = providers(busy_refusals=1)

    def mail(sender: str) -> Action:
        return ask(script, Step.MAIL, sender, sender=None)

    assert mail("a@busy.example") == Say(550, "Sender frequency limited.")
    assert mail("b@busy.example") == Say(550, "Sender frequency limited.")
    assert mail("a@busy.example") == Default()


def test_quota_without_settings_refuses_all() -> None:
    """By default every mail to quota.example is over the quota, so its fate is known by its address."""
    script = providers()

    assert end(script, "a@quota.example") == Say(550, "5.4.5 Daily user sending limit exceeded.")
    assert end(script, "b@Quota.Example") == Say(550, "5.4.5 Daily user sending limit exceeded.")


def test_quota_counts_users_and_days() -> None:
    """Each user, or sender without a login, has its own count, and a new day begins a new one."""
    script = providers(quota_mails=2, day_s=100)

    first = [end(script, "a@quota.example", user="ada", time=at) for at in (0, 10, 20)]
    other = end(script, "a@quota.example", time=20)
    tomorrow = end(script, "a@quota.example", user="ada", time=100)

    assert [isinstance(action, Say) for action in first] == [False, False, True]
    assert other == Default()
    assert tomorrow == Default()


@pytest.mark.parametrize(("local", "text"), [("gone", "User unknown"), ("NoBody", "does not exist")])
def test_one_of_three_is_refused(local: str, text: str) -> None:
    """The local parts gone and nobody are unknown in every domain; their neighbours are not."""
    script = providers()

    replies = [ask(script, Step.RCPT, f"{name}@any.example") for name in ("ada", local, "bob")]

    assert replies[0] == replies[2] == Default()
    assert isinstance(replies[1], Say)
    assert replies[1].code == 550
    assert replies[1].text.startswith("5.1.1 ")
    assert text in replies[1].text


def test_cut_before_the_dot_once_per_pair() -> None:
    """A mail to cut-before.example loses its connection at DATA the first time and not the second."""
    script = providers()

    def data(recipient: str) -> Action:
        return ask(script, Step.DATA, recipients=("a@ok.example", recipient))

    assert [data("a@cut-before.example"), data("A@cut-before.example")] == [Cut(), Default()]
    assert data("b@cut-before.example") == Cut()
    assert end(script, "a@cut-before.example") == Default()


def test_cut_after_the_dot_keeps_the_mail() -> None:
    """A mail to cut-after.example is kept and its connection cut the first time, and answered the second."""
    script = providers()

    assert end(script, "a@cut-after.example") == Keep(Cut())
    assert end(script, "a@cut-after.example") == Default()


def test_refused_mail_does_not_use_the_quota_up() -> None:
    """A mail that a busy recipient's server refuses is not counted as one of the day."""
    script = providers(quota_mails=1, busy_refusals=1)
    both = ("a@quota.example", "b@busy.example")

    first = ask(script, Step.EOD, recipients=both)
    second = ask(script, Step.EOD, recipients=both)

    assert isinstance(first, Say)
    assert first.text.startswith("Ip frequency limited")
    assert second == Default()
