"""Histories: events chosen by hypothesis, one after the other, with the promise checked after each."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mailfleet_schema.states import OnDoubt
from tests.model.events import EVENTS, Event
from tests.model.world import World

_policies = st.sampled_from(OnDoubt)
_chunks = st.sampled_from([1, 8])


class Machine(RuleBasedStateMachine):
    """One history in *world*. At its end all trouble ends, and every mail must come to rest."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self._well = True
        world.reset()

    @initialize(
        policies=st.tuples(_policies, _policies), chunks=st.tuples(_chunks, _chunks), lies=st.booleans()
    )
    def begin(self, policies: tuple[OnDoubt, OnDoubt], chunks: tuple[int, int], *, lies: bool) -> None:
        """Two mails, two workers; the clock of one of them may lie."""
        world = self.world
        for number, chunk in enumerate(chunks):
            world.processes.append(world.start(number, chunk=chunk, lies=lies and number == 0))
        for number, policy in enumerate(policies):
            world.emit(policy, recipients=1 + number)

    @rule(event=EVENTS)
    def then(self, event: Event) -> None:
        self._well = False
        event.happen(self.world)
        self.world.check()
        self._well = True

    def teardown(self) -> None:
        try:
            if self._well:
                self.world.heal()
                self.world.check()
        finally:
            self.world.close()
