"""Many who ask for the same account at once, each as a worker's thread does: send, report, ask again; refused, wait."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Limiter, Report
from tests.conformance.limits.kinds import World, wish


@dataclass
class Sender:
    """One who asks for `mails` at once from `begins_s` on until `ends_s`, and pauses `pause_s` after those it sent.

    `sent` has the time of each mail, `waited_s` how long each group waited for its permits.
    """

    limiter: Limiter
    app: str = "billing"
    priority: Priority = Priority.NORMAL
    begins_s: float = 0.0
    ends_s: float = 1e9
    pause_s: float = 0.0
    mails: int = 1
    sent: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    def within(self, begin_s: float, end_s: float) -> int:
        """How many mails were sent between two times."""
        return sum(begin_s <= time < end_s for time in self.sent)


def run(world: World, senders: Sequence[Sender], seconds: float, *, answer_s: float = 0.01) -> None:
    """Let *senders* send for *seconds* to a server that answers after *answer_s*."""
    now = 0.0
    asked_since = {index: sender.begins_s for index, sender in enumerate(senders)}
    due = [(sender.begins_s, index, "") for index, sender in enumerate(senders)]
    heapq.heapify(due)
    while due and due[0][0] < seconds:
        time, index, token = heapq.heappop(due)
        world.pass_s(max(0.0, time - now))
        now = max(now, time)
        sender = senders[index]
        reports = [Report(token, 0)] if token else []
        if sender.pause_s and token:
            sender.limiter.report(reports)
            asked_since[index] = now + sender.pause_s
            heapq.heappush(due, (now + sender.pause_s, index, ""))
            continue
        if now >= sender.ends_s:
            sender.limiter.report(reports)
            continue
        if token:
            asked_since[index] = now
        token = f"{index}-{now:.6f}"
        question = wish(token, sender.mails, app=sender.app, priority=sender.priority)
        answer = sender.limiter.ask(question, reports)
        if isinstance(answer, Grant):
            sender.sent += [now] * answer.permits
            sender.waited_s.append(now - asked_since[index])
            heapq.heappush(due, (now + answer.permits * answer_s, index, token))
        else:
            heapq.heappush(due, (now + answer.wait_s, index, ""))
