"""What a limiter did, held against an exact log: never over a limit at the server, never stricter than it must be.

`play` lets a `Plan` happen in a world with a virtual clock and checks every answer. The log has each permit from its grant
to its finish; the server may have seen it at any time between the two, so the worst of all choices is what counts. Refused
may be only what 120 buckets a window refuse that count each permit from its grant until one window after the bucket of its
finish. Who waits alone is told the time at which it passes, within 20 ms.
"""

import heapq
import math
from dataclasses import dataclass, field
from itertools import count

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Refusal, Report, Request
from mailfleet_workers.limits.rule import Rule, Unit
from tests.conformance.limits.kinds import HOST, LEASE_S, World

ACCOUNT = "default"
RIGHT_TO_MS = 20.0
#: Sums of times may be wrong by this.
_ROUNDING_MS = 0.05


@dataclass(frozen=True)
class Arrival:
    """`asks` questions, one after the other, `after_ms` after the arrival before; each for mails with `recipients`.

    What is granted is finished `answer_ms` after its grant, mail by mail if `singly`; the last `unused` of its mails were
    not sent. `patient`: a refused one waits as long as it is told, if nothing is in flight.
    """

    after_ms: int
    asks: int
    recipients: tuple[int, ...]
    answer_ms: int
    singly: bool = False
    unused: int = 0
    patient: bool = False


@dataclass(frozen=True)
class Plan:
    """What happens: under these rules these arrivals."""

    rules: tuple[Rule, ...]
    arrivals: tuple[Arrival, ...]


@dataclass
class Permit:
    """One mail that was let through; `used` is whether a server may have seen it."""

    granted_ms: float
    recipients: int
    finished_ms: float = math.inf
    used: bool = True

    def amount(self, rule: Rule) -> int:
        """What it counts for *rule*."""
        return 1 if rule.unit is Unit.MESSAGES else self.recipients


@dataclass
class Log:
    """Every permit, in the order of the grants."""

    permits: list[Permit] = field(default_factory=list)

    def worst(self, rule: Rule) -> int:
        """The most that any window of *rule* may have held at the server."""
        seen = [permit for permit in self.permits if permit.used]
        ends = {permit.granted_ms for permit in seen}
        return max((self._ending(rule, seen, end_ms) for end_ms in ends), default=0)

    @staticmethod
    def _ending(rule: Rule, seen: list[Permit], end_ms: float) -> int:
        begin_ms = end_ms - rule.rate.window_ms + _ROUNDING_MS
        return sum(
            one.amount(rule) for one in seen if one.granted_ms <= end_ms and one.finished_ms > begin_ms
        )

    def counted(self, rule: Rule, now_ms: float) -> int:
        """What a sound limiter with 120 buckets counts."""
        width_ms = rule.rate.window_ms / 120

        def counts(permit: Permit) -> bool:
            if math.isinf(permit.finished_ms):
                return True
            bucket = math.floor((permit.finished_ms + _ROUNDING_MS) / width_ms)
            return permit.used and now_ms < (bucket + 1) * width_ms + rule.rate.window_ms + _ROUNDING_MS

        return sum(permit.amount(rule) for permit in self.permits if counts(permit))

    @property
    def in_flight(self) -> bool:
        """Whether anything is not finished."""
        return any(math.isinf(permit.finished_ms) for permit in self.permits)


