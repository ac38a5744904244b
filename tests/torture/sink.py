"""Servers that answer at random: what happens to each try of each mail is drawn from the seed.

A mail's envelope sender names it, so its fate does not depend on what else is sent beside it. Codes and texts are such
that no wait is longer than some seconds; only before MAIL, where servers can say little, they are much longer.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mailfleet_workers.catcher import (
    Action,
    Cut,
    Default,
    Delay,
    Drip,
    Event,
    Keep,
    Raw,
    Reset,
    Say,
    Silent,
    Step,
)

#: The commands' timeouts of the accounts in a storm, in seconds, and the final dot's.
COMMAND_S = 1.5
DOT_S = 2.0

SOON = Say(421, "4.3.2 Closing, try again in 1 second")
TROUBLE = Say(451, "4.3.0 Trouble here")
GREYLISTED = Say(450, "4.2.0 Greylisted, try again in 2 seconds")
NOBODY = Say(550, "5.1.1 Nobody of that name")
NOT_THIS = Say(554, "5.6.0 Not this mail")


@dataclass(frozen=True, slots=True)
class Fate:
    """What the server does at `step` of one try. `one` recipient only, or whoever is asked about."""

    step: Step
    action: Action
    one: bool = False


_Draw = Callable[[random.Random], Action]


def _delay(least_s: float, most_s: float) -> _Draw:
    return lambda rng: Delay(rng.uniform(least_s, most_s))


def _always(action: Action) -> _Draw:
    return lambda _rng: action


#: How often of 1,000 tries, where, and what. The rest is well.
FATES: tuple[tuple[float, Step, _Draw], ...] = (
    (0.5, Step.MAIL, _always(SOON)),
    (3, Step.MAIL, _always(TROUBLE)),
    (2, Step.MAIL, _always(Cut())),
    (1, Step.MAIL, _always(Silent())),
    (3, Step.MAIL, _delay(0.01, 0.3)),
    (0.5, Step.RCPT, _always(SOON)),
    (6, Step.RCPT, _always(NOBODY)),
    (4, Step.RCPT, _always(GREYLISTED)),
    (4, Step.RCPT, _always(TROUBLE)),
    (1, Step.RCPT, _always(Reset())),
    (1, Step.RCPT, _always(Silent())),
    (0.5, Step.DATA, _always(SOON)),
    (3, Step.DATA, _always(TROUBLE)),
    (1, Step.DATA, _always(Cut())),
    (1, Step.DATA, _always(Silent())),
    (3, Step.BODY, _always(Cut())),
    (2, Step.BODY, _always(Reset())),
    (3, Step.BODY, _delay(0.01, 0.3)),
    (4, Step.EOD, _always(NOT_THIS)),
    (8, Step.EOD, _always(TROUBLE)),
    (2, Step.EOD, _always(Say(421, "4.3.2 Closing"))),
    (2, Step.EOD, _always(Cut())),
    (3, Step.EOD, _always(Keep(Cut()))),
    (2, Step.EOD, _always(Reset())),
    (3, Step.EOD, _always(Keep(Reset()))),
    (1, Step.EOD, _always(Silent())),
    (2, Step.EOD, _always(Keep(Silent()))),
    (1, Step.EOD, _always(Delay(DOT_S + 1.0))),
    (1, Step.EOD, _always(Raw(b"what?\r\n"))),
    (20, Step.EOD, _delay(0.01, 0.5)),
    (4, Step.EOD, _always(Drip(Default(), 0.01))),
    (3, Step.AFTER_REPLY, _always(Cut())),
    (2, Step.AFTER_REPLY, _always(Reset())),
)


def fate_of(seed: int, sender: str, nth: int) -> Fate | None:
    """What happens to the *nth* try (from 0) of the mail of *sender*; None if nothing does."""
    rng = random.Random(f"{seed} {sender} {nth}")
    left = rng.random() * 1000
    for weight, step, draw in FATES:
        left -= weight
        if left < 0:
            return Fate(step, draw(rng), one=rng.random() < 0.5)
    return None


class Moods:
    """The script of one server of the storm *seed*; *ailing* fails before MAIL too."""

    def __init__(self, seed: int, *, ailing: bool = False) -> None:
        self._seed = seed
        self._ailing = random.Random(f"{seed} ailing") if ailing else None
        self._tries: Counter[str] = Counter()
        self._now: dict[int, Fate | None] = {}
        #: How often each thing was done, by step and action.
        self.done: Counter[str] = Counter()

    def __call__(self, event: Event) -> Action:
        if event.step in {Step.CONNECT, Step.EHLO}:
            return self._before_mail(event)
        if event.step is Step.MAIL:
            sender = event.argument
            self._now[event.session_id] = fate_of(self._seed, sender, self._tries[sender])
            self._tries[sender] += 1
        fate = self._now.get(event.session_id)
        if fate is None or fate.step is not event.step:
            return Default()
        if event.step is Step.RCPT and fate.one and not event.argument.startswith("0."):
            return Default()
        return self._do(event.step, fate.action)

    def _before_mail(self, event: Event) -> Action:
        self._now.pop(event.session_id, None)
        rng = self._ailing
        if rng is None or rng.random() > 0.15:
            return Default()
        draws = (Cut(), Reset(), Silent(), SOON, Say(554, "5.3.2 No service, try again in 3 seconds"))
        return self._do(event.step, rng.choice(draws))

    def _do(self, step: Step, action: Action) -> Action:
        inner = action.then if isinstance(action, Keep) else action
        kept = "kept, " if isinstance(action, Keep) else ""
        said = f" {inner.code}" if isinstance(inner, Say) else ""
        self.done[f"{step.value}: {kept}{type(inner).__name__.lower()}{said}"] += 1
        return action
