"""One batch of letters through one account: one after the other, over one connection."""

import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from mailfleet_schema.statements.gate import Gate, reason_of
from mailfleet_workers.account import Account
from mailfleet_workers.classify import Rules, classify
from mailfleet_workers.limits.base import Limiter, Refusal, Request, Slot
from mailfleet_workers.limits.permits import Permits
from mailfleet_workers.limits.right import SlotRight
from mailfleet_workers.notice.brake import Brake
from mailfleet_workers.notice.letter import Letter
from mailfleet_workers.notice.results import Failed, NotYet, Result, Uncertain, judged, reply_of
from mailfleet_workers.smtp.base import Answer, Phase
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.smtp.pooled import PooledConnection
from mailfleet_workers.telemetry.meter import SILENT, Meter
from mailfleet_workers.verdict import Scope, Wait

log = logging.getLogger(__name__)

#: Nobody can open a gate of this process, so it is closed for no longer than this. Seconds.
MOST_GATE_S = 300.0
#: A conversation that ended in one of these has not spoken of its mail.
_UNHEARD = frozenset({Phase.CONNECT, Phase.EHLO, Phase.AUTH})


class Round:
    """For one thread, once. *wait* sleeps so many seconds."""

    def __init__(
        self,
        app: str,
        brake: Brake,
        connections: ConnectionPool,
        rules: Rules,
        *,
        meter: Meter = SILENT,
        wait: Callable[[float], object] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._brake = brake
        self._connections = connections
        self._rules = rules
        self._meter = meter
        self._wait = wait
        self._now = now
        self._connection: PooledConnection | None = None
        #: What account or server asked of the rest of the batch.
        self._closed: Wait | None = None

    def send(self, letters: Sequence[Letter], told: Callable[[int, Result], None]) -> None:
        """Try each of *letters*, which have one account, once; *told* hears its position and what became of it, at once."""
        try:
            with self._brake.kept():
                for position, letter in enumerate(letters):
                    told(position, self._send(letter))
        finally:
            self._drop()

    def _send(self, letter: Letter) -> Result:
        if letter.expires_at is not None and letter.expires_at <= self._now():
            return Failed(letter.message_id, "expires_at")
        if letter.dry_run:
            return self._dry(letter)
        if (closed := self._closed) is not None:
            return NotYet(letter.message_id, closed.reason, closed.seconds, reply_of(closed.reply))
        account, host = letter.way.account, letter.way.host
        left_s = self._brake.max_idle_s(account.name)
        while True:
            granted = self._permit(letter)
            if not isinstance(granted, Refusal):
                return granted
            if math.isinf(granted.wait_s):
                return Failed(letter.message_id, f"more recipients than {granted.rule} lets pass at all")
            self._meter.waited(self._app, account.name, granted.wait_s)
            if granted.wait_s > left_s:
                self._meter.permits(self._app, account.name, host, 1, 0, granted.rule.partition(":")[0])
                return NotYet(letter.message_id, f"limit: {granted.rule}", granted.wait_s)
            # A wait of nothing must not turn into a loop without an end.
            left_s -= max(granted.wait_s, 0.01)
            self._wait(granted.wait_s)

    def _dry(self, letter: Letter) -> Result:
        connection = self._connections.open(letter.way.account, dry=True)
        if isinstance(connection, Answer):  # nothing is opened, so nothing can refuse
            raise TypeError("a dry run was refused")
        answer = connection.transmit(letter.envelope, before_dot=lambda: True)
        self._connections.discard(connection)
        return self._judge(letter, answer)

    def _permit(self, letter: Letter) -> Result | Refusal:
        """Send *letter* if it may be sent now."""
        account, host = letter.way.account, letter.way.host
        domains = sorted({address.rpartition("@")[2].lower() for address in letter.envelope.recipients})
        gate = self._brake.gate(account.name, host, domains)
        if gate is not None:
            return Refusal(reason_of(gate.scope, gate.reason), gate.remaining_s)
        token, recipients = uuid.uuid4().hex, (len(letter.envelope.recipients),)
        slot = None if self._connection is not None else token
        request = Request(token, self._app, account.name, host, letter.priority, recipients, slot=slot)
        granted, limiter = self._brake.ask(request)
        if isinstance(granted, Refusal):
            return granted
        self._meter.permits(self._app, account.name, host, 1, 1)
        permits = Permits(limiter, granted, recipients)
        try:
            if self._connection is None:
                opened = self._open(account, limiter, granted.slot)
                if isinstance(opened, Answer):
                    permits.finished(recipients[0], used=False)
                    return self._judge(letter, opened)
                self._connection = opened
            return self._converse(letter, self._connection, permits, limiter, token)
        finally:
            self._brake.report(limiter, permits.close())

    def _open(self, account: Account, limiter: Limiter, slot: Slot | None) -> PooledConnection | Answer:
        right = None if slot is None else SlotRight(limiter, slot, self._wait)
        try:
            return self._connections.open(account, right)
        except Exception as error:
            # A setting that only shows when it is used.
            log.exception("connect_failed", extra={"account": account.name})
            refused = Answer(Phase.AUTH, None, f"{type(error).__name__}: {error}")
            if right is not None:
                right.opened(refused)
                right.close(orderly=True)
            return refused

    def _converse(
        self, letter: Letter, connection: PooledConnection, permits: Permits, limiter: Limiter, token: str
    ) -> Result:
        may_have_it = False

        def before_dot() -> bool:
            nonlocal may_have_it
            may_have_it = self._brake.may_go_on(limiter, token)
            return may_have_it

        try:
            answer = connection.transmit(letter.envelope, before_dot=before_dot)
        except Exception as error:
            log.exception("notice_lost", extra={"app": self._app, "account": connection.account.name})
            permits.finished(len(letter.envelope.recipients), used=True)
            self._drop()
            name = type(error).__name__
            if may_have_it:
                return Uncertain(letter.message_id, f"{name} after the final dot")
            return NotYet(letter.message_id, f"{name} before the final dot")
        permits.finished(
            len(letter.envelope.recipients),
            used=answer.phase not in _UNHEARD and not answer.refused_locally,
        )
        if not connection.may_stay(answer):
            self._drop()
        if answer.withheld:
            return NotYet(letter.message_id, "its permit lapsed before the final dot", 0.0)
        return self._judge(letter, answer)

    def _judge(self, letter: Letter, answer: Answer) -> Result:
        account, host = letter.way.account, letter.way.host
        if not letter.dry_run:
            self._meter.replied(account.name, host, answer.reply.code if answer.reply else None)
        judgement = classify(
            answer,
            letter.envelope,
            host=host,
            rules=self._rules.under(account.replies),
            now=self._now(),
        )
        for verdict in (judgement.verdict, *(one.verdict for one in judgement.recipients)):
            if isinstance(verdict, Wait) and verdict.scope in {Scope.ACCOUNT, Scope.HOST}:
                self._closed = verdict
                if verdict.reply is not None:
                    # What the server asked for. Of a server that is away nobody knows when it is back.
                    key, wait_s = account.name if verdict.scope is Scope.ACCOUNT else host, verdict.seconds
                    wish = Gate(verdict.scope.value, key, min(wait_s, MOST_GATE_S), 0, verdict.reason)
                    self._brake.close_gate(wish)
        return judged(judgement, letter.message_id, dry_run=letter.dry_run, note=letter.note)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.discard(connection)
