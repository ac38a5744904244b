"""A transport that connects to nothing: everything but SMTP happens, and the attempt is marked as a dry run."""

from collections.abc import Callable

from mailfleet_workers.smtp.base import Answer, Connection, Envelope, Phase, Reply, Transport

_ACCEPTED = Reply(250, "2.0.0 dry run: nothing was sent")


class DryRunConnection(Connection):
    def transmit(self, envelope: Envelope, *, before_dot: Callable[[], bool]) -> Answer:
        if not before_dot():
            return Answer(Phase.DATA, None, "withheld", withheld=True, reusable=True)
        return Answer(
            Phase.EOD,
            _ACCEPTED,
            dot_sent=True,
            recipients=dict.fromkeys(envelope.recipients, _ACCEPTED),
            reusable=True,
        )

    def close(self) -> None:
        """Nothing is open."""


class DryRunTransport(Transport):
    def connect(self) -> Connection | Answer:
        return DryRunConnection()
