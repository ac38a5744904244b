"""How likely each event is: strategies for any history, and for histories of one kind.

Events are drawn by one rule and not by a rule each: hypothesis leaves some rules out of every history, and without hints and
kills there is little to see in it.
"""

from hypothesis import strategies as st

from mailfleet_schema.statements.operate import CANCEL, RELEASE, RETRY
from mailfleet_schema.states import OnDoubt
from tests.model.events import (
    ALL,
    Emit,
    Event,
    Go,
    Kill,
    Lose,
    Operate,
    Overtake,
    Reconcile,
    Resume,
    Send,
    SetClock,
    Undertake,
)
from tests.model.process import STRANDS
from tests.model.world import HOSTS

Events = st.SearchStrategy[Event]

numbers = st.integers(0, HOSTS - 1)
places = st.one_of(st.just(frozenset({0, 1, 2})), st.frozensets(st.integers(0, 2), min_size=1))
policies = st.sampled_from(OnDoubt)
#: Which of the things happens that may; 0 is what mostly does.
any_choice = st.integers(0, 4)
mostly_good = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4])
steps = st.sampled_from([1, 1, 2, 3, 5, ALL])
who = st.sampled_from([(0, 1), (0, 1), (0,), (1,), ()])


def sends(choice: st.SearchStrategy[int]) -> st.SearchStrategy[Send]:
    """Hints and what follows, as far as any point on the way of a mail or two."""
    return st.builds(
        Send,
        process=numbers,
        places=places,
        steps=st.integers(0, 9),
        choice=choice,
        chunk=st.sampled_from([1, 8]),
        beats=st.sampled_from([True, True, False]),
        lies=st.booleans(),
        on_doubt=policies,
        expires_in_s=st.sampled_from([None, None, 30.0, 200.0]),
    )


def _weighted(*weighted: tuple[int, Events]) -> Events:
    each = [strategy for weight, strategy in weighted for _ in range(weight)]
    return st.sampled_from(each).flatmap(lambda strategy: strategy)


_SEND: Events = sends(any_choice)
_GOOD_SEND = sends(mostly_good)
_KILL: Events = st.builds(
    Kill,
    process=numbers,
    first=st.one_of(st.none(), _GOOD_SEND),
    seen=st.booleans(),
    steps=st.sampled_from([0, 1, 2, 4, ALL, ALL]),
)
_RECONCILE: Events = st.builds(
    Reconcile, seconds=st.sampled_from([0.0, 12.0, 35.0, 250.0, 610.0]), awake=who, by=who
)
_OVERTAKE: Events = st.builds(
    Overtake,
    first=_GOOD_SEND,
    seconds=st.sampled_from([35.0, 250.0, 250.0, 610.0]),
    awake=st.sampled_from([(0, 1), (0,), (1,)]),
    by=numbers,
    halfway=st.sampled_from([2, 3, 4, 5, ALL, ALL, ALL, ALL, ALL]),
    second=_GOOD_SEND,
    steps=st.sampled_from([1, 4, 5, ALL, ALL]),
)
_OPERATE: Events = st.builds(
    Operate,
    verb=st.sampled_from([RELEASE.name, RETRY.name, RELEASE.name, CANCEL.name]),
    place=st.integers(0, 2),
)

#: Anything, the frequent more often.
ANY = _weighted(
    (6, _SEND),
    (
        1,
        st.builds(
            Emit,
            on_doubt=policies,
            recipients=st.integers(1, 2),
            due_in_s=st.sampled_from([0.0, 0.0, 20.0, 400.0]),
            expires_in_s=st.sampled_from([None, 30.0, 500.0]),
            committed=st.booleans(),
        ),
    ),
    (
        2,
        st.builds(
            Go, process=numbers, name=st.sampled_from(STRANDS), steps=steps, choice=mostly_good, places=places
        ),
    ),
    (3, st.builds(Resume, process=numbers, steps=st.sampled_from([1, 2, 3, ALL]), choice=mostly_good)),
    (4, _RECONCILE),
    (6, _OVERTAKE),
    (2, st.builds(Undertake, host=numbers, steps=steps, choice=mostly_good)),
    (3, _KILL),
    (1, st.builds(Lose, host=numbers, lines=st.sampled_from([None, 0, 1, 2, 5]))),
    (1, st.builds(SetClock, skew=st.sampled_from([-3600.0, -40.0, 0.0, 40.0, 3600.0]))),
    (2, _OPERATE),
)

#: Workers that are slow or paused, and overtaken.
OVERTAKEN = _weighted((1, _SEND), (8, _OVERTAKE))

#: Workers that are killed, and what is made of it.
KILLED = _weighted((1, _SEND), (4, _KILL), (1, _RECONCILE))

#: Answers that never come, and the end of every wait for them.
DOUBTED = _weighted(
    (3, _SEND),
    (2, st.builds(Reconcile, seconds=st.just(610.0), awake=st.just((0, 1)), by=st.just((0, 1)))),
)
