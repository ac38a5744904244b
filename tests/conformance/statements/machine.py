"""Random statements by two workers, a reconciler and an operator on a handful of rows, held against the listed arrows.

For each statement a rule says in Python which rows it must change. After it, all rows are compared with all rows before:
exactly those changed, each along a listed arrow, no fence went back, and no sum shrank.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine, delete

from mailfleet_schema.statements import claim, operate, reconcile, settle
from mailfleet_schema.statements.claim import Return
from mailfleet_schema.statements.operate import OPERATIONS, Operation
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import OnDoubt, Phase, Place, State, is_legal
from tests.conformance.statements.bench import (
    APP,
    DAY_S,
    GRACE_S,
    HOUR_S,
    OTHER_WORKER,
    PATIENCE,
    WORKER,
    Bench,
    Row,
)

MOST_ROWS = 5
GROWING = ("sum_send", "sum_fail", "sum_done", "waits", "doubts", "max_done", "created_at")

# A forced copy is one more than were sent, also where fewer were sent than wanted.
SHRINKING = {operate.RETRY: frozenset({"sum_fail"}), operate.FORCE: frozenset({"max_done"})}

indexes = st.integers(0, MOST_ROWS - 1)
#: How far a fence is off from the row's own: mostly it is right.
offs = st.sampled_from([0, 0, 0, 0, -1, 1])
workers = st.sampled_from([WORKER, OTHER_WORKER])
counts = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    """Every rule but `insert` and `pass_time` runs one statement in one transaction."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.bench = Bench(engine)
        self.seen: dict[int, Row] = {}

    # What may happen in the world.

    @initialize()
    def wipe(self) -> None:
        with self.bench.engine.begin() as connection:
            connection.execute(delete(self.bench.tables.mail_content))
            connection.execute(delete(self.bench.tables.mail))
        self.seen = {}
        self.insert(State.QUEUED, OnDoubt.RESEND_ONCE, 1, expires=False)
        self.insert(State.QUEUED, OnDoubt.RESEND, 2, expires=True)

    @rule(
        state=st.sampled_from([State.QUEUED, State.QUEUED, State.DRAFT]),
        on_doubt=st.sampled_from(OnDoubt),
        max_done=st.integers(1, 2),
        expires=st.booleans(),
    )
    def insert(self, state: State, on_doubt: OnDoubt, max_done: int, *, expires: bool) -> None:
        if len(self.seen) == MOST_ROWS:
            return
        expires_at = datetime.now(UTC) + timedelta(seconds=HOUR_S) if expires else None
        mail_id = self.bench.new(state=state, on_doubt=on_doubt, max_done=max_done, expires_at=expires_at)
        after = self.bench.rows()
        assert is_legal(None, after[mail_id].place)
        assert {one: row for one, row in after.items() if one != mail_id} == self.seen
        self.seen = after

    @rule(index=indexes, hours=st.sampled_from([-2, -30, -150, 2]))
    def pass_time(self, index: int, hours: int) -> None:
        for mail_id in self._ids(index):
            self.bench.shift(mail_id, hours * HOUR_S, "due_at", "look_at", "expires_at", "wanted_at")
        self.seen = self.bench.rows()

    # Workers.

    @rule(chosen=st.sets(indexes, min_size=1), worker_id=workers, room=st.integers(1, MOST_ROWS))
    def claim(self, chosen: AbstractSet[int], worker_id: int, room: int) -> None:
        ids = self._ids(*chosen)
        claimable = {one for one in ids if self._claimable(self.seen[one])}
        first = sorted(claimable, key=lambda one: (self.seen[one].due_at, one))[:room]
        self._run(
            lambda: {row.id for row in self.bench.claim(ids, worker_id=worker_id, room=room)},
            must=set(first),
            fences=1,
        )
        assert all(self.seen[one].worker_id == worker_id for one in first)

    @rule(index=indexes, off=offs)
    def record(self, index: int, off: int) -> None:
        pairs = self._pairs(index, off)

        def run() -> set[int]:
            with self.bench.engine.begin() as connection:
                recorded = settle.record(connection, pairs)
            return {*recorded.dot, *recorded.expired}

        self._run(run, must=self._mine(pairs, Phase.PREPARE))

    @rule(
        index=indexes,
        off=offs,
        phase=st.sampled_from([None, None, None, *Phase]),
        state=st.sampled_from([State.SENT, State.QUEUED, State.DOUBT, State.FAILED, *State]),
        done=counts,
        fail=counts,
        due_in_s=st.sampled_from([None, 0.0, HOUR_S]),
    )
    def settle(
        self,
        index: int,
        off: int,
        phase: Phase | None,
        state: State,
        done: int,
        fail: int,
        due_in_s: float | None,
    ) -> None:
        pairs = self._pairs(index, off)
        # None: the phase in which the row is, if it is in one.
        phase = phase or next((Phase(self.seen[i].phase) for i, _ in pairs if self.seen[i].phase), Phase.DOT)
        rows = [
            Settlement(i, f, phase, state, sends=1, dones=done, fails=fail, due_in_s=due_in_s)
            for i, f in pairs
        ]

        def run() -> set[int]:
            with self.bench.engine.begin() as connection:
                try:
                    return settle.settle(connection, rows, grace_s=GRACE_S)
                except ValueError:
                    assert not is_legal(Place(State.SENDING, phase), Place(state))
                    return set()

        legal = is_legal(Place(State.SENDING, phase), Place(state))
        self._run(run, must=self._mine(pairs, phase) if legal else set())

    @rule(index=indexes, off=offs, state=st.sampled_from([State.SENT, State.QUEUED]))
    def accept_late(self, index: int, off: int, state: State) -> None:
        pairs = self._pairs(index, off)
        rows = [Settlement(i, f, Phase.DOT, state, sends=1, dones=1) for i, f in pairs]
        must = {i for i, f in pairs if self.seen[i].fence == f and _open_to_late(self.seen[i])}

        def run() -> set[int]:
            with self.bench.engine.begin() as connection:
                return settle.accept_late(connection, rows, grace_s=GRACE_S)

        self._run(run, must=must, may_stay=True)
        self._run(run, must=set())  # a second time it counts nothing

    @rule(index=indexes, off=offs, begun=st.booleans(), due_in_s=st.sampled_from([None, 0.0, HOUR_S]))
    def give_back(self, index: int, off: int, *, begun: bool, due_in_s: float | None) -> None:
        pairs = self._pairs(index, off)
        rows = [Return(i, f, begun=begun, due_in_s=due_in_s) for i, f in pairs]

        def run() -> set[int]:
            with self.bench.engine.begin() as connection:
                return claim.give_back(connection, rows, grace_s=GRACE_S)

        self._run(run, must={i for i, f in pairs if self.seen[i].fence == f and self.seen[i].phase})

    @rule(index=indexes, worker_id=workers)
    def hold_poison(self, index: int, worker_id: int) -> None:
        ids = self._ids(index)

        def run() -> set[int]:
            with self.bench.engine.begin() as connection:
                return claim.hold_poison(connection, ids, worker_id=worker_id)

        poison = {i for i in ids if self.seen[i].phase == "prepare" and self.seen[i].interruptions >= 3}
        self._run(run, must={i for i in poison if self.seen[i].worker_id == worker_id})

    # The reconciler.

    @rule(worker_id=workers)
    def take_back(self, worker_id: int) -> None:
        def run() -> set[int]:
            taken = self.bench.take_back(worker_id)
            return {*taken.queued, *taken.doubt}

        must = {i for i, row in self.seen.items() if row.phase and row.worker_id == worker_id}
        self._run(run, must=must)

    @rule()
    def settle_doubts(self) -> None:
        def run() -> set[int]:
            settled = self.bench.settle_doubts()
            return {*settled.queued, *settled.held}

        now = datetime.now(UTC)
        must = {i for i, row in self.seen.items() if row.state == "doubt" and row.look_at <= now}
        self._run(run, must=must)

    @rule()
    def expire(self) -> None:
        must = {i for i, row in self._looked_at().items() if _should_expire(row)}
        self._run(self.bench.expire, must=must)

    @rule()
    def look(self) -> None:
        must = {i for i, row in self._looked_at().items() if not _should_expire(row)}
        self._run(lambda: {row.mail_id for row in self.bench.look()}, must=must, only={"look_at", "looks"})

    @rule()
    def look_now(self) -> None:
        now = datetime.now(UTC)
        must = {
            i for i, r in self.seen.items() if r.state == "queued" and r.due_at <= now and r.look_at > now
        }

        def run() -> set[int]:
            with self.bench.engine.begin() as connection:
                assert reconcile.look_now(connection, [APP], beyond_s=0.0, most=1000) == len(must)
            return must

        self._run(run, must=must, only={"look_at", "looks"})

    # People.

    @rule(operation=st.sampled_from(OPERATIONS), chosen=st.sets(indexes, min_size=1))
    def operate(self, operation: Operation, chosen: AbstractSet[int]) -> None:
        ids = self._ids(*chosen)
        must = {i for i in ids if _operable(operation, self.seen[i])}
        self._run(
            lambda: self.bench.operate(operation, *ids),
            must=must,
            fences=1,
            shrinks=SHRINKING.get(operation, frozenset()),
        )

    @rule(index=indexes, worker_id=workers, good=st.booleans())
    def advance(self, index: int, worker_id: int, *, good: bool) -> None:
        """What would happen next in a working fleet: chance alone seldom gets a row into doubt twice."""
        for mail_id in self._ids(index):
            state, phase = self.seen[mail_id].state, self.seen[mail_id].phase
            if state == "queued":
                self.claim({index}, worker_id, 1)
            elif phase == "prepare":
                self.record(index, 0)
            elif phase == "dot":
                end = State.SENT if good else State.DOUBT
                self.settle(index, 0, None, end, int(good), 0, None)
            elif state == "doubt" and not good:
                self.settle_doubts()
            elif state in {"doubt", "held"}:
                self.accept_late(index, 0, State.SENT)
            else:
                move = {"draft": operate.QUEUE, "sent": operate.FORCE}.get(state, operate.RETRY)
                self.operate(move, {index})

    # What must hold after every statement.

    def _run(
        self,
        statement: Callable[[], AbstractSet[int]],
        *,
        must: AbstractSet[int],
        fences: int = 0,
        only: AbstractSet[str] = frozenset(),
        shrinks: AbstractSet[str] = frozenset(),
        may_stay: bool = False,
    ) -> None:
        """Run *statement*; it must say and change exactly the rows *must*.

        Their fences grow by *fences*. *only*: they stay where they are and just these columns change. *may_stay*: a
        row may stay in its place.
        """
        before = self.seen
        assert statement() == must
        after = self.bench.rows()
        assert after.keys() == before.keys(), "a row vanished"
        for mail_id, row in after.items():
            was = before[mail_id]
            if mail_id not in must:
                assert row == was
                continue
            assert row.fence == was.fence + fences
            if only:
                assert row.place == was.place
                assert row.changed_from(was).keys() <= only
            elif not (may_stay and row.place == was.place):
                assert is_legal(was.place, row.place), f"{was.place} became {row.place}"
            for name in set(GROWING) - shrinks:
                assert row.columns[name] >= was.columns[name], f"{name} shrank"
        self.seen = after

    @invariant()
    def phases_are_in_sending_only(self) -> None:
        for row in self.seen.values():
            assert (row.state == "sending") == (row.phase is not None)
            assert row.state not in {"sending", "doubt"} or row.worker_id is not None

    def _ids(self, *chosen: int) -> list[int]:
        ids = sorted(self.seen)
        return sorted({ids[index % len(ids)] for index in chosen}) if ids else []

    def _pairs(self, index: int, off: int) -> list[tuple[int, int]]:
        return [(mail_id, self.seen[mail_id].fence + off) for mail_id in self._ids(index)]

    def _mine(self, pairs: list[tuple[int, int]], phase: Phase) -> set[int]:
        return {i for i, f in pairs if self.seen[i].fence == f and self.seen[i].phase == phase}

    def _claimable(self, row: Row) -> bool:
        now = datetime.now(UTC)
        return bool(
            row.state == "queued" and row.due_at <= now and not (row.expires_at and row.expires_at <= now)
        )

    def _looked_at(self) -> dict[int, Row]:
        now = datetime.now(UTC)
        return {i: row for i, row in self.seen.items() if row.state == "queued" and row.look_at <= now}


def _should_expire(row: Row) -> bool:
    now = datetime.now(UTC)
    aged = row.wanted_at <= now - timedelta(seconds=PATIENCE.max_age_s)
    return bool(
        (row.expires_at and row.expires_at <= now) or row.due_at < now - timedelta(seconds=DAY_S) or aged
    )


def _open_to_late(row: Row) -> bool:
    waits = row.state in {"held", "queued"} and row.reason == "doubt"
    return bool(row.phase or row.state == "doubt" or waits)


def _operable(operation: Operation, row: Row) -> bool:
    return row.place.state in operation.sources or (operation.from_prepare and row.phase == "prepare")
