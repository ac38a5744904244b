"""One mail transaction: MAIL, RCPT, DATA, the body, the dot, and the reply to it.

The promise: the final dot leaves at most once, only after `before_dot` agreed, and only while nothing was heard that
speaks against it; the Answer says whether it may have left. What the replies mean for a mail is decided elsewhere.
"""

from collections.abc import Callable

from mailfleet.failpoints import failpoint
from mailfleet_workers.account import Timeouts
from mailfleet_workers.smtp.base import Answer, Envelope, Phase, Reply
from mailfleet_workers.smtp.commands import Commands
from mailfleet_workers.smtp.stuffing import stuffed
from mailfleet_workers.smtp.wire import Wire, WireError
from mailfleet_workers.telemetry.stopwatch import Stopwatch

#: Commands sent at once where PIPELINING is offered. Their replies must fit into the socket's buffers, or both sides
#: would wait for each other (RFC 2920 3.1).
GROUP = 50


class Transaction:
    """*envelope* over *wire*, once. *clock* is monotonic, in seconds; *watch* is told how long each part takes."""

    def __init__(
        self,
        wire: Wire,
        envelope: Envelope,
        timeouts: Timeouts,
        clock: Callable[[], float],
        watch: Stopwatch | None = None,
    ) -> None:
        self._wire = wire
        self._envelope = envelope
        self._timeouts = timeouts
        self._clock = clock
        self._watch = watch or Stopwatch(clock)
        self._started = clock()
        self._phase = Phase.MAIL
        self._dot_sent = False
        self._recipients: dict[str, Reply] = {}
        self._commands = Commands(envelope, wire)

    def run(self, before_dot: Callable[[], bool]) -> Answer:
        """The Answer; an exception only from `before_dot`, a failpoint or a bug, and then the dot may not leave."""
        if refusal := self._commands.objection():
            return self._answer(None, refusal, refused_locally=True, reusable=not self._wire.broken)
        try:
            return self._address() or self._data() or self._body() or self._finish(before_dot)
        except WireError as error:
            said = error.partial
            # A reply that broke off still has its code; only after the dot can it be good news.
            if said is not None and (said.code >= 400 or (self._dot_sent and said.code < 300)):
                return self._answer(said)
            return self._answer(None, str(error))

    def _address(self) -> Answer | None:
        """MAIL and every RCPT; an Answer when the transaction ends here, None when somebody was accepted.

        DATA is never sent along: with no recipient accepted a server may still say 354, and then only a lone dot
        gets out of it (RFC 2920 3.1).
        """
        if ended := self._beforehand():
            return ended
        self._watch.begin("mail")
        self._wire.command_encoding = "utf-8" if self._commands.utf8 else "ascii"
        self._wire.patience = self._timeouts.command
        commands = list(self._commands)
        size = GROUP if self._wire.has_extn("pipelining") else 1
        for start in range(0, len(commands), size):
            group = commands[start : start + size]
            self._wire.send("".join(line for _, line in group))
            for sent, (address, _) in enumerate(group, 1):
                if ended := self._judge(address, behind=len(group) - sent):
                    return ended
        if not any(reply.code < 300 for reply in self._recipients.values()):
            return self._refused(self._recipients[self._commands.recipients[-1]])
        return None

    def _judge(self, address: str | None, *, behind: int) -> Answer | None:
        """Read the reply to one command; *behind* are the commands of its group that are still unanswered."""
        try:
            reply = self._wire.reply()
        except WireError as error:
            if address is not None and error.partial is not None and error.partial.code >= 400:
                # Said of this recipient only; of the others we heard nothing more.
                self._recipients[address] = error.partial
                raise WireError(str(error)) from None
            raise
        if reply.code == 421:
            return self._answer(reply)
        if 300 <= reply.code < 400:
            return self._answer(None, f"unexpected reply {reply.code}")
        if address is not None:
            self._recipients[address] = reply
        elif reply.code >= 400:
            return self._refused(reply, behind=behind)
        else:
            failpoint("after_mail")
            self._phase = Phase.RCPT
            self._watch.begin("rcpt")
        return None

    def _data(self) -> Answer | None:
        self._phase = Phase.DATA
        self._watch.begin("data")
        if ended := self._unasked():
            return ended
        self._wire.patience = self._timeouts.data
        self._wire.putcmd("DATA")
        reply = self._wire.reply()
        if reply.code >= 400:
            return self._refused(reply)
        return None if reply.code == 354 else self._answer(None, f"unexpected reply {reply.code} to DATA")

    def _body(self) -> Answer | None:
        self._watch.begin("body")
        # Each block has a timeout of its own, and a look for an early refusal behind it.
        for block in stuffed(self._envelope.message):
            self._wire.patience = self._timeouts.block
            self._wire.send(block)
            # Some servers refuse a large mail while it is still coming in.
            if ended := self._unasked():
                return ended
        failpoint("after_body")
        return None

    def _finish(self, before_dot: Callable[[], bool]) -> Answer:
        self._watch.end()
        if not before_dot():
            return self._answer(None, "withheld", withheld=True)
        # `before_dot` may have taken long: a connection that ended meanwhile is no doubt, it is a certain "no".
        if ended := self._unasked():
            return ended
        self._phase = Phase.EOD
        self._watch.begin("eod")
        self._dot_sent = True
        self._wire.patience = self._timeouts.dot
        self._wire.send(b".\r\n")
        failpoint("after_dot")
        reply = self._wire.reply()
        if reply.code >= 400:
            return self._refused(reply)
        if reply.code >= 300:
            return self._answer(None, f"unexpected reply {reply.code} to the final dot")
        self._watch.end()
        return self._answer(reply, reusable=self._quiet())

    def _beforehand(self) -> Answer | None:
        """As `_unasked`, before a word of this mail was said: but for 421 no reply is told, since none is about this mail."""
        try:
            ended = self._unasked()
        except WireError as error:
            raise WireError(str(error)) from None
        if ended is None or ended.reply is None or ended.reply.code == 421:
            return ended
        return self._answer(None, f"unexpected reply {ended.reply.code}")

    def _unasked(self) -> Answer | None:
        """The end of the transaction if the server spoke when it was not its turn, None if it kept quiet."""
        if not self._wire.heard():
            return None
        self._wire.patience = self._timeouts.command
        reply = self._wire.reply()
        if reply.code >= 400:
            return self._answer(reply)
        return self._answer(None, f"unexpected reply {reply.code}")

    def _refused(self, reply: Reply, *, behind: int = 0) -> Answer:
        """The Answer for a refusal that leaves the conversation in order, once RSET has proved it."""
        self._watch.end()
        reusable = reply.code != 421
        self._wire.patience = self._timeouts.quit
        try:
            for _ in range(behind):
                reusable = reusable and self._wire.reply().code != 421
            reusable = reusable and self._wire.rset()[0] == 250 and self._quiet()
        except WireError:
            reusable = False
        return self._answer(reply, reusable=reusable)

    def _quiet(self) -> bool:
        try:
            return not self._wire.heard()
        except WireError:
            return False

    def _answer(
        self,
        reply: Reply | None,
        error: str | None = None,
        *,
        reusable: bool = False,
        withheld: bool = False,
        refused_locally: bool = False,
    ) -> Answer:
        self._watch.end()
        return Answer(
            phase=self._phase,
            reply=reply,
            error=error,
            dot_sent=self._dot_sent,
            withheld=withheld,
            recipients=dict(self._recipients),
            reusable=reusable,
            seconds=self._clock() - self._started,
            refused_locally=refused_locally,
            kept_back=self._commands.kept_back,
        )
