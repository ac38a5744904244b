"""Which hooks hear of mails of an app: in the order of registration, each once, each app its own."""

from collections.abc import Callable, Iterator

import pytest

from mailfleet import registry
from mailfleet.registry import Attempt, hooks_of, on_attempt, registering

pytestmark = pytest.mark.tinymail("24")


@pytest.fixture(autouse=True)
def no_hooks_are_left() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    registry.forget()


def one(_attempt: Attempt) -> None:
    """A hook of a module."""


def other(_attempt: Attempt) -> None:
    """Another one."""


def made() -> Callable[[Attempt], None]:
    """A hook that has no name of its own."""
    return lambda _attempt: None


def test_order_and_apps() -> None:
    """Those of everybody and the app's own, as they were registered."""
    on_attempt(one)
    with registering("billing"):
        mine = on_attempt(made())
    on_attempt(other)
    assert (hooks_of("billing"), hooks_of("news")) == ([one, mine, other], [one, other])


def test_each_is_called_once() -> None:
    """A module that is loaded again does not register its hooks twice; two that a function made are two."""
    first, second = made(), made()
    for hook in (one, other, first, second, one, first):
        on_attempt(hook)
    assert hooks_of("billing") == [other, second, one, first]


def test_nobody_hears() -> None:
    """Without any there is nothing to ask."""
    assert hooks_of("billing") == ()