class Play:
    """One plan in one world. Raises AssertionError where the limiter is wrong."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.log = Log()
        self.granted = self.refused = self.waited = 0
        self._plan, self._world = plan, world
        self._numbers = count()
        self._renew_ms = 0.0
        self._due: list[tuple[float, int, list[Permit], Report]] = []

    def run(self) -> None:
        """Let everything happen."""
        at_ms = self._now_ms()
        for arrival in self._plan.arrivals:
            at_ms = max(at_ms + arrival.after_ms, self._now_ms())
            self._pass_until(at_ms)
            for _ in range(arrival.asks):
                self._ask(arrival)
        self._pass_until(math.inf)
        for rule in self._plan.rules:
            worst = self.log.worst(rule)
            assert worst <= rule.rate.limit, f"{worst} within {rule}"

    def _ask(self, arrival: Arrival) -> None:
        answer = self._question(arrival.recipients)
        if isinstance(answer, Grant):
            self._granted(arrival, answer)
            return
        self._check_refusal(arrival.recipients[:1], answer)
        if not arrival.patient or self.log.in_flight or math.isinf(answer.wait_s):
            return
        self.waited += 1
        early_s = max(0.0, answer.wait_s - RIGHT_TO_MS / 1000)
        self._world.pass_s(early_s)
        early = self._question(arrival.recipients)
        assert isinstance(early, Refusal), f"told {answer.wait_s} s, passed after {early_s} s"
        self._world.pass_s(answer.wait_s - early_s)
        again = self._question(arrival.recipients)
        assert isinstance(again, Grant), f"told {answer.wait_s} s, then {again}"
        self._granted(arrival, again)

    def _question(self, recipients: tuple[int, ...]) -> Grant | Refusal:
        token = f"t{next(self._numbers)}"
        return self._world.limiter.ask(Request(token, "billing", ACCOUNT, HOST, Priority.NORMAL, recipients))

    def _granted(self, arrival: Arrival, grant: Grant) -> None:
        self.granted += grant.permits
        if grant.permits < len(arrival.recipients):
            self._check_refusal(arrival.recipients[: grant.permits + 1], grant)
        now_ms = self._now_ms()
        permits = [Permit(now_ms, recipients) for recipients in arrival.recipients[: grant.permits]]
        self.log.permits += permits
        sent = permits[: max(0, grant.permits - arrival.unused)]
        back = permits[len(sent) :]
        for permit in back:
            permit.used = False
        steps = [[permit] for permit in sent] if arrival.singly and sent else [sent]
        finished = 0
        for turn, step in enumerate(steps, start=1):
            finished += len(step)
            rest, unused = (permits[finished:], []) if turn < len(steps) else ([], back)
            report = Report(grant.token, len(rest), _recipients(rest), len(unused), _recipients(unused))
            due_ms = now_ms + turn * arrival.answer_ms
            heapq.heappush(self._due, (due_ms, next(self._numbers), [*step, *unused], report))
        self._pass_until(now_ms)

    def _check_refusal(self, recipients: tuple[int, ...], answer: Grant | Refusal) -> None:
        """That mails with *recipients* do not all fit."""
        self.refused += 1
        now_ms = self._now_ms()
        amounts = {Unit.MESSAGES: len(recipients), Unit.RECIPIENTS: sum(recipients)}
        assert any(
            self.log.counted(rule, now_ms) + amounts[rule.unit] > rule.rate.limit for rule in self._plan.rules
        ), f"{answer} at {now_ms} ms, though {recipients} would fit"

    def _pass_until(self, at_ms: float) -> None:
        """Let time pass until *at_ms*, and everything finish that is due before it."""
        while self._due and self._due[0][0] <= at_ms:
            self._pass_to(self._due[0][0])
            _, _, permits, report = heapq.heappop(self._due)
            now_ms = self._now_ms()
            for permit in permits:
                permit.finished_ms = now_ms
            self._world.limiter.report([report])
        if not math.isinf(at_ms):
            self._pass_to(at_ms)

    def _pass_to(self, at_ms: float) -> None:
        # What is in flight is renewed in time, as a worker does.
        while self._due and at_ms > self._renew_ms:
            self._world.pass_s(max(0.0, self._renew_ms - self._now_ms()) / 1000)
            self._world.limiter.renew()
            self._renew_ms = self._now_ms() + LEASE_S * 300
        self._world.pass_s(max(0.0, at_ms - self._now_ms()) / 1000)

    def _now_ms(self) -> float:
        return self._world.now_s() * 1000


def _recipients(permits: list[Permit]) -> int:
    return sum(permit.recipients for permit in permits)
