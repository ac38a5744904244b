"""A slot as the right to a connection."""

import pytest

from mailfleet_workers.limits.base import Login, Refusal, Slot
from mailfleet_workers.limits.right import LINGER_S, SlotRight
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.smtp.base import Answer, Phase, Reply

SLOT = Slot("s1", "default", "mx.example.net")


class Told(UnlimitedLimiter):
    """A limiter that writes down what it is told of slots; *refusals* answer further logins, then they are granted."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(lambda: 0.0)
        self.refusals = list(refusals)
        self.logins: list[Login] = []
        self.closed: list[float] = []

    def login(self, slot: Slot) -> Refusal | None:
        assert slot == SLOT
        return self.refusals.pop(0) if self.refusals else None

    def logged_in(self, slot: Slot, login: Login) -> None:
        assert slot == SLOT
        self.logins.append(login)

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        assert slot == SLOT
        self.closed.append(linger_s)


@pytest.mark.parametrize(
    ("refused", "login"),
    [
        (None, Login.DONE),
        (Answer(Phase.AUTH, Reply(535, "5.7.8 wrong")), Login.REFUSED),
        (Answer(Phase.AUTH, Reply(454, "4.7.0 later")), Login.FAILED),
        (Answer(Phase.AUTH, None, "timed out"), Login.FAILED),
        (Answer(Phase.CONNECT, Reply(554, "no service")), Login.FAILED),
    ],
)
def test_how_an_opening_ended(refused: Answer | None, login: Login) -> None:
    """Only a final refusal of the credentials counts against them."""
    limiter = Told()
    SlotRight(limiter, SLOT, lambda _: None).opened(refused)
    assert limiter.logins == [login]


def test_a_short_wait_for_a_further_login_is_waited() -> None:
    """A connection that died is replaced after the gap between logins, but not when that takes long."""
    waits: list[float] = []
    limiter = Told(Refusal("login gap", 0.5), Refusal("login gap", 0.1))
    assert SlotRight(limiter, SLOT, waits.append).again()
    assert waits == [0.5, 0.1]
    assert not SlotRight(Told(Refusal("login refused", 900.0)), SLOT, waits.append).again()
    assert not SlotRight(Told(*[Refusal("login gap", 2.0)] * 9), SLOT, waits.append).again()


def test_a_connection_without_a_goodbye_keeps_its_slot_a_moment() -> None:
    """The server may not know yet that it is gone."""
    limiter = Told()
    right = SlotRight(limiter, SLOT, lambda _: None)
    right.close(orderly=True)
    right.close(orderly=False)
    assert limiter.closed == [0.0, LINGER_S]
    assert right.held
    assert right.token == "s1"
