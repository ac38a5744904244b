"""Histories: events chosen by hypothesis, one after the other, with the promise checked after each."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mailfleet_schema.states import OnDoubt
from tests.model.chances import ANY, Events, policies
from tests.model.events import Event
from tests.model.world import World

chunks = st.sampled_from([1, 8])


def machine_of(world: World, events: Events = ANY) -> type[RuleBasedStateMachine]:
    """Histories of *events* in *world*, each with a beginning of its own.

    At the end of each all trouble ends, and every mail must come to rest.
    """

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._well = True
            world.reset()

        @initialize(first=policies, second=policies, chunk=chunks, other_chunk=chunks, lies=st.booleans())
        def begin(self, *, first: OnDoubt, second: OnDoubt, chunk: int, other_chunk: int, lies: bool) -> None:
            """Two mails and two workers; the clock of one may lie."""
            world.processes.append(world.start(0, chunk=chunk, lies=lies))
            world.processes.append(world.start(1, chunk=other_chunk, lies=False))
            world.emit(first)
            world.emit(second, recipients=2)

        @rule(event=events)
        def then(self, event: Event) -> None:
            self._well = False
            event.happen(world)
            world.check()
            self._well = True

        def teardown(self) -> None:
            try:
                if self._well:
                    world.heal()
                    world.check()
            finally:
                world.close()

    return Machine
